"""Figures other than an AUC with their intervals, by the same bootstrap of whole units."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.measure.auc import CONFIDENCE, RESAMPLES
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import estimate, resample
from groundglass.evaluate.weighted import Floats, Ranking, ratio


def estimated(figure: Callable[[Floats], Floats], units: NDArray[np.intp], seed: int = 0) -> Estimate:
    """A figure of slices, and its interval by a bootstrap of whole units.

    Parameters
    ----------
    figure
        From weights of the slices, shape (weightings, slices), to the figure under each, shape (weightings,);
        NaN where it is undefined.
    units
        The group of each slice, shape (slices,); numbers may be left out.
    seed
        Of the bootstrap.
    """
    value = float(figure(np.ones((1, len(units))))[0])
    drawn = resample(lambda weights: {"": figure(weights)}, renumbered(units), RESAMPLES, seed)
    return estimate(value, drawn[""], CONFIDENCE)


def mean(values: Floats, units: NDArray[np.intp], seed: int = 0) -> Estimate:
    """The mean over slices, values of shape (slices,); other parameters as of :func:`estimated`."""
    return estimated(lambda weights: ratio(weights @ values, weights.sum(axis=1)), units, seed)


def auc_drop(
    truth: NDArray[np.bool_], before: Floats, after: Floats, units: NDArray[np.intp], seed: int = 0
) -> Estimate:
    """ROC AUC of one score less that of another of the same slices, paired in each resample.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    before, after
        Scores, higher for positives, shape (slices,).
    units, seed
        As of :func:`estimated`.
    """
    rankings = Ranking(truth, before), Ranking(truth, after)

    def drop(weights: Floats) -> Floats:
        high, low = (ranking.areas(weights)[0] for ranking in rankings)
        return high - low

    return estimated(drop, units, seed)


def surely_over(figure: Estimate, bound: float) -> bool:
    """Whether the whole interval lies above a bound; the value itself where there is no interval."""
    sure = figure.low if figure.low is not None else figure.value
    return sure is not None and sure > bound


def surely_under(figure: Estimate, bound: float) -> bool:
    """Whether the whole interval lies below a bound; the value itself where there is no interval."""
    sure = figure.high if figure.high is not None else figure.value
    return sure is not None and sure < bound


def renumbered(units: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same groups numbered from 0 without gaps, as the bootstrap needs those of a part of the slices."""
    return np.unique(units, return_inverse=True)[1].astype(np.intp)
