"""GG116 to GG119: whether there are enough slices, classes and patients, and how many files are unreadable."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, norm

from groundglass.audit.check import SEVERITIES, Check, NotApplicable, Result, Severity
from groundglass.audit.material import Material
from groundglass.audit.measures import Kind, kind_of_groups
from groundglass.bundle.evaluation import Estimate
from groundglass.data.manifest import PARTS
from groundglass.evaluation.bootstrap import FEW_UNITS
from groundglass.labels import NEGATIVE, POSITIVE

MOST_TO_ONE = 3.0
"""A warning is given above this ratio of the commoner class to the rarer."""
UNLIKELY = 0.01
"""A warning is given below this p-value of the chi-squared test between parts."""

Finding = tuple[Severity, str]
"""A severity and a sentence."""


def _worst(findings: list[Finding]) -> Severity | None:
    return min((severity for severity, _ in findings), key=SEVERITIES.index, default=None)


@dataclass(frozen=True)
class _Count:
    name: str
    positives: int
    negatives: int
    groups: int

    @classmethod
    def of(cls, material: Material, name: str, where: NDArray[np.bool_]) -> "_Count":
        positives = int(material.truth[where].sum())
        return cls(name, positives, int(where.sum()) - positives, len(np.unique(material.units[where])))

    @property
    def slices(self) -> int:
        return self.positives + self.negatives

    @property
    def commoner(self) -> str:
        return POSITIVE if self.positives > self.negatives else NEGATIVE

    @property
    def most(self) -> int:
        """Slices of the commoner class."""
        return max(self.positives, self.negatives)

    @property
    def share(self) -> float:
        """Share of the commoner class."""
        return self.most / self.slices

    @property
    def single(self) -> bool:
        return min(self.positives, self.negatives) == 0

    @property
    def lopsided(self) -> bool:
        return not self.single and self.share > MOST_TO_ONE * (1 - self.share)

    @property
    def row(self) -> tuple[str, ...]:
        return self.name, str(self.slices), str(self.positives), str(self.negatives), f"{self.share:.0%}"


class ClassBalance(Check[Material]):
    """Whether both classes are present in similar numbers, everywhere."""

    code = "GG116"

    def run(self, material: Material) -> Result:
        """Count the classes."""
        everything = _Count.of(material, "all", np.ones(len(material.truth), dtype=bool))
        parts = [_Count.of(material, f"{part} set", material.parts == part) for part in PARTS]
        parts = [part for part in parts if part.slices]
        sources = _sources(material)
        findings = list(_findings(material, everything, parts, sources))
        return self.result(
            _worst(findings),
            Estimate(value=everything.share),
            rows=[count.row for count in (everything, *parts, *sources)],
            everything=everything,
            findings=[sentence for _, sentence in findings],
        )


def _sources(material: Material) -> list[_Count]:
    """The sources, if there are several."""
    source = material.manifest["source"].to_numpy(dtype=str)
    names = np.unique(source)
    if len(names) < 2:
        return []
    return [_Count.of(material, f"source {name}" if name else "no source", source == name) for name in names]


def _findings(
    material: Material, everything: _Count, parts: list[_Count], sources: list[_Count]
) -> Iterator[Finding]:
    if everything.single:
        yield "error", "There is no slice of the other class, so there is nothing to distinguish."
        return
    if names := _names(part for part in parts if part.single):
        yield "error", f"Only one class: {names}."
    single = [source for source in sources if source.single]
    if names := _names(source for source in single if source.groups >= FEW_UNITS):
        yield "error", f"Only one class, so the source alone reveals the label: {names}."
    if names := _names(source for source in single if source.groups < FEW_UNITS):
        yield "warning", f"Only one class, but fewer than {FEW_UNITS} patients or groups: {names}."
    if names := _names(count for count in (everything, *parts, *sources) if count.lopsided):
        yield "warning", f"One class is more than {MOST_TO_ONE:g} times as frequent as the other: {names}."
    p_value = _p_value(material)
    if p_value < UNLIKELY:
        yield (
            "warning",
            f"The share of {POSITIVE} differs between the parts by more than chance (p {p_value:.1g}).",
        )


def _names(counts: Iterator[_Count]) -> str:
    return ", ".join(
        f"{count.name} ({count.positives} {POSITIVE}, {count.negatives} not)" for count in counts
    )


def _p_value(material: Material) -> float:
    """The p-value of Pearson's chi-squared test between parts, counting groups; 1 if there is nothing to test."""
    frame = pd.DataFrame({"unit": material.units, "part": material.parts, "truth": material.truth})
    once = frame[frame["part"] != ""].drop_duplicates()
    table = pd.crosstab(once["part"], once["truth"])
    if min(table.shape) < 2:
        return 1.0
    return float(chi2_contingency(table.to_numpy()).pvalue)


