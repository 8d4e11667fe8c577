"""Evaluate a ``predictions.csv`` without its detector: figures with intervals, curves and tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from groundglass.audit.trust import MEANINGS, TrustCard
from groundglass.audit.trust_measurements import trust_of_predictions
from groundglass.bundle.evaluation import METRICS, Evaluation, format_estimate
from groundglass.detect.patient_rule import PatientRule
from groundglass.evaluation import figures
from groundglass.evaluation.classes import (
    CLASS_COLUMNS,
    CLASS_METRICS,
    ClassesEvaluation,
    class_rows,
    evaluate_classes,
    macro_rows,
)
from groundglass.evaluation.figures import class_confusion, class_roc, to_png, to_svg
from groundglass.evaluation.metrics import evaluate, evaluate_patients
from groundglass.evaluation.predictions import classes_of, read_predictions
from groundglass.files import write_bytes, write_json
from groundglass.labels import CLASS, NEGATIVE, POSITIVE, need_positive
from groundglass.report.page import Card, Picture, Report, Table, write_report

WRONG_SHOWN = 18
RIGHT_SHOWN = 6


@dataclass(frozen=True)
class EvaluatedPredictions:
    """Predictions with their metrics and figures.

    Attributes
    ----------
    predictions
        The content of ``predictions.csv``.
    threshold
        Lowest probability with the verdict covid.
    slices, patients
        Figures per slice and, if patients are known, per patient.
    classes
        Figures of each class, if the detector knows several classes and the labels are among them.
    pictures
        Figures by file name.
    """

    predictions: pd.DataFrame
    threshold: float
    slices: Evaluation
    patients: Evaluation | None
    classes: ClassesEvaluation | None
    pictures: dict[str, Picture]

    def headline(self) -> str:
        """The result in one sentence."""
        auc = dict(self.slices.rows())[METRICS["roc_auc"].title]
        result = f"ROC AUC {auc} on {self.slices.count} slices."
        if self.classes is None:
            return result
        macro = format_estimate(self.classes.metrics["macro_auc"])
        return f"{result} Mean AUC of each class against the rest {macro}."

    def table(self) -> Table:
        """Figures with their intervals, per slice and per patient side by side, and the meaning of each."""
        evaluations = [self.slices] if self.patients is None else [self.slices, self.patients]
        meaning = {metric.title: metric.meaning for metric in METRICS.values()}
        rows = []
        for cells in zip(*(one.rows() for one in evaluations), strict=True):
            name = cells[0][0] if len({title for title, _ in cells}) == 1 else "Count"
            rows.append((name, *[value for _, value in cells], meaning.get(name, "")))
        notes = dict.fromkeys(note for evaluation in evaluations for note in evaluation.notes)
        note = "Intervals are in brackets. The positive class is COVID-19. " + " ".join(notes)
        columns = [f"per {evaluation.unit}" for evaluation in evaluations]
        return Table("Figures with their intervals", ("figure", *columns, "meaning"), rows, note)

    def tables(self) -> list[Table]:
        """All tables of figures: COVID-19 against the rest, and, if there are several, each class."""
        if self.classes is None:
            return [self.table()]
        meanings = [f"{metric.title}: {metric.meaning}." for metric in CLASS_METRICS.values()]
        notes = " ".join((*meanings, *self.classes.notes))
        together = Table("All classes together", ("figure", "value"), macro_rows(self.classes))
        each = Table("Each class against the rest", CLASS_COLUMNS, class_rows(self.classes), notes)
        return [self.table(), together, each]

    def labels(self) -> dict[Path, str]:
        """The label of each slice."""
        return dict(zip(map(Path, self.predictions["path"]), self.predictions["label"], strict=True))

    def telling_slices(self) -> list[Path]:
        """The most certain errors first, then the most certain correct answers of each class.

        With several classes, any class other than the label is an error; certainty refers to COVID-19.
        """
        answered = self.predictions[self.predictions["verdict"].isin((POSITIVE, NEGATIVE))]
        if self.classes is None:
            wrong = (answered["verdict"] == POSITIVE) != (answered["label"] == POSITIVE)
        else:
            wrong = answered[CLASS] != answered["label"]
        sureness = (answered["probability"] - self.threshold).abs()
        ranked = answered.assign(wrong=wrong, sureness=sureness).sort_values("sureness", ascending=False)
        errors = ranked[ranked["wrong"]].head(WRONG_SHOWN)
        right = ranked[~ranked["wrong"]].groupby("label", sort=False).head(RIGHT_SHOWN)
        return [Path(path) for path in pd.concat([errors, right])["path"]]


def evaluate_predictions(
    path: Path, threshold: float | None = None, rule: PatientRule | None = None
) -> EvaluatedPredictions:
    """Evaluate the predictions in a CSV.

    Parameters
    ----------
    path
        A predictions.csv.
    threshold
        The detector's threshold; None means the one that the verdicts imply.
    rule
        The bundle's rule for patients; without it, or without lung areas in the table, a patient's probability is
        the mean over slices.

    Raises
    ------
    GroundglassError
        If the file is missing, is not a predictions.csv, or has no labels.
    """
    predictions = read_predictions(path)
    threshold = implied_threshold(predictions) if threshold is None else threshold
    slices = evaluate(predictions)
    known = (predictions["patient"] != "").any()
    patients = evaluate_patients(predictions, threshold, rule) if known else None
    several = set(classes_of(predictions))
    labelled = several and set(predictions["label"]) <= several
    classes = evaluate_classes(predictions) if labelled else None
    pictures = _draw(predictions, slices, threshold)
    if classes is not None:
        pictures |= _draw_classes(predictions, classes)
    return EvaluatedPredictions(predictions, threshold, slices, patients, classes, pictures)


def write_metrics(evaluated: EvaluatedPredictions, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``metrics.json``, with ``facts`` at its top, and ``figures/``."""
    for name, picture in evaluated.pictures.items():
        write_bytes(folder / "figures" / f"{name}.png", picture.png)
    measured = {
        "positive_class": POSITIVE,
        "threshold": evaluated.threshold,
        "slices": evaluated.slices.to_dict(),
        "patients": evaluated.patients.to_dict() if evaluated.patients else None,
        **({"classes": evaluated.classes.to_dict()} if evaluated.classes else {}),
    }
    write_json(folder / "metrics.json", {**facts, **measured})


