"""A model of one's own, as an ONNX file and as a function, is judged as it is in a bundle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cheats import lung_detector, twins
from numpy.typing import NDArray
from typer.testing import CliRunner

from groundglass.audit.check import CheckOutcome
from groundglass.audit.run import Audit, AuditOptions
from groundglass.cli.app import app
from groundglass.commands.audit import audit_detector, audit_predictions, write_audit
from groundglass.commands.evaluate import DetectorEvaluation, evaluate
from groundglass.data.manifest import write_manifest
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing
from groundglass.segment.segmenter import Segmenter, SegmenterBundle
from segmenter_stub import threshold_segmenter

GREY = {"size": (96, 96), "channels": 1, "mean": 0.0, "std": 1.0}
DESCRIPTION = "gives: logits\noutput: logits\npreprocessing: {size: [96, 96], channels: 1, mean: 0, std: 1}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bundle``, the same network as ``mine.onnx``, and slices in ``twins.csv``."""
    folder = tmp_path_factory.mktemp("own")
    write_manifest(twins(folder), folder / "twins.csv")
    lung_detector(folder / "bundle")
    (folder / "mine.onnx").write_bytes((folder / "bundle" / "model.onnx").read_bytes())
    (folder / "mine.yaml").write_text(DESCRIPTION)
    return folder


@pytest.fixture(scope="module")
def detectors(folder: Path) -> dict[str, Detector]:
    """The same network three times, with a segmenter for the audit."""
    bundle = Detector.load(folder / "bundle", lungs=False)

    def predict(slices: NDArray[np.float32]) -> NDArray[np.float64]:
        logits = np.array([outputs[0] for outputs in bundle.bundle.engine().run(iter(slices))])  # type: ignore[union-attr]
        return 1 / (1 + np.exp(-logits.astype(np.float64)))

    return {
        "bundle": bundle,
        "file": Detector.load(folder / "mine.onnx", lungs=False),
        "function": Detector.of_function(predict, Preprocessing(**GREY), lungs=False),  # type: ignore[arg-type]
    }


def figures(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {unit: metrics[unit] for unit in ("slices", "patients", "threshold")}


@pytest.fixture(scope="module")
def wanted(folder: Path, detectors: dict[str, Detector]) -> dict[str, Any]:
    """The figures of the bundle."""
    evaluate(detectors["bundle"], folder / "twins.csv", folder / "evaluated")
    return figures(folder / "evaluated")


@pytest.mark.parametrize("kind", ["file", "function"])
def test_it_gets_the_figures_of_the_bundle(
    folder: Path, detectors: dict[str, Detector], wanted: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    judged = evaluate(detectors[kind], folder / "twins.csv", tmp_path)
    assert isinstance(judged, DetectorEvaluation)
    for unit in ("slices", "patients"):
        given = figures(tmp_path)[unit]
        assert given["confusion"] == wanted[unit]["confusion"]
        for name, estimate in wanted[unit]["metrics"].items():
            assert given["metrics"][name] == pytest.approx(estimate, abs=1e-5), name
    page = (tmp_path / "report.html").read_text()
    assert "It is unknown what the model was trained on: it may have seen these slices." in page
    assert "it is unknown what the detector was trained on" in page
    assert json.loads((tmp_path / "metrics.json").read_text())["external"] is None


@pytest.fixture(scope="module")
def audited(
    folder: Path, detectors: dict[str, Detector], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Audit, Path]]:
    """The audits of the bundle and of the file, with the folders of their answers."""
    stub = SegmenterBundle.load(threshold_segmenter(tmp_path_factory.mktemp("segmenter"), (96, 96)))
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "load", lambda: Segmenter(stub))
        for kind in ("bundle", "file"):
            answers = tmp_path_factory.mktemp(kind)
            made[kind] = (
                audit_detector(detectors[kind], str(folder / "twins.csv"), answers, AuditOptions()),
                answers,
            )
    return made


def outcomes(audit: Audit) -> dict[str, CheckOutcome]:
    return {outcome.check.code: outcome for outcome in audit.outcomes}


def test_the_audit_says_which_checks_it_left_out_and_why(
    audited: dict[str, tuple[Audit, Path]], tmp_path: Path
) -> None:
    bundle, own = outcomes(audited["bundle"][0]), outcomes(audited["file"][0])
    evidence = "The model does not say which areas point to COVID-19."
    for code, outcome in own.items():
        if code in ("GG204", "GG205"):
            assert (outcome.status, outcome.reason) == ("not applicable", evidence)
        else:
            assert outcome.to_dict() == bundle[code].to_dict()
    assert bundle["GG204"].status != "not applicable"
    assert own["GG201"].status != "not applicable"
    page = write_audit(audited["file"][0], tmp_path).read_text()
    assert evidence in page
    assert "which it may have seen in training" in page


def test_predictions_alone_get_the_checks_that_need_no_detector(
    folder: Path, audited: dict[str, tuple[Audit, Path]], tmp_path: Path
) -> None:
    whole, answers = audited["bundle"]
    words = ["audit", "-b", str(answers / "predictions.csv"), "--data", str(folder / "twins.csv")]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    given = {one["code"]: one for one in json.loads((tmp_path / "audit.json").read_text())["outcomes"]}
    wanted = {code: outcome.to_dict() for code, outcome in outcomes(whole).items()}
    assert list(given) == list(wanted)
    reason = "Only predictions are known, so the detector cannot be asked about changed slices."
    for code in ("GG201", "GG202", "GG203", "GG204", "GG205", "GG206"):
        assert (given[code]["status"], given[code]["message"]) == ("not applicable", reason)
    assert given["GG207"] == wanted["GG207"]
    # The threshold is only known to lie between the probabilities of the verdicts.
    for code in ("GG208", "GG209"):
        assert given[code]["status"] == wanted[code]["status"]
    assert given["GG209"]["details"][0] == wanted["GG209"]["details"][0]


def test_predictions_of_other_files_are_refused(folder: Path) -> None:
    foreign = folder / "foreign.csv"
    foreign.write_text("path,score,probability,verdict\n/elsewhere/1.png,0.5,0.5,covid\n")
    with pytest.raises(
        GroundglassError, match=r"foreign\.csv: has no path of .*; write one row for each slice"
    ):
        audit_predictions(foreign, str(folder / "twins.csv"))