def sizes(units: NDArray[np.intp]) -> NDArray[np.intp]:
    """Slices of each group that has any, the largest first, shape (groups,)."""
    return np.sort(np.unique(units, return_counts=True)[1])[::-1]


def effective_number(sizes: NDArray[np.intp]) -> float:
    """The equivalent number of groups of equal size, if all slices of a group gave the same information.

    ``(sum n)**2 / sum n**2``, Kish 1965, Survey sampling. It is the number of groups if all are of equal
    size.
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


DOMINATING = 0.10
"""A group with more than this share of a class's slices dominates it."""
LITTLE_WORTH = 0.5
"""A note is given if the effective number is below this share of the groups."""


class GroupSizes(Check[Material]):
    """Whether a few patients make up the data, and whether patients are known at all."""

    code = "GG117"

    def run(self, material: Material) -> Result:
        """Count groups and their slices."""
        kind = kind_of_groups(material.manifest)
        everything = sizes(material.units)
        worth = effective_number(everything)
        findings = [*_unknown(material, kind), *_by_class(material, kind), *_worth(everything, worth, kind)]
        by_class = [(name, sizes(material.units[of])) for name, of in _classes(material)]
        return self.result(
            _worst(findings),
            Estimate(value=worth),
            files=material.paths[_in_dominating(material)],
            rows=[_row(name, slices) for name, slices in (("all", everything), *by_class)],
            kind=kind,
            sizes=everything,
            findings=[sentence for _, sentence in findings],
        )


def _classes(material: Material) -> list[tuple[str, NDArray[np.bool_]]]:
    """The classes that have slices, and which they are."""
    both = ((POSITIVE, material.truth), (NEGATIVE, ~material.truth))
    return [(name, of) for name, of in both if of.any()]


def _unknown(material: Material, kind: Kind) -> Iterator[Finding]:
    if kind == "slice":
        yield (
            "warning",
            "No patient is known: each slice counts as a separate patient, so intervals are by slice and too "
            "narrow, and one patient may be in two parts.",
        )
    elif kind == "guessed block":
        yield (
            "warning",
            "No patient is known: intervals are by guessed blocks of neighbouring numbers, and one patient may be "
            "in two parts.",
        )
    elif kind == "group":
        nameless = int((material.manifest["patient"] == "").sum())
        share = f"No patient is named for {nameless} of {len(material.manifest)} slices"
        known = nameless < len(material.manifest)
        yield ("note" if known else "warning"), f"{share}."


def _by_class(material: Material, kind: Kind) -> Iterator[Finding]:
    for name, of in _classes(material):
        slices = sizes(material.units[of])
        share = slices[0] / slices.sum()
        if len(slices) < FEW_UNITS:
            count = "one" if len(slices) == 1 else str(len(slices))
            yield "warning", f"All slices of {name} come from {count} {kind}{'s' if len(slices) > 1 else ''}."
        elif share > DOMINATING:
            yield "warning", f"One {kind} holds {share:.0%} of the slices of {name}."


def _worth(everything: NDArray[np.intp], worth: float, kind: Kind) -> Iterator[Finding]:
    if worth < LITTLE_WORTH * len(everything):
        yield "note", f"The {kind}s are very unequal in size: a few of them dominate every figure per slice."


def _in_dominating(material: Material) -> NDArray[np.bool_]:
    """Which slices belong to a group that dominates its class."""
    found = np.zeros(len(material.truth), dtype=bool)
    for _, of in _classes(material):
        counts = np.bincount(material.units[of], minlength=int(material.units.max()) + 1)
        found |= of & (counts[material.units] > max(1, DOMINATING * of.sum()))
    return found


def _row(name: str, slices: NDArray[np.intp]) -> tuple[str, ...]:
    return (
        name,
        str(slices.sum()),
        str(len(slices)),
        f"{np.median(slices):g}",
        str(slices[0]),
        f"{slices[0] / slices.sum():.1%}",
        f"{effective_number(slices):.1f}",
    )


def standard_error(area: float, positives: float, negatives: float) -> float:
    """Standard error of an AUC.

    Parameters
    ----------
    area
        The AUC, in [0, 1].
    positives, negatives
        Independent cases of each class, at least 1; effective numbers need not be integers.
    """
    of_positives, of_negatives = _covariances(area)
    variance = area * (1 - area) + (positives - 1) * of_positives + (negatives - 1) * of_negatives
    return sqrt(max(variance, 0.0) / (positives * negatives))