def evaluate_file(path: Path, folder: Path) -> tuple[EvaluatedPredictions, TrustCard]:
    """Evaluate a ``predictions.csv`` from any detector, and write metrics, figures and a report.

    Returns
    -------
    The metrics and figures, and the trust card, which states how far to trust the AUC.
    """
    need_positive(read_predictions(path)["label"], str(path))
    evaluated = evaluate_predictions(path)
    card = trust_of_predictions(evaluated.predictions, evaluated.slices)
    write_metrics(evaluated, folder, {"predictions": path.name, "honest_numbers": card.to_dict()})
    report = Report(
        title=f"Predictions in {path.name}",
        headline=evaluated.headline(),
        card=trust_box(card),
        warnings=["Nothing is known about the detector, including whether it was trained on these slices."],
        figures_of_merit=evaluated.tables(),
        pictures=list(evaluated.pictures.values()),
    )
    write_report(report, folder / "report.html")
    return evaluated, card


def implied_threshold(predictions: pd.DataFrame) -> float:
    """The probability between the verdicts ``not covid`` and ``covid``; 0.5 if one of them is missing."""
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
            "roc": ("ROC curve, with the 95% band", figures.roc(predictions, evaluation, threshold)),
            "precision-recall": (
                "Precision and recall",
                figures.precision_recall(predictions, evaluation, threshold),
            ),
            **drawn,
        }
    return {name: drawn_picture(caption, figure) for name, (caption, figure) in drawn.items()}


def drawn_picture(caption: str, figure: Figure) -> Picture:
    """A Matplotlib figure with its caption."""
    return Picture(caption, to_png(figure), to_svg(figure))


def _draw_classes(predictions: pd.DataFrame, classes: ClassesEvaluation) -> dict[str, Picture]:
    confusion = class_confusion(predictions, classes)
    drawn = {"class-confusion": drawn_picture("Confusion matrix of the classes", confusion)}
    if any(estimates["roc_auc"].value is not None for estimates in classes.per_class.values()):
        curves = class_roc(predictions, classes)
        drawn["class-roc"] = drawn_picture("ROC curve of each class against the rest", curves)
    return drawn


def trust_box(card: TrustCard) -> Card:
    """The grade of trust in the AUC, as a box for a report."""
    return Card(
        title="How far the AUC can be trusted",
        grade=card.grade,
        meaning=MEANINGS[card.grade],
        reasons=card.reasons,
        rows=card.rows(),
        note="The AUC is graded, not the detector. The rules are in docs/honest-numbers.md.",
    )
