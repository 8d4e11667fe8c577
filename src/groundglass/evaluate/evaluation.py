"""The result of an evaluation, and the one table of what its metrics are called and mean."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from groundglass.labels import NEGATIVE, POSITIVE

Unit = Literal["slice", "patient"]
ResampledBy = Literal["patient", "group", "slice"]


@dataclass(frozen=True)
class Metric:
    """What a metric is called, what it means, when it is undefined, and how many digits are shown."""

    title: str
    meaning: str
    undefined: str = ""
    digits: int = 2


METRICS = {
    "accuracy": Metric(
        "Accuracy",
        "share of the answers that are right; depends on how common COVID-19 is",
        "nothing answered",
    ),
    "balanced_accuracy": Metric(
        "Balanced accuracy", "mean of sensitivity and specificity; 0.5 is chance", "a class without answers"
    ),
    "sensitivity": Metric(
        "Sensitivity (recall)", "share of COVID-19 that is answered covid", "no COVID-19 answered"
    ),
    "specificity": Metric(
        "Specificity", "share of the others that is answered not covid", "nothing but COVID-19 answered"
    ),
    "ppv": Metric(
        "PPV (precision)",
        "share of the answers covid that are right; falls where COVID-19 is rarer than here",
        "nothing answered covid",
    ),
    "npv": Metric(
        "NPV",
        "share of the answers not covid that are right; falls where COVID-19 is commoner than here",
        "nothing answered not covid",
    ),
    "f1": Metric(
        "F1", "harmonic mean of sensitivity and PPV", "no COVID-19 answered and nothing answered covid"
    ),
    "roc_auc": Metric(
        "ROC AUC",
        "chance that a case of COVID-19 is given a higher probability than another; 0.5 is chance",
        "only one class",
    ),
    "pr_auc": Metric(
        "PR AUC",
        "average precision over all thresholds; chance is the share of COVID-19 here",
        "only one class",
    ),
    "brier": Metric("Brier score", "mean squared distance of probability and truth; 0 is perfect", digits=3),
    "ece": Metric(
        "ECE",
        "calibration error: how far probabilities lie from what is observed; 0 is perfect, and with few "
        "slices both value and interval come out too high",
        digits=3,
    ),
    "coverage": Metric("Coverage", "share that is answered, neither uncertain nor not a chest CT"),
}
"""By name, in the order of display. COVID-19 is the positive class."""


class _Result(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Result):
    """A metric and its bootstrap interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Confusion(_Result):
    """Counts of the answers; COVID-19 is positive."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


class Evaluation(_Result):
    """What ``predictions.csv`` says of a detector.

    Attributes
    ----------
    unit
        What a row is, and hence what is counted: a slice or a patient.
    count, positives
        Rows, and those among them that are labelled COVID-19.
    groups, resampled_by
        How many units were resampled for the intervals, and what they are: patients, groups (blocks of slices
        where patients are not known for all) or single slices.
    resamples, confidence, seed
        Of the bootstrap.
    metrics
        By their name in ``METRICS``. Those that need a yes or no (accuracy to F1) are of the rows answered.
    confusion
        Of the rows answered.
    aggregation
        How slices became patients, such as ``"patient rule: lesion share"``; blank if a row is a slice.
    notes
        Sentences that a reader of the numbers must know.
    """

    unit: Unit
    count: int
    positives: int
    groups: int
    resampled_by: ResampledBy
    resamples: int
    confidence: float
    seed: int
    metrics: dict[str, Estimate]
    confusion: Confusion
    aggregation: str = ""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``Evaluation.model_validate`` reads them back."""
        return self.model_dump(mode="json")


def summary_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Name and value of what was counted and of every metric, such as ("ROC AUC", "0.87 (0.81 to 0.92)").

    In brackets stands the bootstrap interval. What each name means is in
    :data:`~groundglass.evaluate.evaluation.METRICS`, under the metric's key.
    """
    unit = f"{evaluation.unit}s".capitalize()
    confusion = evaluation.confusion
    drawn = f"{evaluation.resamples} bootstrap resamples of {evaluation.groups} {evaluation.resampled_by}s"
    basis = f"{evaluation.confidence:.0%}, {drawn}" if evaluation.groups > 1 else "none"
    return [
        (unit, f"{evaluation.count}, of which {evaluation.positives} {POSITIVE}"),
        (f"True {POSITIVE}, false {POSITIVE}", f"{confusion.true_positive}, {confusion.false_positive}"),
        (f"True {NEGATIVE}, false {NEGATIVE}", f"{confusion.true_negative}, {confusion.false_negative}"),
        *(
            (metric.title, format_estimate(evaluation.metrics[name], metric.digits))
            for name, metric in METRICS.items()
        ),
        ("Intervals", basis),
    ]


def format_estimate(estimate: Estimate, digits: int = 2) -> str:
    """A value and its interval, such as "0.87 (0.81 to 0.92)"; "undefined" where there is no value."""
    if estimate.value is None:
        return "undefined"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"