def half_width(area: float, positives: float, negatives: float, confidence: float = 0.95) -> float:
    """Half-width of an AUC's confidence interval by normal approximation; see :func:`standard_error`."""
    return _quantile(confidence) * standard_error(area, positives, negatives)


def needed(area: float, half_width: float, confidence: float = 0.95) -> int:
    """Independent cases of each class that are needed for an interval of at most this half-width, over 0.

    With equally many cases of both classes, ``n``, the variance is ``(spread + (n - 1) * shared) / n**2``,
    which is solved for ``n``.
    """
    aim = (half_width / _quantile(confidence)) ** 2
    spread, shared = area * (1 - area), sum(_covariances(area))
    return max(1, ceil((shared + sqrt(shared**2 + 4 * aim * (spread - shared))) / (2 * aim) - 1e-9))


def _covariances(area: float) -> tuple[float, float]:
    return area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2


def _quantile(confidence: float) -> float:
    return float(norm.ppf((1 + confidence) / 2))


AREAS = (0.80, 0.90, 0.95)
JUDGED = 0.90
"""The AUC whose interval is checked."""
WIDE = 0.05
"""A warning is given above this half-width of its 95% interval."""
AIMS = (0.05, 0.025)
"""Half-widths for which the number of patients is reported."""


class TooFewPatients(Check[Material]):
    """Whether the test set has the patients that a trustworthy figure needs."""

    code = "GG118"

    def run(self, material: Material) -> Result:
        """Estimate the interval of an AUC from the groups of the test set."""
        name, tested = _tested(material)
        slices = [sizes(material.units[tested & of]) for of in (material.truth, ~material.truth)]
        worth = [effective_number(of_class) for of_class in slices]
        wide = half_width(JUDGED, *worth)
        return self.result(
            "warning" if wide > WIDE else None,
            Estimate(value=wide),
            rows=[_area_row(area, *worth) for area in AREAS],
            name=name,
            kind=kind_of_groups(material.manifest),
            groups=[len(of_class) for of_class in slices],
            worth=worth,
            judged=JUDGED,
            aims=AIMS,
            interval=_interval(JUDGED, wide),
            wide=WIDE,
            needed=needed(JUDGED, WIDE),
        )


def _tested(material: Material) -> tuple[str, NDArray[np.bool_]]:
    tested = material.parts == "test"
    if not tested.any():
        return "The dataset", np.ones(len(tested), dtype=bool)
    if len(np.unique(material.truth[tested])) < 2:
        raise NotApplicable("The test set has only one class, so there is no AUC.")
    return "The test set", tested


def _area_row(area: float, positives: float, negatives: float) -> tuple[str, ...]:
    width = half_width(area, positives, negatives)
    return f"{area:.2f}", _interval(area, width), *(str(needed(area, aim)) for aim in AIMS)


def _interval(area: float, width: float) -> str:
    return f"{max(0.0, area - width):.2f} to {min(1.0, area + width):.2f}"


LOST = 0.01
"""If at least this share of a class or a part is lost, that is an error: the figures may describe something
else."""


class Unreadable(Check[Material]):
    """Counts unreadable files, in total and in the class or part that loses most."""

    code = "GG119"

    def run(self, material: Material) -> Result:
        """Count the unreadable files."""
        lost = material.unreadable
        total = len(material.manifest) + len(lost)
        name, gone, of = _hit_most(material) if lost else ("", 0, 1)
        severity: Severity | None = "error" if gone / of > LOST else "warning" if lost else None
        return self.result(
            severity,
            Estimate(value=len(lost) / total),
            files=[str(error.path) for error in lost],
            rows=[
                (error.path.name, "; ".join(filter(None, (error.problem, error.remedy)))) for error in lost
            ],
            lost=len(lost),
            total=total,
            name=name,
            gone=gone,
            of=of,
        )


def _hit_most(material: Material) -> tuple[str, int, int]:
    """The class or part that loses the largest share, in words, its number of lost files, and its size."""
    losses = []
    for column, words in (("label", "The class {}"), ("split", "The {} set")):
        gone = material.unread[column].value_counts()
        of = gone.add(material.manifest[column].value_counts(), fill_value=0)
        losses += [(words.format(value), int(gone[value]), int(of[value])) for value in gone.index if value]
    return max(losses, key=lambda loss: loss[1] / loss[2])
