"""The result of an evaluation, and the one table of what its metrics are called and mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from groundglass.labels import NEGATIVE, POSITIVE

Unit = Literal["slice", "patient"]
ResampledBy = Literal["patient", "group", "slice"]


@dataclass(frozen=True)
class Metric:
    """What a metric is called, what it means, when it is undefined, and how it is shown.

    It is shown times ``scale``, with so many ``digits`` and with ``unit`` behind it.
    """

    title: str
    meaning: str
    undefined: str = ""
    digits: int = 2
    scale: float = 1.0
    unit: str = ""

    def shown(self, estimate: "Estimate") -> str:
        """An estimate in text, as :func:`format_estimate` gives it."""
        return format_estimate(estimate, self.digits, self.scale, self.unit)


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


class StoredResult(BaseModel):
    """Measured values that JSON files and bundles hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the class's ``model_validate`` reads them back."""
        return self.model_dump(mode="json")


class Estimate(StoredResult):
    """A metric and its bootstrap interval; None where undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Confusion(StoredResult):
    """Counts of the answers; COVID-19 is positive."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


class Evaluation(StoredResult):
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

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of what was counted and of every metric, such as ("ROC AUC", "0.87 (0.81 to 0.92)").

        The bootstrap interval is in brackets. ``METRICS`` says what each metric means.
        """
        confusion = self.confusion
        return [
            (f"{self.unit}s".capitalize(), f"{self.count}, of which {self.positives} {POSITIVE}"),
            (f"True {POSITIVE}, false {POSITIVE}", f"{confusion.true_positive}, {confusion.false_positive}"),
            (f"True {NEGATIVE}, false {NEGATIVE}", f"{confusion.true_negative}, {confusion.false_negative}"),
            *metric_rows(METRICS, self.metrics),
            ("Intervals", _intervals(self, self.groups, f"{self.resampled_by}s")),
        ]


def format_estimate(estimate: Estimate, digits: int = 2, scale: float = 1.0, unit: str = "") -> str:
    """A value and its interval, such as "0.87 (0.81 to 0.92)"; "undefined" where there is no value.

    Both are multiplied by ``scale``; ``unit`` follows the value.
    """
    if estimate.value is None:
        return "undefined"
    # z: a small negative bias is 0.0, not -0.0.
    value, *interval = (
        f"{number * scale:z.{digits}f}"
        for number in (estimate.value, estimate.low, estimate.high)
        if number is not None
    )
    return f"{value}{unit}" + (f" ({' to '.join(interval)})" if interval else "")


def metric_rows(metrics: Mapping[str, Metric], estimates: Mapping[str, Estimate]) -> list[tuple[str, str]]:
    """Title and value of every metric, in the order of ``metrics``."""
    return [(metric.title, metric.shown(estimates[name])) for name, metric in metrics.items()]


def _intervals(evaluation: "Evaluation | OverlapEvaluation", units: int, plural: str) -> str:
    drawn = f"{evaluation.resamples} bootstrap resamples of {units} {plural}"
    return f"{evaluation.confidence:.0%}, {drawn}" if units > 1 else "none"


_OverlapMetric = partial(Metric, digits=3)


def _mask_metrics(word: str) -> dict[str, Metric]:
    return {
        "dice": _OverlapMetric(
            f"{word} Dice, mean over cases",
            "2 x common / (true + predicted) pixels of a case, its slices taken together as one volume; 1 where "
            "both masks of the case are empty",
        ),
        "pooled_dice": _OverlapMetric(
            f"{word} Dice, all slices pooled",
            "2 x common / (true + predicted) pixels of all slices; large structures weigh most",
            "all masks are empty",
        ),
        "slice_dice": _OverlapMetric(
            f"{word} Dice, mean over slices",
            "a slice where both masks are empty counts as 1, so it rises with the share of such slices",
        ),
        "hd95": _OverlapMetric(
            f"{word} HD95, mean over cases",
            "95th percentile of the distance between the outlines in a slice, in pixels of the slice; "
            "mean over a case's slices in which neither mask is empty",
            "no slice has both masks",
            digits=1,
            unit=" px",
        ),
        "sensitivity": _OverlapMetric(
            f"{word} sensitivity, mean over cases",
            "share of a case's true pixels that are found",
            "no true pixels",
        ),
        "precision": _OverlapMetric(
            f"{word} precision, mean over cases",
            "share of a case's predicted pixels that are true",
            "no predicted pixels",
        ),
    }


def _share_metric(name: str, meaning: str) -> Metric:
    undefined = "no case has lungs in both masks"
    return _OverlapMetric(
        f"lesion share, {name}", meaning, undefined, digits=1, scale=100, unit=" percentage points"
    )


OVERLAP_METRICS = {
    "lungs": _mask_metrics("lung"),
    "lesions": _mask_metrics("lesion"),
    "lesion_share": {
        "mean_absolute_error": _share_metric(
            "mean absolute error", "distance of predicted and true lesion pixels / lung pixels of a case"
        ),
        "bias": _share_metric(
            "bias", "mean of predicted minus true lesion pixels / lung pixels of a case; above 0 is too much"
        ),
    },
}
"""By part and name, in the order of display. The main figure is ``dice``."""


class Overlap(StoredResult):
    """Metrics by their name in ``OVERLAP_METRICS``, and how many cases and slices they are of."""

    cases: int
    slices: int
    metrics: dict[str, Estimate]


class OverlapEvaluation(StoredResult):
    """What ``masks.csv`` says of a segmentation.

    Attributes
    ----------
    cases, slices
        In the whole table; cases are what was resampled for the intervals.
    resamples, confidence, seed
        Of the bootstrap.
    parts
        ``lungs``, ``lesions`` and ``lesion_share``, those that the table has. The lesion share is a fraction of
        the lungs, of the slices that have both structures.
    notes
        Sentences that a reader of the numbers must know.
    """

    cases: int
    slices: int
    resamples: int
    confidence: float
    seed: int
    parts: dict[str, Overlap]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every metric, such as ("lung Dice, mean over cases", "0.974 (0.968 to 0.980)").

        The bootstrap interval is in brackets. The first row counts cases and slices; the last says what was
        resampled.
        """
        return [
            ("cases and slices", f"{self.cases}, {self.slices}"),
            *(
                row
                for part, overlap in self.parts.items()
                for row in metric_rows(OVERLAP_METRICS[part], overlap.metrics)
            ),
            ("intervals", _intervals(self, self.cases, "cases")),
        ]
