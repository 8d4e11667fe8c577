"""The contents of each extra, and a command's message without it, on a simulated plain installation."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from groundglass.errors import EXTRAS
from groundglass.phantom import write_phantom_set
from groundglass.phantom.volumes import write_phantom_volumes

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {
    "dicomweb_client": "dicomweb-client",
    "faiss": "faiss-cpu",
    "prometheus_client": "prometheus-client",
    "psycopg": "psycopg[binary]",
    "python_multipart": "python-multipart",
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "sklearn": "scikit-learn",
}
"""Modules whose name differs from their distribution's."""
WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None  # importing it raises ModuleNotFoundError, as if it were not installed
from groundglass.cli.app import main
main()
"""


def groundglass(*arguments: object, without: tuple[str, ...], code: int) -> subprocess.CompletedProcess[str]:
    missing = [name for extra in without for name in EXTRAS[extra]]
    command = [sys.executable, "-c", WITHOUT.format(missing=missing), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_names_what_the_extra_installs(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"][extra]
    names = {requirement.partition(">")[0] for requirement in wanted if "groundglass[" not in requirement}
    assert names == {DISTRIBUTIONS.get(module, module) for module in EXTRAS[extra]}


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("evaluate predictions.csv", "evaluate"),
        ("audit --data folder", "evaluate"),
        ("calibrate predictions.csv", "evaluate"),
        ("aggregate --data folder", "evaluate"),
        ("compare one.csv other.csv --data folder", "evaluate"),
        ("data import folder -o manifest.csv", "evaluate"),
        ("data phantom -o phantoms", "evaluate"),
        ("demo", "evaluate"),
        ("predict slice.png --pdf -o out", "pdf"),
        ("predict slice.png --workers 2", "scale"),
        ("predict slice.png --cluster auto", "scale"),
        ("train recipe.yaml", "train"),
        ("evaluate --leave-one-source-out recipe.yaml", "train"),
    ],
)
def test_a_plain_install_names_the_extra_that_a_command_needs(
    command: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = groundglass(*command.split(), without=("evaluate", "train", "pdf", "scale"), code=1)
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"which is not installed: pip install 'groundglass[{extra}]'")
    assert not list(tmp_path.iterdir())


def test_training_names_a_library_that_only_its_end_needs_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(EXTRAS, "export", ("skl2onnx",))
    done = groundglass("train", ROOT / "recipes" / "keras-cnn.yaml", without=("export",), code=1)
    assert "this needs skl2onnx, which is not installed: pip install 'groundglass[train]'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_detection_needs_no_extra(tmp_path: Path) -> None:
    pictures = write_phantom_set(tmp_path / "pictures", count=1, disease="covid", shape=(4, 256, 256))
    write_phantom_volumes(tmp_path / "dicom", count=1, disease="covid", syntax="jpeg-lossless")
    write_phantom_volumes(tmp_path / "nifti", count=1, disease="covid", form="nifti")
    inputs = [row["path"] for row in pictures[1:3]] + [tmp_path / "dicom", tmp_path / "nifti"]
    done = groundglass(
        "predict", *inputs, "-o", tmp_path / "out", "--json", without=("evaluate", "train"), code=0
    )
    found = json.loads(done.stdout)
    assert len(found["slices"]) == 2
    assert (tmp_path / "out" / "report.html").is_file()
    written = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {".dcm", ".gz", ".csv", ".html", ".json", ".png"} <= written


@pytest.mark.parametrize(
    "command",
    ["data list", "scan pictures/slices", "segment pictures/slices -o out", "sheet pictures/slices -o sheet"],
)
def test_these_commands_need_no_extra(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_phantom_set(tmp_path / "pictures", count=1, disease="covid", shape=(4, 256, 256))
    groundglass(*command.split(), without=("evaluate", "train"), code=0)
