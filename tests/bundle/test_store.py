import json
import shutil
import zipfile
from pathlib import Path

import pytest

from evaluations import evaluation, overlap_evaluation
from groundglass.bundle.facts import EvaluationFacts
from groundglass.bundle.store import kind_of_bundle, shipped_bundles
from groundglass.detect.bundle import Bundle
from groundglass.errors import BundleError
from groundglass.segment.segmenter import SegmenterBundle
from segmenter_stub import threshold_segmenter

FILES = ["MODEL_CARD.md", "bundle.json", "model.onnx", "recipe.yaml"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return threshold_segmenter(tmp_path / "segmenter", (64, 96))


def detector_with_inner(folder: Path, segmenter: Path) -> Path:
    """A detector that sees only lungs, assembled from the shipped one and a segmenter."""
    shipped = Bundle.load()
    preprocessing = shipped.facts.preprocessing.model_copy(
        update={"lungs": "crop", "segmenter": "thresholds-0"}
    )
    inner = SegmenterBundle.load(segmenter)
    facts = shipped.facts.model_copy(
        update={"preprocessing": preprocessing, "segmenter_sha256": inner.facts.graph_sha256}
    )
    Bundle(facts, shipped.graph, shipped.recipe, folder, segmenter=inner).write(folder)
    return folder


def test_a_segmenter_is_read_back_from_folder_and_zip(folder: Path, tmp_path: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == FILES
    bundle = SegmenterBundle.load(folder)
    assert bundle.facts.preprocessing.size == (64, 96)
    for name in ("a.zip", "b.zip"):
        bundle.write(tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    zipped = SegmenterBundle.load(tmp_path / "a.zip")
    assert (zipped.facts, zipped.graph, zipped.recipe) == (bundle.facts, bundle.graph, bundle.recipe)
    zipped.write(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("zipped", [False, True])
def test_one_kind_is_not_mistaken_for_the_other(folder: Path, tmp_path: Path, zipped: bool) -> None:
    detector: Path = shipped_bundles()[Bundle.default]
    segmenter = folder
    if zipped:
        Bundle.load(detector).write(tmp_path / "d.zip")
        SegmenterBundle.load(segmenter).write(tmp_path / "s.zip")
        detector, segmenter = tmp_path / "d.zip", tmp_path / "s.zip"
    assert kind_of_bundle(detector) == Bundle.load(detector).facts.kind == "detector"
    assert kind_of_bundle(segmenter) == SegmenterBundle.load(segmenter).facts.kind == "segmenter"
    with pytest.raises(BundleError, match="is a segmenter, but a detector is needed"):
        Bundle.load(segmenter)
    with pytest.raises(BundleError, match="is a detector, but a segmenter is needed"):
        SegmenterBundle.load(detector)


FIRST = "covid-ct-lite0"


def test_the_first_bundles_stated_no_kind_and_are_detectors() -> None:
    facts = json.loads((shipped_bundles()[FIRST] / "bundle.json").read_text())
    assert FIRST in shipped_bundles("detector")
    assert FIRST not in shipped_bundles("segmenter")
    assert facts.get("kind", "detector") == kind_of_bundle(FIRST) == "detector"
    assert Bundle.load(FIRST).facts.preprocessing.lungs == "none"


def test_what_is_not_a_bundle_is_reported(folder: Path, tmp_path: Path) -> None:
    for call in (kind_of_bundle, SegmenterBundle.load):
        with pytest.raises(BundleError, match="there is no such bundle"):
            call(tmp_path / "gone")
        with pytest.raises(BundleError, match="not a complete bundle"):
            call(tmp_path)
    (folder / "bundle.json").write_text("[]")
    with pytest.raises(BundleError, match="file of another kind"):
        SegmenterBundle.load(folder)


def test_a_run_without_a_bundle_names_the_remedy(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    for call in (kind_of_bundle, SegmenterBundle.load, Bundle.load):
        with pytest.raises(BundleError, match=rf"no bundle yet; .*--resume.*groundglass bundle {run}"):
            call(run)
    shutil.copytree(folder, run / "bundle")
    assert kind_of_bundle(run) == "segmenter"
    assert SegmenterBundle.load(run).source == run / "bundle"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda text: text[: len(text) // 2], r"bundle\.json is damaged"),
        (lambda text: "\udcff\udcfe", r"bundle\.json is damaged"),
        (lambda text: text.replace('"lung_threshold": 0.5', '"lung_threshold": 7'), "lung_threshold: .*less"),
        (lambda text: text.replace('"format": 2', '"format": 3'), "has format 3, and this version"),
        (lambda text: text.replace('"seed"', '"sead"'), "training.sead|training.seed"),
    ],
    ids=["half", "no text", "out of range", "newer", "unknown key"],
)
def test_a_damaged_bundle_json_is_named(folder: Path, damage, problem: str) -> None:  # type: ignore[no-untyped-def]
    path = folder / "bundle.json"
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_bytes(damaged.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=problem) as caught:
        SegmenterBundle.load(folder)
    assert str(folder) in str(caught.value)
    assert "bundle.json" in str(caught.value)


def test_a_graph_that_is_not_the_one_of_the_facts_is_refused(folder: Path) -> None:
    graph = bytearray((folder / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (folder / "model.onnx").write_bytes(graph)
    with pytest.raises(BundleError, match=r"model\.onnx is damaged"):
        SegmenterBundle.load(folder)


def test_a_zip_damaged_anywhere_is_a_bundle_error(folder: Path, tmp_path: Path) -> None:
    bundle = SegmenterBundle.load(folder)
    path = tmp_path / "x.zip"
    bundle.write(path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 1000)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:  # damage to the card or the zip's own dates is harmless
            loaded = SegmenterBundle.load(path)
        except BundleError:
            refused += 1
        else:
            assert (loaded.facts, loaded.graph, loaded.recipe) == (bundle.facts, bundle.graph, bundle.recipe)
    assert refused > 200
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match="not a complete bundle"):
        kind_of_bundle(path)


def test_figures_are_entered_into_a_segmenters_folder_and_not_its_zip(folder: Path, tmp_path: Path) -> None:
    common = {"part": "test", "external": False, "fingerprint": "f", "date": "2020-01-01"}
    bundle = SegmenterBundle.load(folder)
    graph = (folder / "model.onnx").read_bytes()
    for dataset, value in (("one", 0.7), ("two", 0.8), ("one", 0.9)):
        bundle.record(EvaluationFacts(dataset=dataset, slices=overlap_evaluation(value), **common))
    again = SegmenterBundle.load(folder)
    recorded = {e.dataset: e.slices.parts["lungs"].metrics["dice"].value for e in again.facts.evaluations}
    assert recorded == {"two": 0.8, "one": 0.9}
    assert again.facts.kind == "segmenter"
    assert (folder / "model.onnx").read_bytes() == graph
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| lung Dice, mean over cases | 0.900 |" in card
    assert "0.700" not in card
    assert "| part | slices | COVID-19 | patients |" in card
    again.write(tmp_path / "x.zip")
    with pytest.raises(BundleError, match="not to a zip"):
        SegmenterBundle.load(tmp_path / "x.zip").record(again.facts.evaluations[0])


def test_a_detector_holds_the_segmenter_that_it_needs(folder: Path, tmp_path: Path) -> None:
    detector = detector_with_inner(tmp_path / "detector", folder)
    whole = SegmenterBundle.load(folder)
    shutil.rmtree(folder)
    loaded = Bundle.load(detector)
    loaded.write(tmp_path / "d.zip")
    with zipfile.ZipFile(tmp_path / "d.zip") as archive:
        assert set(FILES) | {f"segmenter/{name}" for name in FILES} == set(archive.namelist())
    for bundle in (loaded, Bundle.load(tmp_path / "d.zip")):
        assert bundle.segmenter is not None
        assert (bundle.segmenter.facts, bundle.segmenter.graph) == (whole.facts, whole.graph)
    loaded.record(
        EvaluationFacts(dataset="x", part="all", external=True, fingerprint="", date="", slices=evaluation())
    )
    again = Bundle.load(detector)
    assert (again.facts.evaluations[-1].dataset, again.facts.kind) == ("x", "detector")
    assert again.segmenter is not None


def test_what_is_wrong_with_the_inner_segmenter_names_it(folder: Path, tmp_path: Path) -> None:
    detector = detector_with_inner(tmp_path / "detector", folder)
    inner = detector / "segmenter" / "bundle.json"
    text = inner.read_text()
    inner.write_text(text[:100])
    with pytest.raises(BundleError, match=r"detector/segmenter: bundle\.json is damaged"):
        Bundle.load(detector)
    inner.unlink()
    with pytest.raises(BundleError, match="not a complete bundle"):
        Bundle.load(detector)
    inner.write_text(text)
    recorded = EvaluationFacts(
        dataset="x", part="all", external=True, fingerprint="", date="", slices=evaluation()
    )
    bundle = Bundle.load(detector)
    assert bundle.segmenter is not None
    bundle.segmenter.record(recorded)  # of the segmenter, and not instead of the detector's facts
    assert Bundle.load(detector).facts.evaluations == bundle.facts.evaluations


def test_a_detector_refuses_another_segmenter_than_it_was_trained_with(folder: Path, tmp_path: Path) -> None:
    detector = detector_with_inner(tmp_path / "detector", folder)
    facts = detector / "bundle.json"
    sha256 = SegmenterBundle.load(folder).facts.graph_sha256
    text = facts.read_text()
    facts.write_text(text.replace(sha256, "0" * 64))
    assert facts.read_text() != text
    with pytest.raises(BundleError, match="trained with a different thresholds-0"):
        Bundle.load(detector)
