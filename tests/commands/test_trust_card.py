"""The trust card of an AUC, collected during an evaluation."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from evaluations import evaluation
from groundglass.audit.detector.lungs import with_lungs_removed
from groundglass.audit.material import Material, read_pictures
from groundglass.audit.trial import Trial
from groundglass.audit.trust import TrustCard
from groundglass.audit.trust_measurements import external_aucs, trust_of_predictions
from groundglass.bundle.evaluation import Estimate
from groundglass.bundle.facts import EvaluationFacts
from groundglass.commands.evaluate import Labelled, choose_rows, evaluate_detector
from groundglass.data.manifest import import_path, read_manifest, write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.evaluation.metrics import evaluate
from groundglass.evaluation.predictions import read_predictions
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.phantom import make_phantom, random_lesions, write_phantom
from groundglass.report.predictions import evaluate_file
from groundglass.segment.segmenter import Segmenter
from segmenter_stub import threshold_segmenter

SIDE = 96
pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")


@dataclass(frozen=True)
class Done:
    labelled: Labelled
    card: TrustCard
    predictions: pd.DataFrame
    metrics: dict
    report: str


def evaluated(detector: Detector, dataset: Path, folder: Path, part: str | None = None) -> Done:
    labelled = choose_rows(detector.bundle, str(dataset), part)
    outcome = evaluate_detector(detector, labelled, folder)
    return Done(
        labelled,
        outcome.card,
        read_predictions(folder / "predictions.csv"),
        json.loads((folder / "metrics.json").read_text()),
        (folder / "report.html").read_text(),
    )


@pytest.fixture
def detector(bundle_folder: Path) -> Detector:
    return Detector.load(bundle_folder, lungs=False)


def test_the_own_test_part_of_a_random_split(detector: Detector, class_folder: Path, tmp_path: Path) -> None:
    done = evaluated(detector, class_folder, tmp_path)
    card = done.card
    assert (card.external, card.split, card.part, card.unit) == (False, "random", "test", "slice")
    assert (card.patients, card.covid_units, card.other_units, card.torn) == (None, 6, 6, 0)
    assert card.auc == Estimate.model_validate(done.metrics["slices"]["metrics"]["roc_auc"])
    # Pictures of one size and format: headers reveal nothing.
    assert card.header.auc.value == pytest.approx(0.5)
    assert "training set" in card.header.note
    assert "not segmented" in str(card.lungs_removed)
    assert (card.known.slices, card.known.of) == (0, 12)
    assert card.grade == "D"
    assert done.metrics["honest_numbers"] == json.loads(json.dumps(card.to_dict()))
    assert 'class="letter D"' in done.report
    assert all(reason in done.report for reason in card.reasons)


def test_data_used_for_choosing_are_not_a_test(
    detector: Detector, class_folder: Path, tmp_path: Path
) -> None:
    card = evaluated(detector, class_folder, tmp_path, "val").card
    assert (card.grade, card.part) == ("E", "val")
    assert card.known.slices == 12


def test_patients_in_two_parts_are_counted(detector: Detector, class_folder: Path, tmp_path: Path) -> None:
    manifest = import_path(class_folder)
    manifest["patient"] = [f"p{number // 3}" for number in range(len(manifest))]
    write_manifest(manifest, tmp_path / "own.csv")
    done = evaluated(detector, tmp_path / "own.csv", tmp_path / "out")
    parts = done.labelled.divided.set_index("path")
    elsewhere = set(parts[parts["split"] != "test"]["patient"])
    expected = sum(parts.loc[path, "patient"] in elsewhere for path in done.predictions["path"])
    assert expected > 0
    assert (done.card.torn, done.card.unit, done.card.grade) == (expected, "patient", "D")
    assert done.card.patients == done.predictions["patient"].nunique()


def test_a_copied_set_is_recognised_and_its_headers_reveal_the_label(
    detector: Detector, class_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(class_folder, tmp_path / "elsewhere")
    for path in (tmp_path / "elsewhere" / "normal").iterdir():
        with Image.open(path) as image:
            image.convert("RGB").save(path)
    done = evaluated(detector, tmp_path / "elsewhere", tmp_path / "out")
    card = done.card
    assert card.external
    assert card.known.slices is not None
    assert 36 <= card.known.slices < 48  # all of the training and the validation set
    assert card.known.without.value is not None
    assert card.header.auc.value == pytest.approx(1)
    assert "5-fold" in card.header.note
    assert card.grade == "E"


def test_a_bundle_without_fingerprints_says_so(
    bundle_folder: Path, class_folder: Path, tmp_path: Path
) -> None:
    detector = Detector.load(bundle_folder, lungs=False)
    detector.bundle.fingerprints = None
    card = evaluated(detector, class_folder, tmp_path, "all").card
    assert card.known.slices is None
    assert "holds no fingerprints" in str(card.known)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of slices of six patients of each class, one of them not a picture."""
    folder = tmp_path_factory.mktemp("phantoms")
    rows = []
    for seed in range(6):
        for label in (POSITIVE, NEGATIVE):
            lesions = random_lesions(seed, "covid") if label == POSITIVE else []
            phantom = make_phantom(seed, shape=(5, SIDE, SIDE), lesions=lesions)
            for path in write_phantom(phantom, folder, name=f"{label.replace(' ', '-')}-{seed}"):
                rows.append((str(path), label, f"{label}-{seed}", "", "phantom"))
    (folder / "bad.png").write_bytes(b"no picture")
    rows.insert(2, (str(folder / "bad.png"), POSITIVE, f"{POSITIVE}-0", "", "phantom"))
    manifest = pd.DataFrame(rows, columns=["path", "label", "patient", "split", "source"])
    write_manifest(manifest, folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.mark.parametrize("sample", [400, 30])
def test_lungs_are_removed_from_kept_slices_as_from_reread_ones(
    bundle_folder: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    monkeypatch.setattr("groundglass.audit.trial.SAMPLE", sample)
    segmenter = Segmenter.load(threshold_segmenter(tmp_path / "segmenter", (SIDE, SIDE)))
    detector = Detector(Bundle.load(bundle_folder), segmenter)
    done = evaluated(detector, phantoms, tmp_path / "out")
    assert len(done.predictions) == 60

    manifest = read_manifest(phantoms)
    read = manifest[~manifest["path"].str.endswith("bad.png")].reset_index(drop=True)
    looks, _, _ = read_pictures([Path(path) for path in read["path"]], segmenter)
    anew = Trial(detector, Material("made", read, looks), done.predictions, segmenter, True, "all")
    if sample < len(manifest):
        # The sample was drawn before it was known that one slice cannot be read.
        drawn = Trial(detector, Material("made", manifest, looks), done.predictions, segmenter, True, "all")
        kept = set(manifest["path"].iloc[drawn.sample])
        anew.sample = np.flatnonzero(read["path"].isin(kept))
    whole, removed = with_lungs_removed(anew).aucs(anew.material.seed)
    assert done.card.lungs_removed.auc.value == pytest.approx(removed.value)
    assert done.card.lungs_removed.auc.low == pytest.approx(removed.low)
    assert f"unchanged {whole.value:.2f}" in done.card.lungs_removed.note
    if sample == 400:
        truth = done.predictions["label"] == POSITIVE
        assert whole.value == pytest.approx(roc_auc_score(truth, done.predictions["probability"]))


def test_too_few_patients_with_lungs_are_reported(
    bundle_folder: Path, phantoms: Path, tmp_path: Path
) -> None:
    segmenter = Segmenter.load(threshold_segmenter(tmp_path / "segmenter", (SIDE, SIDE)))
    few = read_manifest(phantoms).query("patient in ('covid-1', 'not covid-1')")
    write_manifest(few, tmp_path / "few.csv")
    done = evaluated(Detector(Bundle.load(bundle_folder), segmenter), tmp_path / "few.csv", tmp_path / "out")
    assert done.card.lungs_removed.auc.value is None
    assert "not known: one class has lungs on slices of only 1 groups" in str(done.card.lungs_removed)
    assert "fewer than two groups" in str(done.card.header)
    assert done.card.grade == "D"


def table(**columns: object) -> pd.DataFrame:
    rows = {
        "path": [f"{number}.png" for number in range(8)],
        "patient": "",
        "group": "",
        "label": [POSITIVE, NEGATIVE] * 4,
        "score": 0.5,
        "probability": [0.9, 0.1, 0.8, 0.2, 0.4, 0.6, 0.7, 0.3],
        "verdict": NEGATIVE,
    }
    return pd.DataFrame(rows | columns)


@pytest.mark.parametrize(
    ("columns", "unit", "patients", "units"),
    [
        ({}, "slice", None, (4, 4)),
        ({"patient": list("aabbccdd")}, "patient", 4, (4, 4)),
        ({"patient": list("abababcd")}, "patient", 4, (2, 2)),
        ({"group": list("aabbccdd")}, "guessed group", None, (4, 4)),
        ({"patient": ["a", "b", "a", "b", "", "", "", ""]}, "guessed group", None, (3, 3)),
        ({"patient": ["a", "b", "a", "", "", "", "", ""]}, "slice", None, (3, 4)),
    ],
    ids=str,
)
def test_what_a_table_shows_about_patients(
    columns: dict, unit: str, patients: int | None, units: tuple[int, int]
) -> None:
    predictions = table(**columns)
    card = trust_of_predictions(predictions, evaluate(predictions, resamples=50))
    assert (card.unit, card.patients, (card.covid_units, card.other_units)) == (unit, patients, units)
    assert card.auc.value == pytest.approx(15 / 16)
    assert card.external is None


@pytest.mark.parametrize(
    ("sources", "count", "one_sided"),
    [
        (["a", "b"] * 4, 2, True),
        (["a", "b", "c", "b"] * 2, 3, True),
        (["a", "b", "a", "a"] * 2, 2, False),
        (["a"] * 8, 1, False),
        (["a", "b"] * 3 + ["a", ""], None, False),
    ],
    ids=str,
)
def test_sources_of_one_class_each_are_seen(sources: list[str], count: int | None, one_sided: bool) -> None:
    predictions = table(source=sources)
    card = trust_of_predictions(predictions, evaluate(predictions, resamples=50))
    assert (card.sources, card.one_sided) == (count, one_sided)
    assert ("D: Each of the" in " ".join(card.reasons)) == one_sided


def test_sources_of_which_all_have_the_same_class_are_not_one_sided() -> None:
    predictions = table(source=["a", "b"] * 4, label=POSITIVE)
    card = trust_of_predictions(predictions, evaluate(predictions, resamples=50))
    assert (card.sources, card.one_sided) == (2, False)


def test_predictions_alone_have_a_box_with_what_is_not_known(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "predictions.csv", index=False)
    _, card = evaluate_file(tmp_path / "predictions.csv", tmp_path)
    assert card.grade == "D"
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["honest_numbers"]["items"]["External AUC"].startswith("not known")
    assert 'class="letter D"' in (tmp_path / "report.html").read_text()


def entered(dataset: str, *auc: float | None, external: bool = True) -> EvaluationFacts:
    return EvaluationFacts(
        dataset=dataset,
        part="all",
        external=external,
        fingerprint="f",
        date="2020-01-01",
        slices=evaluation(*auc),
    )


def test_external_aucs_are_read_from_the_facts() -> None:
    evaluations = [
        entered("own", 0.9, 0.8, 0.95, external=False),
        entered("far", 0.51, 0.44, 0.58),
        entered("one-patient", 0.7),
        entered("one-class", None),
        entered("this", 0.6, 0.5, 0.7),
    ]
    found = {one.dataset: one.auc for one in external_aucs(evaluations, but="this")}
    assert found == {"far": Estimate(value=0.51, low=0.44, high=0.58), "one-patient": Estimate(value=0.7)}


def test_a_recorded_grade_is_in_the_model_card(
    bundle_folder: Path, class_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle_folder, tmp_path / "bundle")
    detector = Detector.load(copy, lungs=False)
    labelled = choose_rows(detector.bundle, str(class_folder), None)
    card = evaluate_detector(detector, labelled, tmp_path / "out", record=True).card
    (entry,) = Bundle.load(copy).facts.evaluations
    assert (entry.grade, entry.grade_reasons) == (card.grade, card.grade_reasons)
    text = (copy / "MODEL_CARD.md").read_text()
    assert f"from A to E: **{card.grade}**" in text
    assert all(f"- {reason}" in text for reason in card.reasons)
