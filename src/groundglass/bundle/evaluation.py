"""The result of an evaluation, and the table of its metrics' names and meanings."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from groundglass.labels import NEGATIVE, POSITIVE

Unit = Literal["slice", "patient"]
ResampledBy = Literal["patient", "group", "slice"]


@dataclass(frozen=True)
class Metric:
    """A metric's name and meaning, when it is undefined, and how it is shown.

    It is shown multiplied by ``scale``, with this many ``digits``, followed by ``unit``.
    """

    title: str
    meaning: str
    undefined: str = ""
    digits: int = 2
    scale: float = 1.0
    unit: str = ""

    def shown(self, estimate: "Estimate") -> str:
        """An estimate as text, as :func:`format_estimate` gives it."""
        return format_estimate(estimate, self.digits, self.scale, self.unit)


_TABLES = json.loads(resources.files(__package__).joinpath("metrics.json").read_text(encoding="utf-8"))


def metrics_of(table: str, **words: str) -> dict[str, Metric]:
    """The metrics in a table of ``metrics.json``, by name; ``words`` fill in their titles."""
    return {
        name: Metric(**facts | {"title": facts["title"].format(**words)})
        for name, facts in _TABLES[table].items()
    }


METRICS = metrics_of("slices")
"""By name, in the order of display. COVID-19 is the positive class."""


class StoredResult(BaseModel):
    """Measured values that JSON files and bundles hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the class's ``model_validate`` reads them back."""
        return self.model_dump(mode="json")


class Estimate(StoredResult):
    """A metric and its bootstrap interval; None if undefined."""

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
    """The figures of a detector, from ``predictions.csv``.

    Attributes
    ----------
    unit
        What a row is, and so what is counted: a slice or a patient.
    count, positives
        Rows, and those among them that are labelled COVID-19.
    groups, resampled_by
        How many units were resampled for the intervals, and what they are: patients, groups (blocks of slices
        if not all patients are known) or single slices.
    resamples, confidence, seed
        Settings of the bootstrap.
    metrics
        By their name in ``METRICS``. Those that need a yes or no (accuracy to F1) are computed on the
        rows that were answered.
    confusion
        Counts on the rows that were answered.
    aggregation
        How slices became patients, such as ``"patient rule: lesion share"``; blank if a row is a slice.
    notes
        Sentences that readers of the numbers need to know.
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
    """A value and its interval, such as "0.87 (0.81 to 0.92)"; "undefined" if there is no value.

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


OVERLAP_METRICS = {
    "lungs": metrics_of("masks", structure="lung"),
    "lesions": metrics_of("masks", structure="lesion"),
    "lesion_share": metrics_of("lesion_share"),
}
"""By part and name, in the order of display. The main figure is ``dice``."""


class Overlap(StoredResult):
    """Metrics by their name in ``OVERLAP_METRICS``, and the number of cases and slices behind them."""

    cases: int
    slices: int
    metrics: dict[str, Estimate]


class OverlapEvaluation(StoredResult):
    """The figures of a segmentation, from ``masks.csv``.

    Attributes
    ----------
    cases, slices
        In the whole table; cases are what was resampled for the intervals.
    resamples, confidence, seed
        Settings of the bootstrap.
    parts
        Which of ``lungs``, ``lesions`` and ``lesion_share`` the table has. The lesion share is the share of the
        lungs, on the slices that have both structures.
    notes
        Sentences that readers of the numbers need to know.
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
