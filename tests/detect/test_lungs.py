"""Detectors that look for lungs: for the lesion share and the verdict, and to see only the lungs."""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from groundglass.bundle.engine import Engine, Item, Outputs
from groundglass.commands.evaluate import choose_rows, evaluate_detector
from groundglass.commands.predict import predict
from groundglass.commands.train import bundle_run, train
from groundglass.data.manifest import write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.detect.heatmap import heatmap
from groundglass.errors import BundleError, ScanError
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE
from groundglass.phantom import write_phantom_set
from groundglass.preprocess import Box, Preprocessing
from groundglass.scan.read import read_scan
from groundglass.segment.masks import PostProcessing
from groundglass.segment.segmenter import Segmenter, SegmenterBundle
from groundglass.train.run import Run
from groundglass.train.slices import decode
from segmenter_stub import threshold_segmenter

RECIPE = """
name: tiny-{lungs}
data: {{dataset: "{dataset}", split: grouped, fractions: [0.4, 0.3, 0.3]}}
preprocessing: {{size: [32, 48], channels: 1, lungs: {lungs}, segmenter: "{segmenter}", margin: 0.1, outside: 0.3}}
model: {{name: small-cnn, filters: [4, 4]}}
training: {{epochs: 1, batch_size: 8, precision: "32"}}
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Every second slice of nine phantoms, with masks, as a manifest."""
    folder = tmp_path_factory.mktemp("phantoms")
    return pd.DataFrame(write_phantom_set(folder, count=9, shape=(10, 128, 128))[::2])


@pytest.fixture(scope="module")
def paths(rows: pd.DataFrame) -> list[Path]:
    return [Path(path) for path in rows["path"]]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter.load(threshold_segmenter(tmp_path_factory.mktemp("stub") / "segmenter"))


@pytest.fixture(scope="module")
def detector(bundle_folder: Path, segmenter: Segmenter) -> Detector:
    return Detector(Bundle.load(bundle_folder), segmenter)


@pytest.fixture(scope="module", params=["crop", "mask"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame) -> Run:
    """A detector trained only on lungs; the segmenter's own folder has been deleted."""
    folder = tmp_path_factory.mktemp(request.param)
    write_manifest(rows, folder / "manifest.csv")
    stub = threshold_segmenter(folder / "stub")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(lungs=request.param, dataset=folder / "manifest.csv", segmenter=stub))
    trained = train(recipe, (), folder / "run", tell=lambda line: None)
    shutil.rmtree(stub)
    return trained


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    grey = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(grey).save(path)
    return path


def true_share(row: "pd.Series[str]") -> float:
    lungs, lesions = (np.asarray(Image.open(row[name])) > 0 for name in ("lungs", "lesions"))
    return float(lesions.sum() / (lungs | lesions).sum())


def test_the_lesion_share_is_near_the_truth(
    detector: Detector, rows: pd.DataFrame, paths: list[Path]
) -> None:
    found = [finding for _, finding in detector.predict_files(paths)]
    truth = np.array([true_share(row) for _, row in rows.iterrows()])
    told = np.array([f.lesion_share is not None for f in found if not isinstance(f, ScanError)])
    assert told.mean() > 0.9
    shares = np.array([f.lesion_share for f in found if not isinstance(f, ScanError) and f.reason == ""])
    # Thresholds do not mark thin structures, such as a reticulation, as lesions.
    assert np.median(np.abs(shares - truth[told])) < 0.03
    assert np.corrcoef(shares, truth[told])[0, 1] > 0.7
    for finding in found:
        assert not isinstance(finding, ScanError)
        assert finding.segmentation is not None
        if finding.lesion_share is not None:
            lungs = finding.segmentation.lungs > 0
            assert finding.lesion_share == finding.segmentation.lesions[lungs].mean()
        assert (finding.verdict == NOT_A_CHEST_CT) == bool(finding.reason) == (finding.lesion_share is None)


def test_noise_is_not_a_chest_ct_and_the_reason_is_given(detector: Detector, noise: Path) -> None:
    finding = detector(read_scan(noise))
    assert finding.verdict == NOT_A_CHEST_CT
    assert finding.lesion_share is None
    assert finding.reason.startswith("no lungs")
    assert (finding.score, finding.probability, finding.probabilities) == (None, None, {})
    assert 0 < finding.network.probability < 1


