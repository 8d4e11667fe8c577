"""Figures of slices with intervals by one bootstrap of whole groups, and the severity of an AUC."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.check import Severity
from groundglass.bundle.evaluation import Estimate
from groundglass.data.splits import groups, named_groups
from groundglass.evaluation.bootstrap import Floats, Ranking, estimate, ratio, resample

RESAMPLES = 1000
CONFIDENCE = 0.95
TELLING, DECISIVE = 0.60, 0.75
"""A shortcut is a warning if the lower end of its AUC's interval reaches the first value, and an error if it
reaches the second."""


def estimated(figure: Callable[[Floats], Floats], units: NDArray[np.intp], seed: int = 0) -> Estimate:
    """A figure of slices, and its interval by a bootstrap of whole units.

    Parameters
    ----------
    figure
        Maps weights of the slices, shape (weightings, slices), to the figure under each, shape (weightings,);
        NaN if it is undefined.
    units
        The group of each slice, shape (slices,); numbers may be missing.
    seed
        Seed of the bootstrap.
    """
    value = float(figure(np.ones((1, len(units))))[0])
    drawn = resample(lambda weights: {"": figure(weights)}, renumbered(units), RESAMPLES, seed)
    return estimate(value, drawn[""], CONFIDENCE)


def mean(values: NDArray[np.generic], units: NDArray[np.intp], seed: int = 0) -> Estimate:
    """The mean of numbers, or the share of True, over slices: shape (slices,); the rest as in :func:`estimated`."""
    numbers = values.astype(float)
    return estimated(lambda weights: ratio(weights @ numbers, weights.sum(axis=1)), units, seed)


def auc(truth: NDArray[np.bool_], score: Floats, units: NDArray[np.intp], seed: int = 0) -> Estimate:
    """ROC AUC, without a value if there is only one class.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    score
        Higher for positives, shape (slices,).
    units, seed
        As in :func:`estimated`.
    """
    ranking = Ranking(truth, score)
    return estimated(lambda weights: ranking.areas(weights)[0], units, seed)


def auc_drop(
    truth: NDArray[np.bool_], before: Floats, after: Floats, units: NDArray[np.intp], seed: int = 0
) -> Estimate:
    """ROC AUC of one score minus that of another on the same slices, paired in each resample.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    before, after
        Scores, higher for positives, shape (slices,).
    units, seed
        As in :func:`estimated`.
    """
    first, second = Ranking(truth, before), Ranking(truth, after)
    return estimated(lambda weights: first.areas(weights)[0] - second.areas(weights)[0], units, seed)


def surely_over(figure: Estimate, bound: float) -> bool:
    """Whether the whole interval is above a bound; the value itself if there is no interval."""
    lowest = figure.low if figure.low is not None else figure.value
    return lowest is not None and lowest > bound


def surely_under(figure: Estimate, bound: float) -> bool:
    """Whether the whole interval is below a bound; the value itself if there is no interval."""
    highest = figure.high if figure.high is not None else figure.value
    return highest is not None and highest < bound


def severity_of(figure: Estimate) -> Severity | None:
    """The severity if something that should not predict the label does so with this AUC."""
    lowest = figure.low if figure.low is not None else figure.value
    if lowest is None or lowest < TELLING:
        return None
    return "error" if lowest >= DECISIVE else "warning"


def renumbered(units: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same groups numbered from 0 without gaps, as the bootstrap needs for some of the slices."""
    return np.unique(units, return_inverse=True)[1].astype(np.intp)


Kind = Literal["patient", "guessed block", "slice", "group"]


def kind_of_groups(manifest: pd.DataFrame) -> Kind:
    """The kind of a manifest's groups; ``group`` if they are of several kinds."""
    named, patients = named_groups(manifest), manifest["patient"]
    alone = groups(manifest) == manifest["path"]
    kinds: dict[Kind, pd.Series[bool]] = {
        "patient": (patients != "") & (named == patients),
        "slice": alone,
        "guessed block": (named == "") & ~alone,
    }
    return next((kind for kind, of in kinds.items() if of.all()), "group")
