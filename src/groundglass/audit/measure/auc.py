"""ROC AUC with its interval, and when it is high enough for a check to speak."""

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Severity
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.metrics import estimate, resample
from groundglass.evaluate.weighted import Ranking

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
