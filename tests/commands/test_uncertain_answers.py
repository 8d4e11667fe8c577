"""How uncertain answers are reported."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from typer.testing import CliRunner

from groundglass.bundle.facts import Choice
from groundglass.cli import predict as cli_predict
from groundglass.cli.app import app
from groundglass.commands.predict import predict
from groundglass.commands.predict_volumes import predict_volumes
from groundglass.detect.abstention import Abstention
from groundglass.detect.detector import Detector
from groundglass.labels import NOT_A_CHEST_CT, UNCERTAIN
from groundglass.phantom import Phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.report.slices import slice_cards
from groundglass.scan.find import find_series

ALWAYS = Abstention(
    covid_from=0, other_to=1, coverage=0.9, cases=4, groups=4, chosen=(Choice(what="chosen", data="too few"),)
)


@pytest.fixture
def unsure(usual_detector: Detector) -> Detector:
    """The shipped detector, but uncertain about every slice and patient."""
    bundle = usual_detector.bundle
    rule = bundle.facts.patient.model_copy(update={"abstention": ALWAYS})
    facts = bundle.facts.model_copy(update={"abstention": ALWAYS, "patient": rule})
    return Detector(replace(bundle, facts=facts), usual_detector.segmenter)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.linear_gradient("L").save(tmp_path / "slice.png")
    return tmp_path / "slice.png"


def without_lungs(detector: Detector, **facts: object) -> Detector:
    return Detector(replace(detector.bundle, facts=detector.bundle.facts.model_copy(update=facts)))


def test_an_uncertain_slice_in_every_file(unsure: Detector, picture: Path, tmp_path: Path) -> None:
    predict([picture], tmp_path / "out", detector=without_lungs(unsure))
    (row,) = csv.DictReader((tmp_path / "out" / "predictions.csv").open())
    assert row["verdict"] == UNCERTAIN
    assert "both answers remain possible" in row["reason"]
    document = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert document["summary"] == {"slices": 1, "covid": 0, "uncertain": 1, "not_a_chest_ct": 0, "failed": 0}
    assert document["bundle"]["uncertain"] == {"covid_from": 0, "other_to": 1, "coverage": 0.9}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "0 of 1 slices: covid (probability over 1.00). Uncertain: 1." in page
    assert ALWAYS.meaning() in page
    assert '<span class="verdict unsure">uncertain</span>' in page
    (card,) = slice_cards(without_lungs(unsure), [picture], {picture: "covid"})
    assert card.right is None


def test_a_bundle_without_abstention_writes_what_it_did(
    usual_detector: Detector, picture: Path, tmp_path: Path
) -> None:
    document = predict([picture], tmp_path / "out", detector=without_lungs(usual_detector)).document
    assert not {"uncertain", "bias"} & set(document["bundle"])
    assert "uncertain" not in (tmp_path / "out" / "report.html").read_text()


def test_not_a_chest_ct_takes_precedence_over_uncertain(unsure: Detector, picture: Path) -> None:
    (row,) = predict([picture], None, detector=unsure).rows
    assert row.verdict == NOT_A_CHEST_CT
    assert "answers remain possible" not in row.reason


def test_a_refused_picture_gets_no_probability_anywhere(
    usual_detector: Detector, picture: Path, tmp_path: Path
) -> None:
    (row,) = predict([picture], tmp_path, detector=usual_detector).rows
    assert (row.probability, row.score, row.lesion_share, row.heatmap) == (None, None, None, "")
    (line,) = csv.DictReader((tmp_path / "predictions.csv").open())
    assert (line["probability"], line["score"], line["lesion_share"]) == ("", "", "")
    page = (tmp_path / "report.html").read_text()
    assert "not a chest CT" in page
    assert "probability of COVID-19 0." not in page
    assert not (tmp_path / "heatmaps").exists()


def test_an_uncertain_patient_in_every_file(
    unsure: Detector, covid_phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_phantom_dicom(covid_phantom, tmp_path / "ct")
    result = predict_volumes(find_series([tmp_path / "ct"]), tmp_path / "out", detector=unsure)
    assert result.document()["summary"] == {
        "studies": 1, "covid": 0, "uncertain": 1, "not_a_chest_ct": 0, "failed": 0,
    }  # fmt: skip
    (row,) = csv.DictReader((tmp_path / "out" / "patients.csv").open())
    assert row["verdict"] == UNCERTAIN
    assert "both answers remain possible" in row["reason"]
    study = tmp_path / "out" / row["study"]
    page = (study / "report.html").read_text()
    assert "It is uncertain whether this is COVID-19 (probability" in page
    assert ALWAYS.meaning("patients") in page
    assert "The extent of disease" in page
    assert "on too few" in page
    assert "Uncertain: 1." in (tmp_path / "out" / "patients.html").read_text()
    assert "Inconclusive" in str(pydicom.dcmread(study / "sr.dcm"))
    monkeypatch.setattr(cli_predict, "_load_detector", lambda *_: unsure)
    printed = CliRunner().invoke(app, ["predict", str(tmp_path / "ct")]).stdout
    assert printed.startswith("uncertain ")
    assert "both answers remain possible" in printed