def test_without_a_segmenter_lungs_are_not_mentioned(bundle_folder: Path, noise: Path) -> None:
    detector = Detector.load(bundle_folder, lungs=False)
    assert detector.segmenter is None
    finding = detector(read_scan(noise))
    assert finding.verdict in (POSITIVE, NEGATIVE)
    assert (finding.lesion_share, finding.reason, finding.segmentation) == (None, "", None)
    assert finding.region == Box(top=0, left=0, height=90, width=70)


def test_looking_for_lungs_changes_no_score(
    bundle_folder: Path, detector: Detector, paths: list[Path]
) -> None:
    alone = Detector.load(bundle_folder, lungs=False)
    for path in paths[:3]:
        one, other = alone(read_scan(path)), detector(read_scan(path))
        assert (one.score, one.probability) == (other.score, other.probability)
        np.testing.assert_array_equal(one.evidence, other.evidence)


@pytest.mark.parametrize("bad", [[], [0], [6], [0, 1, 2, 9, 20], list(range(24))], ids=str)
def test_files_that_cannot_be_read_keep_their_place(
    detector: Detector, paths: list[Path], tmp_path: Path, bad: list[int]
) -> None:
    """Two networks run one after the other, each with slices in flight."""
    files = paths[:24]
    for number in bad:
        files[number] = tmp_path / f"{number}.png"
        files[number].write_bytes(b"no picture")
    outcomes = list(detector.predict_files(files))
    assert [path for path, _ in outcomes] == files
    assert [n for n, (_, outcome) in enumerate(outcomes) if isinstance(outcome, ScanError)] == bad
    for path, outcome in outcomes:
        if not isinstance(outcome, ScanError):
            assert outcome.scan.source == path


def test_a_slice_gets_the_same_answer_alone_and_among_others(detector: Detector, paths: list[Path]) -> None:
    for path, finding in list(detector.predict_files(paths))[::9]:
        assert not isinstance(finding, ScanError)
        alone = detector(read_scan(path))
        assert (alone.score, alone.lesion_share) == (finding.score, finding.lesion_share)
        assert alone.segmentation is not None
        assert finding.segmentation is not None
        np.testing.assert_array_equal(alone.segmentation.lungs, finding.segmentation.lungs)


