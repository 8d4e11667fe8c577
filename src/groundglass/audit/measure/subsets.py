"""How a detector does on subsets of the slices, and on the others beside each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import estimate, resample
from groundglass.evaluate.weighted import Floats, Ranking, ratio

Mask = NDArray[np.bool_]

RESAMPLES = 2000
LEAST = 20
"""Slices below which a subset is not judged."""
LEAST_UNITS = 5
"""Patients or groups of each class below which an interval of the AUC means nothing."""
ALPHA = 0.05
"""Chance that an interval fails, divided among the subsets (Bonferroni), so that it holds for all together."""


@dataclass(frozen=True)
class Subset:
    """How the detector does on a subset and on the other slices.

    Attributes
    ----------
    auc, accuracy
        On the subset; accuracy of the slices that were answered.
    others
        AUC on the other slices.
    more
        AUC on the subset less that on the others, paired in each resample.
    """

    auc: Estimate
    accuracy: Estimate
    others: Estimate
    more: Estimate

    @property
    def surely_lower(self) -> bool:
        """Whether the whole interval of the AUC lies below that of the others'."""
        high, low = self.auc.high, self.others.low
        return high is not None and low is not None and high < low


def confidence_for(subsets: int) -> float:
    """The confidence of each interval, so that together they hold with 95%."""
    return 1 - ALPHA / max(1, subsets)


def why_not(truth: Mask, units: NDArray[np.intp], within: Mask) -> str:
    """Why a subset is not judged, "" where it is; all of shape (slices,), as of :func:`compare`."""
    if within.sum() < LEAST:
        return f"under {LEAST} slices"
    for name, part in (("", within), ("the others: ", ~within)):
        fewest = min(len(np.unique(units[part & (truth == label)])) for label in (True, False))
        if fewest < LEAST_UNITS:
            return name + (f"a class of {fewest} patients or groups" if fewest else "one class")
    return ""


def compare(
    truth: Mask,
    probability: Floats,
    right: Floats,
    units: NDArray[np.intp],
    subsets: Sequence[Mask],
    seed: int = 0,
) -> list[Subset]:
    """Judge subsets, each against all other slices, in one bootstrap of whole units.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        In [0, 1], shape (slices,).
    right
        1 where the verdict is right, 0 where it is wrong, NaN where there is none, shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,).
    subsets
        Which slices are in each, bool, shape (slices,), such that :func:`why_not` says nothing.
    seed
        Of the bootstrap.

    Returns
    -------
    Each subset's figures; the intervals are of :func:`confidence_for` so many.
    """
    answered = ~np.isnan(right)
    rankings = [
        (within, Ranking(truth[within], probability[within]), Ranking(truth[~within], probability[~within]))
        for within in subsets
    ]

    def figures(weights: Floats) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for number, (within, own, others) in enumerate(rankings):
            auc, rest = own.areas(weights[:, within])[0], others.areas(weights[:, ~within])[0]
            told = within & answered
            accuracy = ratio(weights[:, told] @ right[told], weights[:, told].sum(axis=1))
            found |= {f"auc {number}": auc, f"accuracy {number}": accuracy}
            found |= {f"others {number}": rest, f"more {number}": auc - rest}
        return found

    values = figures(np.ones((1, len(truth))))
    drawn = resample(figures, units, RESAMPLES, seed)
    confidence = confidence_for(len(subsets))
    estimates = {name: estimate(float(values[name][0]), drawn[name], confidence) for name in values}
    return [
        Subset(*(estimates[f"{name} {number}"] for name in ("auc", "accuracy", "others", "more")))
        for number in range(len(subsets))
    ]
