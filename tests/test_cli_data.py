import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from groundglass.cli.data import app
from groundglass.cli.output import listen
from groundglass.data.manifest import read_manifest
from groundglass.data.registry import DATASETS


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GROUNDGLASS_DATA", str(tmp_path / "data-folder"))
    monkeypatch.delenv("GROUNDGLASS_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _terminal() -> Iterator[None]:
    """Print warnings as the program does."""
    handler = listen()
    yield
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    for label in ("CT_COVID", "CT_NonCOVID"):
        for number in range(12):
            path = tmp_path / "scans" / label / f"p{number // 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), number).save(path)
    return tmp_path / "scans"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_shows_every_dataset_and_where_it_is() -> None:
    result = run("list")
    assert result.exit_code == 0
    for name in DATASETS:
        assert name in result.stdout
    assert result.stdout.count("not here") == len(DATASETS) == 9
    rows = json.loads(run("list", "--json").stdout)
    assert rows[0]["classes"] == {"covid": 349, "not covid": 397}
    assert {row["where"] for row in rows} == {"not here"}


def test_info_shows_problems_and_how_to_get_it() -> None:
    result = run("info", "sarscov2-ct")
    assert result.exit_code == 0
    assert "CC BY-NC-SA 4.0" in result.stdout
    assert "Exact duplicates: Covid (128) and (129)" in result.stdout
    assert "Log in to Kaggle" in result.stdout
    facts = json.loads(run("info", "sarscov2-ct", "--json").stdout)
    assert facts["default_split"] == "blocks"
    assert facts["parts"] == []
    assert any("data-folder/sarscov2-ct" in step for step in facts["steps"])


def test_a_set_behind_a_login_fails_with_the_steps() -> None:
    result = run("get", "sarscov2-ct")
    assert result.exit_code == 1
    assert "kaggle datasets download" in str(result.exception)


def test_get_info_and_list_know_what_was_put_by_hand(tmp_path: Path, scans: Path) -> None:
    scans.rename(tmp_path / "ccap")
    (tmp_path / "data-folder").mkdir()
    (tmp_path / "ccap").rename(tmp_path / "data-folder/ccap")
    result = run("get", "ccap")
    assert result.exit_code == 0
    assert len(read_manifest(tmp_path / "data-folder/ccap/manifest.csv")) == 24
    assert json.loads(run("info", "ccap", "--json").stdout)["parts"] == [
        {"split": "", "label": "covid", "slices": 12, "patients": 0},
        {"split": "", "label": "not covid", "slices": 12, "patients": 0},
    ]
    assert {row["name"]: row["where"] for row in json.loads(run("list", "--json").stdout)}[
        "ccap"
    ] == "downloaded"


def test_import_then_split(tmp_path: Path, scans: Path) -> None:
    result = run("import", scans, "-o", tmp_path / "m.csv", "--source", "here", "--patients-from-folders")
    assert result.exit_code == 0
    assert "treated as one patient" in result.stderr
    assert "pseudonyms" in result.stderr
    assert "treated as one patient" not in result.stdout
    assert set(read_manifest(tmp_path / "m.csv")["source"]) == {"here"}

    result = run("split", tmp_path / "m.csv", "-o", tmp_path / "s.csv", "--fractions", "0.5", "0.25", "0.25")
    assert result.exit_code == 0
    assert "grouped split" in result.stdout
    assert result.stderr == ""
    frame = read_manifest(tmp_path / "s.csv")
    assert frame.groupby("patient")["split"].nunique().max() == 1
    assert set(frame["split"]) == {"train", "val", "test"}

    result = run(
        "split", tmp_path / "s.csv", "--split", "official", "--folds", "2", "--fold", "1", "-o", "f.csv"
    )
    assert result.exit_code == 0
    again = read_manifest(tmp_path / "f.csv")
    assert ((again["split"] == "test") == (frame["split"] == "test")).all()


def test_a_random_split_warns_on_standard_error(scans: Path) -> None:
    result = run("split", scans, "--split", "random", "-o", "random.csv")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: a random split")
    assert "warning" not in result.stdout


def test_mistakes_end_with_a_message(scans: Path) -> None:
    assert run("import", scans, "-o", "m.csv").exit_code == 0
    overwriting = run("import", "m.csv", "-o", "m.csv")
    assert overwriting.exit_code == 1
    assert "would overwrite" in str(overwriting.exception)
    assert "--fold needs --folds" in str(run("split", "m.csv", "--fold", "1", "-o", "x.csv").exception)
    assert run("split", "m.csv", "--split", "byhand", "-o", "x.csv").exit_code == 2


def test_phantoms_come_with_a_manifest(tmp_path: Path) -> None:
    pytest.importorskip("groundglass.phantom")
    result = run(
        "phantom", "-o", "phantoms", "--count", "2", "--disease", "mixed", "--seed", "1", "--slices", "2"
    )
    assert result.exit_code == 0, result.exception
    frame = read_manifest(tmp_path / "phantoms/manifest.csv")
    assert len(frame) == 4
    assert frame["patient"].nunique() == 2
    assert "not to measure accuracy" in " ".join(run("phantom", "--help").stdout.split())


@pytest.mark.parametrize("command", ["list", "info", "get", "import", "split", "phantom"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"groundglass data {command}" in result.stdout
