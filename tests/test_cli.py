import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from groundglass.commands.demo import demo
from groundglass.data.download import DownloadError

MIRROR = os.environ.get("GROUNDGLASS_MIRROR", "")
real_slices = pytest.mark.skipif(
    not (Path(MIRROR) / "covid-ct").is_dir() or not MIRROR,
    reason="GROUNDGLASS_MIRROR names no folder with covid-ct",
)


def groundglass(*arguments: object, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "groundglass", *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120", **environment},
        check=False,
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_help_and_version() -> None:
    assert groundglass("--version").stdout.startswith("groundglass 0.")
    licences = groundglass("--version", "--licences").stdout
    assert "Bundle detector-lesions, trained on:" in licences
    assert "sarscov2-ct: CC BY-NC-SA 4.0; commercial use: no" in licences
    for command in ("predict", "train", "evaluate", "bundle", "demo", "data"):
        assert command in groundglass("--help").stdout
        assert "groundglass" in groundglass(command, "--help").stdout


def test_predict_writes_all_that_it_says(bundle_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    done = groundglass("predict", class_folder, "-b", bundle_folder, "-o", tmp_path / "out", "--no-lungs")
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert len(rows) == 48
    assert {"path", "patient", "score", "probability", "verdict"} <= set(rows[0])
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert [s["path"] for s in findings["slices"]] == [row["path"] for row in rows]
    assert findings["summary"]["covid"] == sum(row["verdict"] == "covid" for row in rows)
    assert "medical device" in findings["research_use"]
    pictures = {tmp_path / "out" / row["heatmap"] for row in rows}
    assert len(pictures) == 48  # equal names in two folders do not overwrite each other
    assert all(picture.is_file() for picture in pictures)
    assert "<img" in (tmp_path / "out" / "report.html").read_text()
    assert "Report:" in done.stdout


def test_predict_continues_after_bad_files(bundle_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    good = class_folder / "covid" / "0.png"
    done = groundglass(
        "predict", tmp_path / "bad.png", good, "-b", bundle_folder, "-o", tmp_path / "out", code=3
    )
    assert "bad.png: is not a picture" in done.stderr
    assert len(rows_of(tmp_path / "out" / "predictions.csv")) == 1
    findings = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert findings["failures"][0]["path"].endswith("bad.png")
    assert "bad.png" in (tmp_path / "out" / "report.html").read_text()
    groundglass("predict", tmp_path / "bad.png", "-b", bundle_folder, code=1)


def test_json_goes_to_standard_output_and_nothing_is_written(
    bundle_folder: Path, class_folder: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "groundglass", "predict", "*/0.png", "-b", str(bundle_folder), "--json"],
        capture_output=True, text=True, cwd=class_folder, check=True,
    )  # fmt: skip
    assert [Path(s["path"]).parent.name for s in json.loads(done.stdout)["slices"]] == ["covid", "normal"]
    assert not list(class_folder.glob("*.csv"))


@pytest.mark.parametrize(
    ("arguments", "hint", "code"),
    [
        (["predict", "gone.png"], "gone.png: there is no such file or folder", 1),
        (["predict", "."], "there is no DICOM, NIfTI or picture", 1),
        (["predict", "x.txt", "-b", "gone"], "no such bundle", 1),
        (["predict", "x.txt", "-v", "-q"], "use only one of them", 2),
        (["train", "gone.yaml"], "no such recipe", 1),
        (["evaluate", "-b", "gone", "--data", "covid-ct"], "no such bundle", 1),
        (["evaluate", "gone", "-b", "gone"], "predictions are evaluated alone", 2),
        (["evaluate", "gone"], "gone: is not a predictions.csv; name a detector with -b", 2),
        (["evaluate", "gone.yaml"], "is a recipe; name the run that was trained from it", 2),
        (["evaluate", "--leave-one-source-out", "gone.yaml"], "no such recipe", 1),
        (["evaluate", "--leave-one-source-out", "."], "takes a recipe (a YAML file)", 2),
        (["evaluate", "--leave-one-source-out", "x.yaml", "--data", "covid-ct"], "takes only a recipe", 2),
        (
            ["evaluate", "-b", "gone", "--data", "covid-ct", "--set", "seed=1"],
            "needs --leave-one-source-out",
            2,
        ),
        (["calibrate", "x.txt"], "name the bundle to calibrate with -b", 2),
        (["bundle", "."], "not a run", 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_clear_line(
    arguments: list[str], hint: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "x.txt").write_text("a file that is there")
    done = subprocess.run(
        [sys.executable, "-m", "groundglass", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert hint in done.stderr
    assert done.stderr.count("\n") == 1


def test_detection_loads_nothing_heavy(bundle_folder: Path, class_folder: Path) -> None:
    """Start-up stays fast because it loads little; the seconds are measured in benchmarks/."""
    code = (
        "import sys, groundglass\n"
        "assert 'numpy' not in sys.modules\n"
        "from groundglass.cli.app import app\n"
        f"app(['predict', {str(class_folder / 'covid' / '0.png')!r}, '-b', {str(bundle_folder)!r}, '-o', 'out'], "
        "standalone_mode=False)\n"
        "heavy = {'torch', 'pandas', 'sklearn', 'matplotlib', 'scipy', 'lightning', 'timm', 'onnxruntime'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=bundle_folder.parent
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_evaluate_and_predict_give_the_same_scores(trained: Path, class_folder: Path, tmp_path: Path) -> None:
    done = groundglass(
        "evaluate", "-b", trained, "--data", class_folder, "--part", "all", "-o", tmp_path / "evaluated"
    )
    assert "trained on some of these slices" in done.stderr
    groundglass("predict", class_folder, "-b", trained, "-o", tmp_path / "predicted", "--no-heatmaps")
    assert not (tmp_path / "predicted" / "heatmaps").exists()
    evaluated = pd.read_csv(tmp_path / "evaluated" / "predictions.csv").set_index("path").sort_index()
    predicted = pd.read_csv(tmp_path / "predicted" / "predictions.csv").set_index("path").sort_index()
    pd.testing.assert_series_equal(evaluated["verdict"], predicted["verdict"])
    refused = predicted["verdict"] == "not a chest CT"
    assert 0 < refused.sum() < len(predicted)
    columns = ["score", "probability"]
    pd.testing.assert_frame_equal(evaluated.loc[~refused, columns], predicted.loc[~refused, columns])
    assert predicted.loc[refused, columns].isna().all(axis=None)


def test_evaluation_takes_the_test_part(trained: Path, class_folder: Path, tmp_path: Path) -> None:
    done = groundglass("evaluate", "-b", trained, "--data", class_folder, "-o", tmp_path / "out")
    assert "The test set of the dataset that it was trained on" in done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["part"], metrics["external"], metrics["slices"]["count"]) == ("test", False, 12)
    groundglass("evaluate", "-b", trained, "--data", class_folder, "--no-lungs", "-o", tmp_path / "without")
    assert "lesion_share" in pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert "lesion_share" not in pd.read_csv(tmp_path / "without" / "predictions.csv")
    assert {"roc.png", "calibration.png"} <= {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    manifest = pd.read_csv(trained / "manifest.csv")
    tested = {Path(path).parts[-2:] for path in pd.read_csv(tmp_path / "out" / "predictions.csv")["path"]}
    assert tested == {Path(path).parts[-2:] for path in manifest[manifest["split"] == "test"]["path"]}


def test_predictions_are_evaluated_from_their_file_alone(trained: Path, tmp_path: Path) -> None:
    """The figures are the same, whether the detector or only its predictions are available."""
    groundglass(
        "evaluate", "-b", trained, "--data", trained / "manifest.csv", "--part", "val", "-o", tmp_path / "a"
    )
    groundglass("evaluate", tmp_path / "a" / "predictions.csv", "-o", tmp_path / "b")
    whole, alone = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    assert alone["slices"] == whole["slices"]
    assert (tmp_path / "b" / "figures" / "roc.png").is_file()
    done = groundglass("evaluate", "-b", trained, code=2)
    assert "name the labelled scans with --data" in done.stderr


def test_training_on_a_random_split_warns_in_one_line(recipe_file: Path, tmp_path: Path) -> None:
    done = groundglass("train", recipe_file, "--set", "training.epochs=1", "-o", tmp_path / "run")
    first, *others = done.stderr.splitlines()
    assert first.startswith("warning: ")
    assert "patient" in first
    assert [line.split()[0] for line in others] == ["epoch"]


def test_another_set_is_external_and_used_whole(trained: Path, class_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(class_folder, tmp_path / "elsewhere")
    copy = shutil.copytree(trained / "bundle", tmp_path / "bundle")
    done = groundglass(
        "evaluate", "-b", copy, "--data", tmp_path / "elsewhere", "-o", tmp_path / "out", "--record"
    )
    assert "External validation" in done.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["slices"]["count"] == 48
    assert "elsewhere" in (copy / "MODEL_CARD.md").read_text()


@real_slices
def test_the_demo_takes_real_slices_where_they_are(tmp_path: Path) -> None:
    done = groundglass("demo", "-o", tmp_path / "out")
    assert "203 real slices" in done.stderr
    assert "ROC AUC" in (tmp_path / "out" / "report.html").read_text()


def test_the_demo_takes_phantoms_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(url: str, path: Path, **options: object) -> None:
        raise DownloadError(f"{url}: the server cannot be found")

    monkeypatch.setattr("groundglass.data.datasets.fetch", no_network)
    monkeypatch.delenv("GROUNDGLASS_MIRROR", raising=False)
    monkeypatch.setenv("GROUNDGLASS_DATA", str(tmp_path / "data"))
    said: list[str] = []
    report = demo(tmp_path / "out", said.append)
    assert list((tmp_path / "out" / "volume" / "out").glob("study-*/sr.dcm"))
    assert "phantoms instead" in said[-2]
    page = report.read_text()
    assert "show nothing about the detector" in page
    assert ">Performance<" not in page


@real_slices
@pytest.mark.parametrize("name", ["detector-lesions", "covid-ct-lite0"])
def test_a_shipped_bundle_answers_real_slices_as_it_says(name: str, tmp_path: Path) -> None:
    """The figures in the model card are those that this code gives."""
    groundglass("evaluate", "-b", name, "--data", "covid-ct", "-o", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    from groundglass.detect.bundle import Bundle

    stated = {e.dataset: e for e in Bundle.load(name).facts.evaluations}["covid-ct"]
    measured = metrics["slices"]["metrics"]["roc_auc"]["value"]
    assert stated.slices.metrics["roc_auc"].value == pytest.approx(measured, abs=0.005)
    assert stated.fingerprint == metrics["fingerprint"]
