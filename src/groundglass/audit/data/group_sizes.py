"""GG117: how the slices are shared among patients or groups."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import SEVERITIES, Check, Result, Severity
from groundglass.audit.material import Material
from groundglass.audit.measure.groups import Kind, effective_number, kind_of_groups, sizes
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import FEW_UNITS
from groundglass.labels import NEGATIVE, POSITIVE

DOMINATING = 0.10
"""Share of a class's slices over which one group dominates it."""
LITTLE_WORTH = 0.5
"""A note is due where the effective number is under this share of the groups."""

Finding = tuple[Severity, str]


class GroupSizes(Check[Material]):
    """Whether a few patients make up the data, and whether patients are known at all."""

    code = "GG117"
    title = "Tiny and dominating groups"
    severity = "warning"
    remedy = (
        "Fill the column patient of the manifest, limit the slices of one patient or count each patient once, and "
        "bootstrap by patient."
    )

    def run(self, material: Material) -> Result:
        """Count groups and their slices."""
        kind = kind_of_groups(material.manifest)
        everything = sizes(material.units)
        worth = effective_number(everything)
        findings = [*_unknown(material, kind), *_by_class(material, kind), *_worth(everything, worth, kind)]
        return Result(
            min((severity for severity, _ in findings), key=SEVERITIES.index, default=None),
            " ".join([_overview(everything, worth, kind), *(sentence for _, sentence in findings)]),
            Estimate(value=worth),
            f"effective number of {kind}s",
            files=tuple(material.paths[_in_dominating(material)].tolist()),
            header=(
                "Of",
                "Slices",
                f"{kind}s".capitalize(),
                "Median",
                "Largest",
                "Its share",
                "Effective number",
            ),
            rows=(
                _row("all", everything),
                *(_row(name, sizes(material.units[of])) for name, of in _classes(material)),
            ),
        )


def _overview(everything: NDArray[np.intp], worth: float, kind: Kind) -> str:
    if kind == "slice":
        return f"There are {len(everything)} slices."
    return (
        f"{everything.sum()} slices come from {len(everything)} {kind}s, the largest with {everything[0]}; these "
        f"are worth {worth:.0f} of equal size."
    )


def _classes(material: Material) -> list[tuple[str, NDArray[np.bool_]]]:
    """The classes that have slices, and which they are."""
    both = ((POSITIVE, material.truth), (NEGATIVE, ~material.truth))
    return [(name, of) for name, of in both if of.any()]


def _unknown(material: Material, kind: Kind) -> Iterator[Finding]:
    if kind == "slice":
        yield (
            "warning",
            "No patient is known: each slice counts as a patient of its own, so that intervals are by slice and "
            "too narrow, and one patient may lie in two parts.",
        )
    elif kind == "guessed block":
        yield (
            "warning",
            "No patient is known: intervals are by guessed blocks of neighbouring numbers, and one patient may "
            "lie in two parts.",
        )
    elif kind == "group":
        nameless = int((material.manifest["patient"] == "").sum())
        share = f"{nameless} of {len(material.manifest)} slices name no patient"
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
        yield "note", f"The {kind}s are very unequal: a few of them decide every figure by slice."


def _in_dominating(material: Material) -> NDArray[np.bool_]:
    """Which slices are of a group that dominates its class."""
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
