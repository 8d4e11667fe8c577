"""GG116: how many slices of each class there are, in all, in each part and from each source."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from groundglass.audit.check import SEVERITIES, Check, Result, Severity
from groundglass.audit.material import Material
from groundglass.data.manifest import PARTS
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import FEW_UNITS
from groundglass.labels import NEGATIVE, POSITIVE

MOST_TO_ONE = 3.0
"""Slices of the commoner class to one of the rarer, over which a warning is due."""
UNLIKELY = 0.01
"""The chi-squared test between parts speaks from a p-value under this on."""

Finding = tuple[Severity, str]


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
    def share(self) -> float:
        """Of the commoner class."""
        return max(self.positives, self.negatives) / self.slices

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
    """Whether both classes are there in similar numbers, everywhere."""

    code = "GG116"
    title = "Class balance"
    severity = "error"
    remedy = (
        "Have both classes in every part and from every source, in like shares; report sensitivity, "
        "specificity and AUC instead of accuracy, and weigh the rarer class in training."
    )

    def run(self, material: Material) -> Result:
        """Count the classes."""
        everything = _Count.of(material, "all", np.ones(len(material.truth), dtype=bool))
        parts = [_Count.of(material, f"part {part}", material.parts == part) for part in PARTS]
        parts = [part for part in parts if part.slices]
        sources = _sources(material)
        findings = list(_findings(material, everything, parts, sources))
        told = (
            f"{max(everything.positives, everything.negatives)} of {everything.slices} slices are "
            f"{everything.commoner}: always answering that is right for {everything.share:.0%} of them."
        )
        return Result(
            min((severity for severity, _ in findings), key=SEVERITIES.index, default=None),
            " ".join([told, *(sentence for _, sentence in findings)]),
            Estimate(value=everything.share),
            "accuracy of always answering the commoner class",
            header=("Of", "Slices", POSITIVE, NEGATIVE, "Always the commoner"),
            rows=tuple(count.row for count in (everything, *parts, *sources)),
        )


def _sources(material: Material) -> list[_Count]:
    """The sources, where there are several."""
    source = material.manifest["source"].to_numpy(dtype=str)
    names = np.unique(source)
    if len(names) < 2:
        return []
    return [_Count.of(material, f"source {name}" if name else "no source", source == name) for name in names]


def _findings(
    material: Material, everything: _Count, parts: list[_Count], sources: list[_Count]
) -> Iterator[Finding]:
    if everything.single:
        yield "error", "There is no slice of the other class, so that nothing can be told apart."
        return
    if names := _names(part for part in parts if part.single):
        yield "error", f"Of one class only: {names}."
    single = [source for source in sources if source.single]
    if names := _names(source for source in single if source.groups >= FEW_UNITS):
        yield "error", f"Of one class only, so that the source alone tells the label: {names}."
    if names := _names(source for source in single if source.groups < FEW_UNITS):
        yield "warning", f"Of one class only, but of fewer than {FEW_UNITS} patients or groups: {names}."
    if names := _names(count for count in (everything, *parts, *sources) if count.lopsided):
        yield "warning", f"More than {MOST_TO_ONE:g} of one class to one of the other: {names}."
    p_value = _p_value(material)
    if p_value < UNLIKELY:
        yield (
            "warning",
            f"The parts differ in their shares of {POSITIVE} more than by chance (p {p_value:.1g}).",
        )


def _names(counts: Iterator[_Count]) -> str:
    return ", ".join(
        f"{count.name} ({count.positives} {POSITIVE}, {count.negatives} not)" for count in counts
    )


def _p_value(material: Material) -> float:
    """Of Pearson's chi-squared test between parts, of groups and not slices; 1 where nothing is to be tested."""
    frame = pd.DataFrame({"unit": material.units, "part": material.parts, "truth": material.truth})
    once = frame[frame["part"] != ""].drop_duplicates()
    table = pd.crosstab(once["part"], once["truth"])
    if min(table.shape) < 2:
        return 1.0
    return float(chi2_contingency(table.to_numpy()).pvalue)
