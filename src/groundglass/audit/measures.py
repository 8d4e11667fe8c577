"""Figures other than an AUC with their intervals, by the same bootstrap of whole units."""

from collections.abc import Callable
from math import ceil, sqrt
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from groundglass.audit.check import Severity
from groundglass.data.splits import groups, named_groups
from groundglass.evaluate.bootstrap import Floats, Ranking, ratio
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import estimate, resample


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


RESAMPLES = 1000
CONFIDENCE = 0.95
TELLING, DECISIVE = 0.60, 0.75
"""A shortcut is worth a warning if its AUC surely (by the lower end of the interval) passes the first, and an error
from the second on."""


def auc(
    truth: NDArray[np.bool_], score: NDArray[np.float64], units: NDArray[np.intp], seed: int = 0
) -> Estimate:
    """ROC AUC, and its interval by a bootstrap of whole units.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    score
        Higher for positives, shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,).
    seed
        Of the bootstrap.

    Returns
    -------
    An estimate without a value where there is one class only.
    """
    ranking = Ranking(truth, score)
    value = float(ranking.areas(np.ones((1, len(truth))))[0][0])
    resampled = resample(lambda weights: {"auc": ranking.areas(weights)[0]}, units, RESAMPLES, seed)
    return estimate(value, resampled["auc"], CONFIDENCE)


def severity_of(figure: Estimate) -> Severity | None:
    """How much it matters that a label can be told with this AUC from what should not tell it."""
    sure = figure.low if figure.low is not None else figure.value
    if sure is None or sure < TELLING:
        return None
    return "error" if sure >= DECISIVE else "warning"


Kind = Literal["patient", "guessed block", "slice", "group"]


def kind_of_groups(manifest: pd.DataFrame) -> Kind:
    """What the groups of a manifest are; ``group`` where they are not all of one kind."""
    named, patients = named_groups(manifest), manifest["patient"]
    known = (patients != "") & (named == patients)
    alone = groups(manifest) == manifest["path"]
    kinds: list[tuple[Kind, pd.Series[bool]]] = [
        ("patient", known),
        ("slice", alone),
        ("guessed block", (named == "") & ~alone),
    ]
    return next((kind for kind, of in kinds if of.all()), "group")


def sizes(units: NDArray[np.intp]) -> NDArray[np.intp]:
    """Slices of each group that has any, the largest first, shape (groups,)."""
    return np.sort(np.unique(units, return_counts=True)[1])[::-1]


def effective_number(sizes: NDArray[np.intp]) -> float:
    """How many groups of equal size would be worth as much, if the slices of a group all said the same.

    ``(sum n)**2 / sum n**2``, Kish 1965, Survey sampling. It is the number of groups where all are equal.
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def standard_error(area: float, positives: float, negatives: float) -> float:
    """Standard error of an AUC.

    Parameters
    ----------
    area
        The AUC, in [0, 1].
    positives, negatives
        How many independent cases of each class there are, at least 1; effective numbers need not be whole.
    """
    of_positives, of_negatives = _covariances(area)
    variance = area * (1 - area) + (positives - 1) * of_positives + (negatives - 1) * of_negatives
    return sqrt(max(variance, 0.0) / (positives * negatives))


def half_width(area: float, positives: float, negatives: float, confidence: float = 0.95) -> float:
    """Half the width of an AUC's confidence interval by normal approximation; as :func:`standard_error`."""
    return _quantile(confidence) * standard_error(area, positives, negatives)


def needed(area: float, half_width: float, confidence: float = 0.95) -> int:
    """Independent cases of each class that are needed for an interval of at most this half-width, over 0.

    With as many cases of either class, ``n``, the variance is ``(spread + (n - 1) * shared) / n**2``, which is
    solved for ``n``.
    """
    aim = (half_width / _quantile(confidence)) ** 2
    spread, shared = area * (1 - area), sum(_covariances(area))
    return max(1, ceil((shared + sqrt(shared**2 + 4 * aim * (spread - shared))) / (2 * aim) - 1e-9))


def _covariances(area: float) -> tuple[float, float]:
    return area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2


def _quantile(confidence: float) -> float:
    return float(norm.ppf((1 + confidence) / 2))
