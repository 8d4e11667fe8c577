"""GG118: how exactly an AUC can be known from the patients that are there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.groups import Kind, effective_number, kind_of_groups, sizes
from groundglass.audit.measure.hanley_mcneil import half_width, needed
from groundglass.evaluate.evaluation import Estimate
from groundglass.labels import NEGATIVE, POSITIVE

AREAS = (0.80, 0.90, 0.95)
JUDGED = 0.90
"""The AUC whose interval is judged."""
WIDE = 0.05
"""Half-width of its 95% interval over which a warning is due."""
AIMS = (0.05, 0.025)
"""Half-widths for which the number of patients is told."""


@dataclass(frozen=True)
class _Groups:
    """The groups of a class: how many, and how many equal ones they are worth."""

    count: int
    worth: float

    @classmethod
    def of(cls, units: NDArray[np.intp]) -> "_Groups":
        slices = sizes(units)
        return cls(len(slices), effective_number(slices))


class TooFewPatients(Check[Material]):
    """Whether the test part has the patients that a trustworthy figure needs."""

    code = "GG118"
    title = "Too few patients"
    severity = "warning"
    needs = ("two classes",)
    remedy = (
        "Test on more patients, or all of them by cross-validation; give every figure with its interval by "
        "patient, and do not rank detectors whose intervals overlap."
    )

    def run(self, material: Material) -> Result:
        """Expect the interval of an AUC from the groups of the test part."""
        name, tested = _tested(material)
        positives = _Groups.of(material.units[tested & material.truth])
        negatives = _Groups.of(material.units[tested & ~material.truth])
        kind = kind_of_groups(material.manifest)
        wide = half_width(JUDGED, positives.worth, negatives.worth)
        return Result(
            "warning" if wide > WIDE else None,
            f"{name} has {positives.count} {kind}s of {POSITIVE} and {negatives.count} of {NEGATIVE}"
            f"{_worth(positives, negatives)}: an AUC of {JUDGED:.2f} on them has the 95% interval "
            f"{_interval(JUDGED, wide)}. For plus or minus {WIDE:g} it takes {needed(JUDGED, WIDE)} patients of "
            f"each class.{_guessed(kind)}",
            Estimate(value=wide),
            f"half-width of the expected 95% interval of an AUC of {JUDGED:.2f}",
            header=(
                "AUC",
                "Expected 95% interval",
                *(f"Patients of each class for ±{aim:g}" for aim in AIMS),
            ),
            rows=tuple(_row(area, positives, negatives) for area in AREAS),
        )


def _tested(material: Material) -> tuple[str, NDArray[np.bool_]]:
    tested = material.parts == "test"
    if not tested.any():
        return "The dataset", np.ones(len(tested), dtype=bool)
    if len(np.unique(material.truth[tested])) < 2:
        raise NotApplicable("The test part is of one class: it gives no AUC.")
    return "The test part", tested


def _worth(positives: _Groups, negatives: _Groups) -> str:
    if positives.count == positives.worth and negatives.count == negatives.worth:
        return ""
    return f", worth {positives.worth:.0f} and {negatives.worth:.0f} of equal size"


def _row(area: float, positives: _Groups, negatives: _Groups) -> tuple[str, ...]:
    width = half_width(area, positives.worth, negatives.worth)
    return f"{area:.2f}", _interval(area, width), *(str(needed(area, aim)) for aim in AIMS)


def _interval(area: float, width: float) -> str:
    return f"{max(0.0, area - width):.2f} to {min(1.0, area + width):.2f}"


def _guessed(kind: Kind) -> str:
    if kind == "patient":
        return ""
    return " As not every patient is known, the patients may be fewer and the interval wider."