class Recorder(Engine):
    """An engine that records its inputs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shown: list[NDArray[np.float32]] = []

    def stream(
        self, items: Iterable[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, Outputs | None]]:
        def watched() -> Iterator[tuple[Item, NDArray[np.float32] | None]]:
            for item, one in items:
                if one is not None:
                    self.shown.append(one)
                yield item, one

        return self.engine.stream(watched())


def test_training_and_prediction_see_equal_arrays(run: Run, paths: list[Path], tmp_path: Path) -> None:
    """Bit by bit, from the bundle's folder or its zip, without the segmenter's own folder."""
    bundle = Bundle.load(run.folder)
    bundle.write(tmp_path / "x.zip")
    assert bundle.segmenter is not None
    trained_on = decode(paths, run.recipe().preprocessing, Segmenter(bundle.segmenter))
    expected = bundle.facts.preprocessing.model_input(trained_on)
    whole = Preprocessing(size=(32, 48), channels=1)
    assert all(
        (whole.grey8(read_scan(path)) != grey).any() for path, grey in zip(paths, trained_on, strict=True)
    )
    for place in (run.bundle_folder, tmp_path / "x.zip"):
        detector = Detector.load(place)
        recorder = Recorder(detector._engine)
        detector._engine = recorder
        list(detector.predict_files(paths))
        np.testing.assert_array_equal(np.stack(recorder.shown), expected)


def test_predictions_are_those_of_the_training_run(run: Run, tmp_path: Path) -> None:
    Bundle.load(run.folder).write(tmp_path / "x.zip")
    table = pd.read_csv(run.predictions_file)
    files = [Path(path) for path in table["path"]]
    for place in (run.folder, tmp_path / "x.zip"):
        found = [finding for _, finding in Detector.load(place).predict_files(files)]
        scores = [finding.score for finding in found if not isinstance(finding, ScanError)]
        np.testing.assert_allclose(scores, table["score"], atol=1e-6)


def test_the_bundle_holds_its_segmenter_and_names_no_folder(run: Run, tmp_path: Path) -> None:
    bundle = Bundle.load(run.folder)
    lungs = bundle.facts.preprocessing.lungs
    assert bundle.segmenter is not None
    assert bundle.facts.preprocessing.segmenter == f"thresholds-{bundle.segmenter.facts.graph_sha256[:8]}"
    assert SegmenterBundle.load(run.bundle_folder / "segmenter").facts == bundle.segmenter.facts
    card = (run.bundle_folder / "MODEL_CARD.md").read_text()
    assert ("cropped to the lungs" if lungs == "crop" else "grey 0.3 outside the lungs") in card
    assert "/stub" not in card + (run.bundle_folder / "bundle.json").read_text()
    shutil.copytree(run.bundle_folder, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "segmenter")
    with pytest.raises(BundleError, match="not a complete bundle"):
        Bundle.load(tmp_path / "copy")
    with pytest.raises(BundleError, match="there is no such bundle"):
        bundle_run(run.folder, tmp_path / "again.zip")  # the segmenter that it was trained with is gone


def test_evidence_is_drawn_where_the_network_looked(run: Run, paths: list[Path]) -> None:
    detector = Detector.load(run.folder)
    preprocessing = detector.bundle.facts.preprocessing
    for path in paths[::6]:
        finding = detector(read_scan(path))
        assert finding.segmentation is not None
        lungs = finding.segmentation.lungs > 0
        height, width = lungs.shape
        assert finding.region == preprocessing.region(height, width, lungs)
        if preprocessing.lungs == "mask":
            assert finding.region == Box(top=0, left=0, height=height, width=width)
            continue
        assert finding.region.height * finding.region.width < 0.9 * lungs.size
        assert lungs[finding.region.slices].sum() == lungs.sum()
        everywhere = finding.with_evidence(np.ones_like(finding.evidence))
        coloured = np.ptp(np.asarray(heatmap(everywhere)).astype(int), axis=-1) > 0
        inside = np.zeros_like(lungs)
        inside[finding.region.slices] = True
        assert not coloured[~inside].any()
        assert coloured[inside].mean() > 0.9


def test_a_slice_without_lungs_is_looked_at_whole(run: Run, noise: Path) -> None:
    finding = Detector.load(run.folder)(read_scan(noise))
    assert finding.verdict == NOT_A_CHEST_CT
    assert finding.segmentation is not None
    if not finding.segmentation.lungs.any():
        assert finding.region == Box(top=0, left=0, height=90, width=70)


def test_what_is_predicted_is_written(
    detector: Detector, paths: list[Path], noise: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    predict([*paths[:3], noise], folder, detector=detector)
    with (folder / "predictions.csv").open(newline="") as handle:
        table = list(csv.DictReader(handle))
    findings = json.loads((folder / "findings.json").read_text())
    for row, entry, path in zip(table, findings["slices"], [*paths[:3], noise], strict=True):
        finding = detector(read_scan(path))
        assert row["reason"] == entry["reason"] == finding.reason
        share = finding.lesion_share
        assert row["lesion_share"] == ("" if share is None else f"{share:.6f}")
        assert entry["lesion_share"] == (None if share is None else round(share, 6))
    assert table[3]["verdict"] == NOT_A_CHEST_CT
    assert [table[3][name] for name in ("score", "probability", "lesion_share", "heatmap")] == [""] * 4
    assert findings["slices"][3]["probability"] is findings["slices"][3]["score"] is None
    assert findings["summary"]["not_a_chest_ct"] == sum(bool(row["reason"]) for row in table)
    report = (folder / "report.html").read_text()
    assert "of the lungs" in report
    assert "Not a chest CT: " in report


def test_an_evaluation_keeps_the_lesion_shares(run: Run, rows: pd.DataFrame, tmp_path: Path) -> None:
    detector = Detector.load(run.folder)
    labelled = choose_rows(detector.bundle, str(run.manifest_file), None)
    assert (labelled.part, labelled.external) == ("test", False)
    evaluate_detector(detector, labelled, tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv").set_index("path")
    truth = rows.set_index("path").loc[table.index].apply(true_share, axis=1)
    known = table["lesion_share"].notna()
    assert known.mean() > 0.8
    assert (table["lesion_share"] - truth)[known].abs().mean() < 0.05


def test_another_segmenter_makes_another_entry_in_the_cache(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDGLASS_CACHE", str(tmp_path / "cache"))
    bundle = SegmenterBundle.load(threshold_segmenter(tmp_path / "stub"))
    preprocessing = Preprocessing(size=(32, 32), channels=1, lungs="mask")
    decoded = []
    for rules in (PostProcessing(), PostProcessing(), PostProcessing(lung_threshold=0.999999)):
        facts = bundle.facts.model_copy(update={"post_processing": rules})
        decoded.append(decode(paths[:2], preprocessing, Segmenter(replace(bundle, facts=facts))))
    assert len(list((tmp_path / "cache" / "slices").iterdir())) == 2
    np.testing.assert_array_equal(decoded[0], decoded[1])
    assert (decoded[0] != decoded[2]).any()
