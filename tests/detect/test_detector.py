import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import roc_auc_score

from groundglass.bundle.engine import Engine
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.detect.heatmap import grey_image, heatmap
from groundglass.errors import ScanError
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.preprocess import Preprocessing
from groundglass.scan.find import find_scans
from groundglass.scan.read import read_scan
from groundglass.scan.scan import Scan


@pytest.fixture(scope="module")
def detector(bundle_folder: Path) -> Detector:
    return Detector.load(bundle_folder, lungs=False)


def test_a_slice_gets_the_same_answer_alone_and_among_others(detector: Detector, class_folder: Path) -> None:
    files = find_scans([class_folder])
    together = [finding for _, finding in detector.predict_files(files)]
    alone = [Detector.load(detector.bundle.source, lungs=False)(read_scan(file)) for file in files[::7]]
    for one, other in zip(alone, together[::7], strict=True):
        assert one.score == other.score
        np.testing.assert_array_equal(one.evidence, other.evidence)


def test_answers_are_those_of_the_graph_calibrated(detector: Detector, class_folder: Path) -> None:
    bundle = detector.bundle
    session = onnxruntime.InferenceSession(bundle.graph)
    for path, finding in detector.predict_files(find_scans([class_folder])[::5]):
        image = bundle.facts.preprocessing(read_scan(path))
        (logit,), _ = session.run(None, {"images": image[None]})
        assert finding.score == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4)
        calibrated = 1 / (1 + math.exp(-logit / bundle.facts.temperature))
        assert finding.probability == pytest.approx(calibrated, abs=1e-4)
        assert finding.verdict == (POSITIVE if finding.probability >= bundle.facts.threshold else NEGATIVE)


def test_the_easy_classes_are_separated(detector: Detector, class_folder: Path) -> None:
    scores = {path: finding.score for path, finding in detector.predict_files(find_scans([class_folder]))}
    truth = [path.parent.name == "covid" for path in scores]
    assert roc_auc_score(truth, list(scores.values())) > 0.95


@pytest.mark.parametrize("bad", [[], [0], [5], [0, 1, 2, 7, 20], list(range(24))], ids=str)
def test_files_that_cannot_be_read_keep_their_place(
    detector: Detector, class_folder: Path, tmp_path: Path, bad: list[int]
) -> None:
    files = find_scans([class_folder / "covid"])
    for number in bad:
        files[number] = tmp_path / f"{number}.png"
        files[number].write_bytes(b"no picture")
    outcomes = list(detector.predict_files(files))
    assert [path for path, _ in outcomes] == files
    assert [n for n, (_, outcome) in enumerate(outcomes) if isinstance(outcome, ScanError)] == bad


def test_no_files_give_no_findings(detector: Detector) -> None:
    assert list(detector.predict_files([])) == []


def test_an_engine_that_was_left_early_still_works(bundle_folder: Path) -> None:
    bundle = Bundle.load(bundle_folder)
    engine = Engine(bundle.graph, (1, 32, 32))
    images = [np.full((1, 32, 32), value, dtype=np.float32) for value in np.linspace(-1, 1, 9)]
    first = next(engine.run(iter(images)))
    assert next(engine.run(images))[0] == first[0]


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_a_heatmap_is_hot_where_the_evidence_is(detector: Detector, resize: str) -> None:
    """Evidence in the upper left of the slice colours only that corner, at the slice's own size."""
    preprocessing = Preprocessing(size=(64, 64), resize=resize)
    scan = Scan(np.full((50, 100), 0.5, dtype=np.float32), False, "x")
    evidence = np.zeros((8, 8), dtype=np.float32)
    evidence[2 if resize == "pad" else 0, 0] = 1
    finding = detector(scan).with_evidence(evidence)
    assert finding.view is not None
    finding = replace(finding, view=replace(finding.view, preprocessing=preprocessing))
    image = heatmap(finding)
    assert image.size == (100, 50)
    colour = np.ptp(np.asarray(image).astype(int), axis=-1)
    assert colour[:8, :10].min() > 20
    assert colour[30:].max() == 0
    assert colour[:, 60:].max() == 0
    assert grey_image(finding).getpixel((5, 5)) == 128


def test_evidence_against_covid_is_not_drawn(detector: Detector) -> None:
    scan = Scan(np.full((50, 50), 0.5, dtype=np.float32), False, "x")
    finding = detector(scan).with_evidence(np.full((8, 8), -1, dtype=np.float32))
    assert np.ptp(np.asarray(heatmap(finding)).astype(int), axis=-1).max() == 0


def test_hu_scans_are_answered_through_the_window(detector: Detector) -> None:
    hu = np.random.default_rng(0).normal(-600, 300, (64, 64)).astype(np.float32)
    window = detector.bundle.facts.preprocessing.window
    grey = np.clip((hu - (window.level - window.width / 2)) / window.width, 0, 1).astype(np.float32)
    by_hu, by_grey = (detector(Scan(pixels, is_hu, "x")) for pixels, is_hu in ((hu, True), (grey, False)))
    assert by_hu.score == pytest.approx(by_grey.score, abs=1e-4)
