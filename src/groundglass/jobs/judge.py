"""From a ``predictions.csv`` alone to figures with intervals, pictures and a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from groundglass.evaluate import figures
from groundglass.evaluate.evaluation import METRICS, Evaluation
from groundglass.evaluate.metrics import evaluate, evaluate_patients
from groundglass.evaluate.predictions import read_predictions
from groundglass.evaluate.summary import summary_rows
from groundglass.files import write_bytes, write_json
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.report.page import Picture, Report, Table, write_report

WRONG_SHOWN = 18
RIGHT_SHOWN = 6


@dataclass(frozen=True)
class Judgement:
    """What predictions are worth.

    Attributes
    ----------
    predictions
        The content of ``predictions.csv``.
    threshold
        Probability from which on the verdict is covid.
    slices, patients
        Figures per slice, and per patient where patients are known.
    pictures
        Figures by file name.
    """

    predictions: pd.DataFrame
    threshold: float
    slices: Evaluation
    patients: Evaluation | None
    pictures: dict[str, Picture]

    def headline(self) -> str:
        """The one sentence to begin with."""
        auc = dict(summary_rows(self.slices))[METRICS["roc_auc"].title]
        return f"ROC AUC {auc} on {self.slices.count} slices."

    def table(self) -> Table:
        """Figures with their intervals, per slice and per patient side by side, and what each means."""
        evaluations = [self.slices] if self.patients is None else [self.slices, self.patients]
        meaning = {metric.title: metric.meaning for metric in METRICS.values()}
        rows = []
        for cells in zip(*map(summary_rows, evaluations), strict=True):
            name = cells[0][0] if len({title for title, _ in cells}) == 1 else "Count"
            rows.append((name, *[value for _, value in cells], meaning.get(name, "")))
        notes = dict.fromkeys(note for evaluation in evaluations for note in evaluation.notes)
        note = "In brackets the interval. The positive class is COVID-19. " + " ".join(notes)
        columns = [f"per {evaluation.unit}" for evaluation in evaluations]
        return Table("Figures with their intervals", ("figure", *columns, "meaning"), rows, note)

    def labels(self) -> dict[Path, str]:
        """The label of each slice."""
        return dict(zip(map(Path, self.predictions["path"]), self.predictions["label"], strict=True))

    def telling_slices(self) -> list[Path]:
        """The surest errors first, then the surest right answers of each class."""
        answered = self.predictions[self.predictions["verdict"].isin((POSITIVE, NEGATIVE))]
        wrong = (answered["verdict"] == POSITIVE) != (answered["label"] == POSITIVE)
        sureness = (answered["probability"] - self.threshold).abs()
        ranked = answered.assign(wrong=wrong, sureness=sureness).sort_values("sureness", ascending=False)
        errors = ranked[ranked["wrong"]].head(WRONG_SHOWN)
        right = ranked[~ranked["wrong"]].groupby("label", sort=False).head(RIGHT_SHOWN)
        return [Path(path) for path in pd.concat([errors, right])["path"]]


def judge(path: Path, threshold: float | None = None) -> Judgement:
    """Judge the predictions in a CSV; without a ``threshold``, by the one that its verdicts imply.

    Raises
    ------
    GroundglassError
        If the file is missing, is no predictions.csv or has no labels.
    """
    predictions = read_predictions(path)
    threshold = _implied_threshold(predictions) if threshold is None else threshold
    slices = evaluate(predictions)
    known = (predictions["patient"] != "").any()
    patients = evaluate_patients(predictions, threshold) if known else None
    return Judgement(predictions, threshold, slices, patients, _draw(predictions, slices, threshold))


def write_judgement(judgement: Judgement, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``metrics.json``, with ``facts`` at its top, and ``figures/``."""
    for name, picture in judgement.pictures.items():
        write_bytes(folder / "figures" / f"{name}.png", picture.png)
    measured = {
        "positive_class": POSITIVE,
        "threshold": judgement.threshold,
        "slices": judgement.slices.to_dict(),
        "patients": judgement.patients.to_dict() if judgement.patients else None,
    }
    write_json(folder / "metrics.json", {**facts, **measured})


def evaluate_file(path: Path, folder: Path) -> Judgement:
    """Judge a ``predictions.csv``, whoever made it, and write metrics, figures and a report."""
    judgement = judge(path)
    write_judgement(judgement, folder, {"predictions": path.name})
    report = Report(
        title=f"Predictions in {path.name}",
        headline=judgement.headline(),
        warnings=["Nothing is known of the detector, or of whether it was trained on these slices."],
        figures_of_merit=[judgement.table()],
        pictures=list(judgement.pictures.values()),
    )
    write_report(report, folder / "report.html")
    return judgement


def _implied_threshold(predictions: pd.DataFrame) -> float:
    highest = predictions.loc[predictions["verdict"] == NEGATIVE, "probability"].max()
    lowest = predictions.loc[predictions["verdict"] == POSITIVE, "probability"].min()
    return 0.5 if pd.isna(highest) or pd.isna(lowest) else float((highest + lowest) / 2)


def _draw(predictions: pd.DataFrame, evaluation: Evaluation, threshold: float) -> dict[str, Picture]:
    # ROC and precision-recall curves need both classes.
    drawn = {
        "calibration": ("Calibration of the probability", figures.calibration(predictions, evaluation)),
        "confusion": ("Confusion matrix", figures.confusion_matrix(predictions, evaluation)),
        "scores": ("Probabilities by class", figures.scores(predictions, evaluation, threshold)),
    }
    if evaluation.metrics["roc_auc"].value is not None:
        drawn = {
            "roc": ("ROC curve, with the 95% band", figures.roc(predictions, evaluation)),
            "precision-recall": ("Precision and recall", figures.precision_recall(predictions, evaluation)),
            **drawn,
        }
    return {name: Picture(caption, figures.to_png(figure)) for name, (caption, figure) in drawn.items()}
