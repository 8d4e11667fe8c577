import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from groundglass.cli.app import app
from groundglass.data.manifest import import_path, read_manifest
from groundglass.errors import GroundglassError
from groundglass.evaluation.predictions import read_predictions
from groundglass.labels import canonical_label, canonical_labels, need_positive
from groundglass.recipe.parts import Data

DOC = Path(__file__).parents[1] / "docs" / "bad-input.md"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("covid", "covid"),
        ("COVID", "covid"),
        ("covid-19", "covid"),
        ("COVID19", "covid"),
        ("CT_COVID", "covid"),
        ("COVIDCT", "covid"),
        ("Covid positive", "covid"),
        ("positive", "covid"),
        ("SARS-CoV-2", "covid"),
        ("2019-nCoV", "covid"),
        ("NCP", "covid"),
        ("CT_NonCOVID", "not covid"),
        ("NonCovidCT", "not covid"),
        ("non-covid", "not covid"),
        ("no covid", "not covid"),
        ("Not COVID-19", "not covid"),
        ("COVID-negative", "not covid"),
        ("negative", "not covid"),
        ("normal", "normal"),
        ("Mycoplasma", "mycoplasma"),
        (" Viral Pneumonia ", "viral pneumonia"),
        ("CP", "cp"),
        ("no", "no"),
        ("post-covid", "post-covid"),
        ("covid or flu", "covid or flu"),
        ("1", "1"),
    ],
)
def test_labels_are_understood_only_where_they_are_clear(name: str, label: str) -> None:
    assert canonical_label(name) == label


@settings(deadline=None)
@given(st.text(alphabet="covid nNoOtTsSgGeEaA-_19", max_size=14))
def test_canonical_labels_stay_as_they_are(name: str) -> None:
    label = canonical_label(name)
    assert canonical_label(label) == label


@settings(deadline=None)
@given(st.lists(st.sampled_from(["0", "1", "2", "True", "no", "covid", "COVID-19", "normal", "", "1.0"])))
def test_the_labels_of_a_table_stay_as_they_are(names: list[str]) -> None:
    labels = canonical_labels(names)
    assert canonical_labels(labels) == labels


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["1", "0"], ["covid", "not covid"]),
        (["1.0", "0.0", "1.0"], ["covid", "not covid", "covid"]),
        (["True", "False"], ["covid", "not covid"]),
        (["yes", "no", ""], ["covid", "not covid", ""]),
        (["COVID-19", "0"], ["covid", "not covid"]),
        (["0", "1", "2"], ["0", "1", "2"]),
        (["COVID-19", "1"], ["covid", "covid"]),
        (["COVID-19", "normal", "1"], ["covid", "normal", "1"]),
    ],
)
def test_numbers_mean_classes_only_where_nothing_else_is_there(names: list[str], labels: list[str]) -> None:
    assert canonical_labels(names) == labels


def test_labels_without_a_positive_one_are_refused() -> None:
    with pytest.raises(GroundglassError, match=r"my\.csv: no label means COVID-19 \(found: healthy, sick\)"):
        need_positive(["sick", "healthy", "sick"], "my.csv")
    with pytest.raises(GroundglassError, match="class 7 and 2 more"):
        need_positive([f"class {number}" for number in range(10)], "my.csv")
    need_positive(["covid", "sick"], "my.csv")
    need_positive(["not covid", ""], "my.csv")
    need_positive([], "my.csv")


PAIRS = {"covid19": "normal", "COVID-19": "CAP", "CT_COVID": "CT_NonCOVID", "positive": "negative", "1": "0"}


def predictions(positive: str, negative: str, path: Path) -> Path:
    rows = [(f"{n}.png", positive if n % 2 else negative, 0.9 if n % 2 else 0.1) for n in range(12)]
    frame = pd.DataFrame(rows, columns=["path", "label", "probability"])
    frame["score"] = frame["probability"]
    frame["verdict"] = ["covid" if p > 0.5 else "not covid" for p in frame["probability"]]
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(("positive", "negative"), PAIRS.items())
def test_every_entry_reads_the_same_labels(
    positive: str, negative: str, class_folder: Path, tmp_path: Path
) -> None:
    expected = {"covid", *canonical_labels([positive, negative])}
    for label, name in (("covid", positive), ("normal", negative)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for file in sorted((class_folder / label).iterdir())[:3]:
            (tmp_path / "set" / name / file.name).write_bytes(file.read_bytes())
    manifest = import_path(tmp_path / "set")
    assert set(manifest["label"]) == expected
    assert (manifest["label"] == "covid").sum() == 3
    csv = tmp_path / "manifest.csv"
    raw = {"covid": positive}
    manifest.assign(label=[raw.get(label, negative) for label in manifest["label"]]).to_csv(csv, index=False)
    assert set(read_manifest(csv)["label"]) == expected
    table = read_predictions(predictions(positive, negative, tmp_path / "predictions.csv"))
    assert set(table["label"]) == expected
    assert Data(dataset="x", classes=(positive, negative)).classes == (
        "covid",
        *canonical_labels([positive, negative])[1:],
    )


def documented() -> dict[str, list[str]]:
    section = DOC.read_text("utf-8").partition("## Labels")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and "---" not in line][1:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_the_document_names_what_evaluate_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(documented()) == 7
    for labels, (does, says, code) in documented().items():
        positive, _, negative = (part.strip("` ") for part in labels.partition("and"))
        done = CliRunner().invoke(
            app, ["evaluate", str(predictions(positive, negative, tmp_path / "p.csv")), "-o", "out"]
        )
        if code.strip("| ") == "0":
            assert (done.exit_code, says) == (0, "–"), done.output
            assert does.startswith("reads")
            counted = json.loads((tmp_path / "out" / "metrics.json").read_text())["slices"]
            assert (counted["count"], counted["positives"]) == (12, 6)
        else:
            assert does.startswith("refuses")
            assert isinstance(done.exception, GroundglassError)
            assert says.strip("“”") in str(done.exception)
