import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

REAL_MIRROR = os.environ.get("GROUNDGLASS_MIRROR", "")


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROUNDGLASS_DATA", str(tmp_path / "data-folder"))
    monkeypatch.delenv("GROUNDGLASS_MIRROR", raising=False)


@pytest.fixture
def real_mirror(monkeypatch: pytest.MonkeyPatch) -> Path:
    if not REAL_MIRROR or not Path(REAL_MIRROR).is_dir():
        pytest.skip("GROUNDGLASS_MIRROR names no folder of real datasets")
    monkeypatch.setenv("GROUNDGLASS_MIRROR", REAL_MIRROR)
    return Path(REAL_MIRROR).absolute()


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Write small pictures, each of another grey, at paths below tmp_path/scans; return that folder."""

    def write(*names: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / "scans" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), number % 256).save(path)
        return tmp_path / "scans"

    return write
