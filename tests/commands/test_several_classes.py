"""Detectors of several classes from training to evaluation and prediction, on easy pictures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, roc_auc_score
from typer.testing import CliRunner

from groundglass.cli.app import app
from groundglass.commands.evaluate import choose_rows, evaluate_detector
from groundglass.commands.predict import predict
from groundglass.commands.train import train
from groundglass.data.manifest import import_path, read_manifest, write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.evaluation.classes import CLASS_COLUMNS, MACRO_METRICS
from groundglass.evaluation.predictions import classes_of, read_predictions
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE
from groundglass.recipe.recipe import ClassificationRecipe, RecipeError
from groundglass.report.predictions import evaluate_predictions
from groundglass.scan.find import find_scans
from groundglass.segment.segmenter import Segmenter
from groundglass.train.run import Run
from groundglass.train.slices import decode
from groundglass.train.tasks.classify import ClassifyTask

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")

CLASSES = ("normal", POSITIVE, "viral pneumonia")
COLUMNS = [f"probability_{name}" for name in CLASSES]
RECIPE = """
name: tiny-classes
seed: 3
data:
  dataset: "{dataset}"
  split: random
  fractions: [0.5, 0.25, 0.25]
  classes: [normal, covid, viral pneumonia]
preprocessing: {{size: [32, 32], channels: 1}}
augmentation: {{flip: 0.5, noise: 0.02, mixup: 0.2}}
model: {{name: small-cnn, filters: [8, 8]}}
loss: {{label_smoothing: 0.05}}
optimiser: {{name: adam, lr: 0.01}}
training: {{epochs: 8, batch_size: 8, precision: "32", best_by: val_loss}}
"""


@pytest.fixture(scope="module")
def folder(class_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs are covid, dark ones normal, one of each viral pneumonia; a fourth label is not used."""
    root = tmp_path_factory.mktemp("four-classes")
    for label in (*CLASSES, "lung cancer"):
        (root / label).mkdir()
    for number in range(24):
        bright, dark = (Image.open(class_folder / label / f"{number}.png") for label in ("covid", "normal"))
        bright.save(root / POSITIVE / f"{number}.png")
        if number < 20:
            dark.save(root / "normal" / f"{number}.png")
            Image.blend(bright, dark, 0.5).save(root / "viral pneumonia" / f"{number}.png")
        if number < 4:
            bright.rotate(90).save(root / "lung cancer" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def recipe_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny-classes.yaml"
    path.write_text(RECIPE.format(dataset=folder))
    return path


@pytest.fixture(scope="module")
def trained(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe_file, (), tmp_path_factory.mktemp("runs") / "tiny", tell=lambda line: None)


@pytest.fixture(scope="module")
def detector(trained: Run) -> Detector:
    return Detector.load(trained.folder, lungs=False)


def groundglass(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def kept(run: Run) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Logits of the validation slices by the network that a run keeps, and the numbers of their classes."""
    recipe = run.recipe()
    assert isinstance(recipe, ClassificationRecipe)
    rows = read_manifest(run.manifest_file).query("split == 'val'")
    grey = decode([Path(path) for path in rows["path"]], recipe.preprocessing)
    target = np.array([CLASSES.index(label) for label in rows["label"]])
    return ClassifyTask(recipe).kept(run).logits(grey).astype(float), target


def by_scikit_learn(predictions: pd.DataFrame) -> dict[str, float]:
    label, answer = predictions["label"], predictions["class"]
    probabilities = predictions[COLUMNS].to_numpy()
    areas = [
        roc_auc_score(label == name, column)
        for name, column in zip(CLASSES, probabilities.T, strict=True)
        if (label == name).any()
    ]
    return {
        "accuracy": accuracy_score(label, answer),
        "macro_sensitivity": balanced_accuracy_score(label, answer),
        "macro_auc": float(np.mean(areas)),
    }


def check_answers(predictions: pd.DataFrame, threshold: float) -> None:
    """Probabilities add up, and verdict and answer follow from them and the threshold."""
    probabilities = predictions[COLUMNS]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=3e-6)
    np.testing.assert_array_equal(predictions["probability"], predictions[f"probability_{POSITIVE}"])
    positive = predictions["probability"] >= threshold
    assert (predictions["verdict"] == np.where(positive, POSITIVE, NEGATIVE)).all()
    others = probabilities.drop(columns=f"probability_{POSITIVE}").idxmax(axis=1)
    answers = others.str.removeprefix("probability_").mask(positive, POSITIVE)
    assert predictions["class"].tolist() == answers.tolist()


def test_each_class_gets_a_probability(trained: Run) -> None:
    predictions = read_predictions(trained.predictions_file)
    assert classes_of(predictions) == CLASSES
    assert set(predictions["label"]) == set(predictions["class"]) == set(CLASSES)
    check_answers(predictions, trained.facts()["threshold"])


def test_the_probabilities_are_those_of_the_network_calibrated(trained: Run) -> None:
    predictions = read_predictions(trained.predictions_file)
    logits, _ = kept(trained)
    calibrated = softmax(logits / trained.facts()["temperature"], axis=1)
    np.testing.assert_allclose(predictions[COLUMNS], calibrated, atol=1e-4)
    np.testing.assert_allclose(predictions["score"], softmax(logits, axis=1)[:, 1], atol=1e-4)


def test_a_network_learns_what_is_easy(trained: Run) -> None:
    log = pd.read_csv(trained.log_file)
    assert log.notna().all(axis=None)
    assert log["val_loss"].iloc[-1] < 0.7 * log["val_loss"].iloc[0]
    assert log["val_auc"].max() > 0.95
    assert log["val_accuracy"].max() > 0.8


def test_the_log_is_that_of_scikit_learn(trained: Run) -> None:
    logits, target = kept(trained)
    log = pd.read_csv(trained.log_file).set_index("epoch").loc[trained.facts()["best_epoch"]]
    area = roc_auc_score(target, softmax(logits, axis=1), multi_class="ovr")
    assert log["val_auc"] == pytest.approx(area, abs=1e-5)
    assert log["val_accuracy"] == pytest.approx(accuracy_score(target, logits.argmax(axis=1)), abs=1e-5)


def test_labels_that_are_not_named_are_left_out(trained: Run, folder: Path) -> None:
    assert "lung cancer" in set(import_path(folder)["label"])
    manifest = read_manifest(trained.manifest_file)
    assert manifest["label"].value_counts().to_dict() == {POSITIVE: 24, "normal": 20, "viral pneumonia": 20}


def test_the_report_of_the_run_has_the_classes(trained: Run) -> None:
    report = trained.report_file.read_text()
    for text in (
        "All classes together",
        "Each class against the rest",
        "Confusion matrix of the classes",
        "ROC curve of each class against the rest",
        *CLASS_COLUMNS,
        *(metric.title for metric in MACRO_METRICS.values()),
    ):
        assert f"{text}<" in report or f'{text}"' in report, text
    facts = Bundle.load(trained.folder).facts
    assert facts.classes == CLASSES
    assert ", ".join(CLASSES) in (trained.bundle_folder / "MODEL_CARD.md").read_text()


def check_metrics(written: Path, count: int) -> None:
    metrics = json.loads((written / "metrics.json").read_text())
    predictions = read_predictions(written / "predictions.csv")
    assert metrics["slices"]["count"] == metrics["classes"]["count"] == len(predictions) == count
    assert metrics["classes"]["classes"] == list(CLASSES)
    for name, value in by_scikit_learn(predictions).items():
        assert metrics["classes"]["metrics"][name]["value"] == pytest.approx(value), name
    table = confusion_matrix(predictions["label"], predictions["class"], labels=CLASSES)
    assert metrics["classes"]["confusion"] == table.tolist()
    area = roc_auc_score(predictions["label"] == POSITIVE, predictions["probability"])
    assert metrics["slices"]["metrics"]["roc_auc"]["value"] == pytest.approx(area)


def test_evaluate_covers_each_class(trained: Run, folder: Path, tmp_path: Path) -> None:
    printed = groundglass("evaluate", "-b", trained.folder, "--data", folder, "-o", tmp_path, "--no-lungs")
    assert "Each class against the rest" in printed
    assert "viral pneumonia" in printed
    test = read_manifest(trained.manifest_file).query("split == 'test'")
    check_metrics(tmp_path, len(test))
    predictions = read_predictions(tmp_path / "predictions.csv")
    assert set(predictions["path"]) == set(test["path"])
    check_answers(predictions, trained.facts()["threshold"])
    assert {"class-confusion.png", "class-roc.png", "roc.png"} <= {
        file.name for file in (tmp_path / "figures").iterdir()
    }
    report = (tmp_path / "report.html").read_text()
    assert "All classes together" in report
    assert ", of normal 0." in report


def test_a_wrong_class_is_shown_as_an_error(trained: Run, tmp_path: Path) -> None:
    predictions = pd.read_csv(trained.predictions_file)
    normal = predictions.index[(predictions["label"] == "normal") & (predictions["class"] == "normal")]
    predictions.loc[normal[-1], "class"] = "viral pneumonia"  # not covid, as is its label
    predictions.to_csv(tmp_path / "predictions.csv", index=False)
    evaluated = evaluate_predictions(tmp_path / "predictions.csv")
    wrong = predictions[predictions["class"] != predictions["label"]]
    shown = list(map(str, evaluated.telling_slices()))
    assert set(shown[: len(wrong)]) == set(wrong["path"])
    assert f"Mean AUC of each class against the rest {by_scikit_learn(predictions)['macro_auc']:.2f} (" in (
        evaluated.headline()
    )


def test_the_predictions_alone_give_the_same_figures(trained: Run, tmp_path: Path) -> None:
    groundglass("evaluate", trained.predictions_file, "-o", tmp_path)
    (tmp_path / "predictions.csv").write_bytes(trained.predictions_file.read_bytes())
    check_metrics(tmp_path, len(pd.read_csv(trained.predictions_file)))
    assert "Each class against the rest" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("other", "judged"), [("normal", True), (NEGATIVE, False), ("healthy", False)])
def test_other_labels_are_evaluated_as_far_as_possible(
    detector: Detector, class_folder: Path, tmp_path: Path, other: str, judged: bool
) -> None:
    """For labels that the detector knows, all figures are given; for others, COVID-19 against the rest."""
    manifest = import_path(class_folder)[::4]
    manifest["label"] = manifest["label"].where(manifest["label"] == POSITIVE, other)
    write_manifest(manifest.assign(source="elsewhere"), tmp_path / "other.csv")
    labelled = choose_rows(detector.bundle, str(tmp_path / "other.csv"), None)
    assert labelled.external
    outcome = evaluate_detector(detector, labelled, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    predictions = read_predictions(tmp_path / "out" / "predictions.csv")
    assert classes_of(predictions) == CLASSES
    area = roc_auc_score(predictions["label"] == POSITIVE, predictions["probability"])
    assert metrics["slices"]["metrics"]["roc_auc"]["value"] == pytest.approx(area)
    assert ("classes" in metrics) == judged
    assert ("Each class against the rest" in (tmp_path / "out" / "report.html").read_text()) == judged
    if judged:
        assert outcome.evaluated.classes is not None
        assert outcome.evaluated.classes.metrics["macro_auc"].value == pytest.approx(
            by_scikit_learn(predictions)["macro_auc"]
        )


def test_a_slice_that_is_refused_has_no_answer(trained: Run, folder: Path, tmp_path: Path) -> None:
    detector = Detector(Bundle.load(trained.folder), Segmenter.load())
    labelled = choose_rows(detector.bundle, str(folder), "val")
    outcome = evaluate_detector(detector, labelled, tmp_path)
    predictions = read_predictions(tmp_path / "predictions.csv")
    refused = predictions["verdict"] == NOT_A_CHEST_CT
    assert refused.any()
    np.testing.assert_allclose(predictions[COLUMNS].sum(axis=1), 1, atol=3e-6)
    assert outcome.evaluated.classes is not None
    assert np.sum(outcome.evaluated.classes.confusion) == (~refused).sum()


def test_predict_names_the_classes(detector: Detector, folder: Path, tmp_path: Path) -> None:
    files = find_scans([folder])
    prediction = predict(files, tmp_path, detector=detector, heatmaps=False)
    table = read_predictions(tmp_path / "predictions.csv")
    assert table["path"].tolist() == list(map(str, files))
    assert table.columns[-4:].tolist() == ["class", *COLUMNS]
    check_answers(table, detector.bundle.facts.threshold)
    findings = json.loads((tmp_path / "findings.json").read_text())
    assert findings == prediction.document
    assert findings["bundle"]["classes"] == list(CLASSES)
    for found, (_, row) in zip(findings["slices"], table.iterrows(), strict=True):
        assert (found["path"], found["class"]) == (row["path"], row["class"])
        assert tuple(found["probabilities"]) == CLASSES
        assert sum(found["probabilities"].values()) == pytest.approx(1, abs=3e-6)
        assert found["probabilities"][POSITIVE] == found["probability"]
        assert [found["probabilities"][name] for name in CLASSES] == row[COLUMNS].tolist()
    right = table["class"] == [Path(path).parent.name for path in table["path"]]
    assert right[~table["path"].str.contains("lung cancer")].mean() > 0.8


def test_the_report_of_a_prediction_lists_the_other_classes(
    detector: Detector, folder: Path, tmp_path: Path
) -> None:
    path = folder / "normal" / "0.png"
    (row,) = predict([path], tmp_path, detector=detector).rows
    report = (tmp_path / "report.html").read_text()
    cells = ("slice", "probability", "normal", "viral pneumonia", "verdict", "lesions in the lungs")
    assert "".join(f'<th scope="col">{cell}</th>' for cell in cells) in report
    shown = (row.probability, *(row.probabilities[name] for name in ("normal", "viral pneumonia")))
    values = ("0.png", *(f"{value:.3f}" for value in shown), row.verdict)
    assert "".join(f"<td>{value}</td>" for value in values) in report
    assert row.predicted_class == "normal"
    assert f", of normal {row.probabilities['normal']:.2f}" in report
    assert f"probability of COVID-19 {row.probability:.2f}" in report


def test_predict_prints_the_class_of_what_is_not_covid(trained: Run, folder: Path) -> None:
    files = [folder / "normal" / "0.png", folder / POSITIVE / "0.png"]
    other, covid = groundglass("predict", *files, "-b", trained.folder, "--no-lungs").splitlines()[:2]
    assert other.startswith("not covid")
    assert other.endswith("(normal)")
    assert covid.startswith("covid ")
    assert covid.endswith(".png")


class StoppedError(Exception):
    """What stops a run in the tests."""


def test_a_stopped_run_is_resumed_to_the_same_result(trained: Run, recipe_file: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if line.startswith("epoch 6/"):
            raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe_file, (), tmp_path / "run", tell=stop)
    run = train(recipe_file, (), tmp_path / "run", resume=True, tell=lambda line: None)
    assert run.log_file.read_text() == trained.log_file.read_text()
    assert run.predictions_file.read_text() == trained.predictions_file.read_text()
    assert Bundle.load(run.folder).graph == Bundle.load(trained.folder).graph


def test_alpha_is_refused_before_anything_is_written(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"loss\.alpha"):
        train(recipe_file, ("loss={name: focal, alpha: 0.25}",), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_focal_loss_and_balanced_classes_train(recipe_file: Path, tmp_path: Path) -> None:
    """Focal loss (Lin et al. 2017), each class with the inverse of its share of the training slices."""
    loss = "loss={name: focal, gamma: 2, class_weights: balanced}"
    run = train(recipe_file, (loss, "training.epochs=4"), tmp_path / "run", tell=lambda line: None)
    log = pd.read_csv(run.log_file)
    assert log["val_loss"].iloc[-1] < log["val_loss"].iloc[0]
    labels = read_manifest(run.manifest_file).query("split == 'train'")["label"]
    weights = 1 / (3 * labels.value_counts(normalize=True)[list(CLASSES)].to_numpy())
    assert np.ptp(weights) > 0.1
    logits, target = kept(run)
    likely = softmax(logits, axis=1)[np.arange(len(target)), target]
    expected = np.mean(weights[target] * (1 - likely) ** 2 * -np.log(likely))
    assert log["val_loss"].min() == pytest.approx(expected, rel=1e-3)
