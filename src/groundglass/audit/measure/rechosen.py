"""What a threshold that was chosen elsewhere costs, against one that is chosen on the slices at hand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from groundglass.audit.check import NotApplicable
from groundglass.audit.measure.figures import estimated
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.operating_point import choose_threshold
from groundglass.evaluate.weighted import Floats, ratio

FOLDS = 5


@dataclass(frozen=True)
class Rechosen:
    """Balanced accuracy at a given threshold, and at thresholds chosen on the slices at hand.

    Attributes
    ----------
    best
        The threshold with the best balanced accuracy, that is with the best Youden index, on all slices.
    given, chosen
        Balanced accuracy at the given threshold, and where each slice is answered by the threshold that is best on
        the other groups' slices, so that no slice has a say in its own.
    lost
        The second less the first, paired in each resample; under 0 where the given threshold is the better.
    """

    best: float
    given: Estimate
    chosen: Estimate
    lost: Estimate


def rechosen(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], threshold: float, seed: int = 0
) -> Rechosen:
    """Compare a threshold with those that would be chosen here.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        In [0, 1], shape (slices,).
    units
        The group of each slice, shape (slices,).
    threshold
        From which probability on the verdict is covid.
    seed
        Of folds and bootstrap.

    Raises
    ------
    NotApplicable
        If a class has fewer than five groups.
    """
    fewest = min(len(np.unique(units[truth == label])) for label in (True, False))
    if fewest < FOLDS:
        raise NotApplicable(
            f"A class has {fewest} patients or groups; at least {FOLDS} are needed to choose a threshold."
        )
    given = _right(truth, probability >= threshold)
    chosen = _right(truth, _crossed(truth, probability, units, seed))
    return Rechosen(
        best=_best(truth, probability, units, seed),
        given=estimated(lambda weights: _balanced(weights, given), units, seed),
        chosen=estimated(lambda weights: _balanced(weights, chosen), units, seed),
        lost=estimated(lambda weights: _balanced(weights, chosen) - _balanced(weights, given), units, seed),
    )


def _right(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> Floats:
    """Columns whose weighted sums are positives called so, positives, others called so, others."""
    return np.column_stack([truth & called, truth, ~truth & ~called, ~truth]).astype(float)


def _balanced(weights: Floats, right: Floats) -> Floats:
    tp, positives, tn, negatives = (weights @ right).T
    return (ratio(tp, positives) + ratio(tn, negatives)) / 2


def _best(truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int) -> float:
    groups = units.astype(str)
    return choose_threshold(truth, probability, groups, criterion="balanced_accuracy", seed=seed)


def _crossed(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int
) -> NDArray[np.bool_]:
    """The answer to each slice by the threshold of the folds that it is not in."""
    called = np.zeros(len(truth), dtype=bool)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for others, own in splitter.split(probability, truth, units):
        threshold = _best(truth[others], probability[others], units[others], seed)
        called[own] = probability[own] >= threshold
    return called
