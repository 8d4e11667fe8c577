import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from groundglass.cli.app import app, main
from groundglass.data.manifest import read_manifest
from groundglass.phantom import write_phantom_set

EACH = 8
FAST = ("--no-lungs", "--ignore", "GG109", "--ignore", "GG110", "--ignore", "GG111", "--ignore", "GG115")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Slices of phantoms."""
    folder = tmp_path_factory.mktemp("phantoms")
    rows = write_phantom_set(folder, count=EACH, disease="mixed", seed=5, shape=(6, 96, 96))
    return pd.DataFrame(rows)[["path", "label", "patient", "split", "source"]]


@pytest.fixture
def spoilt(phantoms: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest with a copy under the other label, a copy in the other part, and a file that is not a picture."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    frame = phantoms.copy()
    patients = sorted(frame["patient"].unique())
    frame["split"] = ["train" if patients.index(one) % 2 else "test" for one in frame["patient"]]
    covid = frame[(frame["label"] == "covid") & (frame["split"] == "train")].iloc[0]
    other = frame[(frame["label"] != "covid") & (frame["split"] == "train")].iloc[0]
    added = []
    for row, name, change in (
        (covid, "opposite.png", {"label": "not covid", "patient": "somebody"}),
        (other, "again.png", {"split": "test", "patient": "somebody else"}),
    ):
        Path(name).write_bytes(Path(row["path"]).read_bytes())
        added.append({**row, "path": str(Path(name).absolute()), **change})
    Path("bad.png").write_bytes(b"no picture")
    added.append({**other, "path": str(Path("bad.png").absolute())})
    pd.concat([frame, pd.DataFrame(added)]).to_csv("spoilt.csv", index=False)
    return tmp_path / "spoilt.csv"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_problems_of_a_dataset_are_in_table_json_page_and_exit_code(spoilt: Path) -> None:
    done = run("audit", "--data", spoilt, *FAST, "-o", "out", "--json", "findings.json", "--fail-on", "error")
    assert done.exit_code == 4, (done.exception, done.stdout)
    assert "GG103" in done.stdout
    assert "Report: out/report.html" in done.stdout
    findings = json.loads(Path("findings.json").read_text())
    by_code = {finding["code"]: finding for finding in findings}
    for key in ("code", "title", "severity", "figure", "files", "message"):
        assert all(key in finding for finding in findings)
    assert by_code["GG103"]["severity"] == "error"
    assert any(Path(file).name == "opposite.png" for file in by_code["GG103"]["files"])
    assert any(Path(file).name == "again.png" for file in by_code["GG106"]["files"])
    assert by_code["GG119"]["files"] == [str(spoilt.parent / "bad.png")]
    severities = [finding["severity"] for finding in findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    page = Path("out/report.html").read_text()
    assert "opposite.png" in page
    assert "not a medical device" in page
    everything = json.loads(Path("out/audit.json").read_text())
    assert {outcome["status"] for outcome in everything["outcomes"]} == {"found", "passed", "not applicable"}
    assert len(everything["fingerprint"]) == 64
    assert all("somebody" not in text for text in (page, done.stdout))  # no patient's id in a report


def test_a_fixed_manifest_has_none_of_it(spoilt: Path) -> None:
    done = run("audit", "--data", spoilt, *FAST, "--fix", "clean.csv")
    assert done.exit_code == 0, (done.exception, done.stdout)
    assert "Corrected manifest: clean.csv" in done.stdout
    changes = pd.read_csv("clean.changes.csv")
    assert {"bad.png", "opposite.png"} <= {Path(path).name for path in changes["path"]}
    names = [Path(path).name for path in read_manifest("clean.csv")["path"]]
    assert not {"bad.png", "opposite.png"} & set(names)
    again = run(
        "audit",
        "--data",
        "clean.csv",
        *FAST,
        "--select",
        "GG101",
        "--select",
        "GG103",
        "--select",
        "GG106",
        "--select",
        "GG104",
        "--select",
        "GG119",
        "--json",
        "again.json",
    )
    assert again.exit_code == 0
    assert json.loads(Path("again.json").read_text()) == []
    assert "Nothing was found" in again.stdout


def test_the_same_seed_gives_the_same_findings(spoilt: Path) -> None:
    for name in ("one.json", "two.json"):
        assert run("audit", "--data", spoilt, *FAST, "--json", name).exit_code == 0
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()


def test_checks_are_chosen_by_the_beginning_of_their_codes(spoilt: Path) -> None:
    chosen = ("--select", "gg116", "--select", "GG119")
    assert run("audit", "--data", spoilt, "--no-lungs", *chosen, "-o", "few").exit_code == 0
    outcomes = json.loads(Path("few/audit.json").read_text())["outcomes"]
    assert [outcome["code"] for outcome in outcomes] == ["GG116", "GG119"]


def test_severity_decides_the_exit_code(spoilt: Path) -> None:
    only = ("--no-lungs", "--select", "GG116")
    assert run("audit", "--data", spoilt, *only, "--fail-on", "error").exit_code == 0
    assert (
        run("audit", "--data", spoilt, "--no-lungs", "--select", "GG103", "--fail-on", "warning").exit_code
        == 4
    )


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (("--data", "nowhere"), "no dataset has this name", 1),
        (("--data", "spoilt.csv", "--select", "GG999"), "GG999: no check has this code", 1),
        (("--data", "spoilt.csv", "--select", "GG119", "--ignore", "GG1"), "no check is left", 1),
        (("--data", "spoilt.csv", "--part", "test"), "--part needs -b", 2),
        (("-b", "covid-ct-lite0", "--data", "spoilt.csv", "--fix", "x.csv"), "--fix corrects a dataset", 2),
        (("-b", "no-bundle", "--data", "spoilt.csv"), "no such bundle", 1),
    ],
)
def test_mistakes_are_reported_in_one_line(
    spoilt: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
    code: int,
) -> None:
    monkeypatch.setattr("sys.argv", ["groundglass", "audit", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert told in capsys.readouterr().err
    assert not Path("audits").exists()


def test_a_set_that_cannot_be_read_at_all_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for label in ("covid", "normal"):
        Path(label).mkdir()
        Path(label, "a.png").write_bytes(b"no picture")
    done = run("audit", "--data", tmp_path, "--no-lungs")
    assert done.exit_code == 1
    assert "none of its 2 files can be read" in str(done.exception)


def test_a_detector_is_audited_on_a_dataset(
    bundle_folder: Path, class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(
        "audit",
        "-b",
        bundle_folder,
        "--data",
        class_folder,
        "--part",
        "train",
        "--no-lungs",
        "--json",
        "all.json",
    )
    assert done.exit_code == 0, (done.exception, done.stdout)
    folder = Path("audits") / f"bundle-on-{class_folder.name}"
    codes = {one["code"]: one for one in json.loads((folder / "audit.json").read_text())["outcomes"]}
    assert all(code.startswith("GG2") for code in codes)
    assert codes["GG201"]["status"] == "not applicable"
    assert codes["GG210"]["status"] == "found"  # it was trained on them
    assert codes["GG210"]["figure"] == 24
    assert (folder / "predictions.csv").is_file()


def test_one_picture_is_enough_not_to_fall_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("covid").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save("covid/a.png")
    with pytest.warns(UserWarning, match="one class only"):
        done = run("audit", "--data", tmp_path, "--no-lungs", "-o", "out")
    assert done.exit_code == 0, done.exception
