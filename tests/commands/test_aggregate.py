import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import groundglass.commands.aggregate as job
from groundglass.bundle.store import shipped_bundles
from groundglass.commands.aggregate import aggregate
from groundglass.commands.train import bundle_run
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.detect.patient_rule import features, slices_rule
from groundglass.errors import GroundglassError
from groundglass.evaluation.metrics import lung_slices
from groundglass.evaluation.predictions import read_predictions, write_predictions
from groundglass.labels import LUNG_AREAS, POSITIVE

SLICES, PATIENTS = 6, 60


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    """A copy of the shipped detector, so that something can be recorded in it."""
    folder = tmp_path / "bundle"
    shutil.copytree(shipped_bundles("detector")["covid-ct-lite0"], folder)
    return Detector.load(folder)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Sixty patients of six slices, every second one positive."""
    Image.new("L", (64, 64)).save(tmp_path / "slice.png")
    rows = [
        {
            "path": f"{patient}-{number}.png",
            "label": "covid" if patient % 2 else "not covid",
            "patient": f"p{patient}",
            "split": "",
            "source": "elsewhere",
        }
        for patient in range(PATIENTS)
        for number in range(SLICES)
    ]
    for row in rows:
        shutil.copy(tmp_path / "slice.png", tmp_path / row["path"])
    pd.DataFrame(rows).to_csv(tmp_path / "set.csv", index=False)
    return tmp_path / "set.csv"


def answers(lesions_tell: bool) -> object:
    """Predictions in which either the lesions or the scores separate the classes, and the others are noise."""

    def predict(detector: Detector, rows: pd.DataFrame, path: Path, name: str) -> None:
        rng = np.random.default_rng(0)
        table = []
        for label in rows["label"]:
            positive = label == "covid"
            sick = positive if lesions_tell else rng.random() < 0.5
            likely = rng.random() < 0.5 if lesions_tell else positive
            probability = float(np.clip(rng.normal(0.7 if likely else 0.3, 0.25), 0, 1))
            lesions = [int(rng.exponential(120 if sick else 12)) for _ in range(2)]
            table.append([probability, probability, "uncertain", 1000, 1000, *lesions])
        columns = ["score", "probability", "verdict", *LUNG_AREAS]
        answered = pd.DataFrame(table, columns=columns, index=rows.index)
        write_predictions(pd.concat([rows, answered], axis=1).assign(group=rows["patient"]), path)

    return predict


LOGITS = {"mean_logit", "top_logit", "noisy_or", "attention_logit"}


@pytest.mark.parametrize("lesions_tell", [True, False])
def test_the_simplest_informative_one_is_chosen(
    detector: Detector,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lesions_tell: bool,
) -> None:
    monkeypatch.setattr(job, "predict_rows", answers(lesions_tell))
    result = aggregate(detector, str(manifest), tmp_path / "out", record=detector.bundle)
    best = min(result.candidates, key=lambda one: one.loss)
    chosen = next(one.name for one in result.candidates if one.loss <= best.loss + best.loss_error)
    assert result.rule.aggregation == chosen
    assert set(result.rule.weights) - LOGITS if lesions_tell else set(result.rule.weights) & LOGITS
    assert result.counts == {"patients": PATIENTS, "positive": PATIENTS // 2, "left_out": 0}
    judged = {one.name: one.auc for one in result.candidates}
    assert judged[chosen] > 0.9
    assert judged["mean" if lesions_tell else "lesion share"] < 0.75
    again = Detector.load(detector.bundle.source).bundle
    assert again.facts.patient == result.rule
    assert chosen in (again.source / "MODEL_CARD.md").read_text()
    written = json.loads((tmp_path / "out" / "aggregation.json").read_text())
    assert written["rule"]["weights"] == result.rule.weights


def test_another_bundle_gets_the_rule_unless_its_lesions_are_other_ones(
    detector: Detector, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "predict_rows", answers(False))
    detector.bundle.write(tmp_path / "more")
    more = Bundle.load(tmp_path / "more")
    result = aggregate(detector, str(manifest), tmp_path / "out", record=more)
    assert Bundle.load(tmp_path / "more").facts.patient == result.rule
    assert not set(result.rule.weights) & LOGITS  # which belong to the other network
    assert Bundle.load(detector.bundle.source).facts.patient != result.rule
    more.facts = more.facts.model_copy(update={"segmenter_sha256": "0" * 64})
    with pytest.raises(GroundglassError, match="its segmenter is not"):
        aggregate(detector, str(manifest), tmp_path / "out", record=more)


def test_the_rule_gives_what_the_fitted_model_gives(
    detector: Detector, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "predict_rows", answers(True))
    rule = aggregate(detector, str(manifest), tmp_path / "out").rule
    slices = read_predictions(tmp_path / "out" / "predictions.csv")
    units = [of_one for _, of_one in slices.groupby("patient", sort=True)]
    table = pd.DataFrame([features(lung_slices(of_one)) for of_one in units])[list(rule.weights)]
    truth = np.array([bool((of_one["label"] == POSITIVE).any()) for of_one in units])
    expected = (
        make_pipeline(StandardScaler(), LogisticRegression())
        .fit(table.to_numpy(), truth)
        .predict_proba(table.to_numpy())[:, 1]
    )
    found = [rule.probability(lung_slices(of_one)) for of_one in units]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_patients_with_few_slices_are_left_out(
    detector: Detector, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "predict_rows", answers(True))
    with pytest.raises(
        GroundglassError, match="0 patients with COVID-19 and 0 without have at least 7 slices"
    ):
        aggregate(detector, str(manifest), tmp_path / "out", least_slices=7)


def test_slices_without_lungs_choose_nothing(detector: Detector, manifest: Path, tmp_path: Path) -> None:
    for path in pd.read_csv(manifest)["path"]:
        Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (64, 1))).save(tmp_path / path)
    with pytest.raises(GroundglassError, match="none of its slices"):
        aggregate(detector, str(manifest), tmp_path / "out")


@pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
def test_the_own_test_part_chooses_nothing(bundle_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="test set must not be used for choosing"):
        aggregate(Detector.load(bundle_folder), str(class_folder), tmp_path, part="test")


def test_without_lungs_nothing_is_chosen(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="load the detector with lungs=True"):
        aggregate(Detector.load("covid-ct-lite0", lungs=False), str(manifest), tmp_path)


def test_exporting_a_run_again_keeps_what_was_entered(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    bundle = Bundle.load(folder)
    bundle.enter(patient=slices_rule(0.3))
    assert Bundle.load(bundle_run(folder, tmp_path / "x.zip")).facts.patient == slices_rule(0.3)
    assert Bundle.load(folder).facts.patient == slices_rule(0.3)
    (folder / "bundle" / "bundle.json").write_text("{")
    assert Bundle.load(bundle_run(folder, tmp_path / "y.zip")).facts.patient is None
