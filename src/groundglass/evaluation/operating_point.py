"""Choose the threshold on the calibrated probability, on validation slices."""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from groundglass.errors import GroundglassError
from groundglass.evaluation.bootstrap import Floats, bootstrap_weights
from groundglass.evaluation.predictions import truth_of, unit_codes

Criterion = Literal["balanced_accuracy", "accuracy", "sensitivity", "fixed"]
RESAMPLES = 1000


def choose_threshold(
    truth: ArrayLike,
    probability: ArrayLike,
    groups: Iterable[str],
    *,
    criterion: Criterion,
    target: float | None = None,
    seed: int = 0,
) -> float:
    """Choose the probability from which a slice is called positive.

    ``accuracy`` and ``balanced_accuracy``: the median of the best thresholds of 1000 bootstrap resamples by
    group. With a hundred slices the best threshold on the slices themselves depends on a few of them.
    ``sensitivity``: the largest threshold whose sensitivity reaches ``target``. ``fixed``: ``target``, by
    default 0.5.

    Thresholds between two neighbouring probabilities give the same answers. The midpoint is used, so that
    rounding a probability does not change an answer; of several best intervals, the widest is used.

    Parameters
    ----------
    truth
        Whether each slice is positive, shape (slices,).
    probability
        Calibrated, in [0, 1], shape (slices,).
    groups
        The patient or group of each slice, blank if not known, shape (slices,).

    Returns
    -------
    The threshold, in [0, 1].

    Raises
    ------
    GroundglassError
        If ``target`` is missing or not in (0, 1], or the slices are not of both classes.
    """
    if target is None and criterion == "sensitivity":
        raise GroundglassError("operating_point.target: name the sensitivity to reach, such as 0.95")
    wanted = 0.5 if target is None else target
    if not 0 < wanted <= 1:
        raise GroundglassError(f"operating_point.target: {wanted} is not in (0, 1]")
    if criterion == "fixed":
        return wanted
    truth = np.asarray(truth, dtype=bool)
    if truth.all() or not truth.any():
        raise GroundglassError("choosing a threshold needs validation slices of both classes")
    cuts = _Cuts(truth, np.asarray(probability, dtype=float))
    if criterion == "sensitivity":
        return cuts.reaching(wanted)
    best = [
        threshold
        for weights in bootstrap_weights(unit_codes(groups), RESAMPLES, seed)
        for threshold in cuts.best(weights, balanced=criterion == "balanced_accuracy")
    ]
    return float(np.median(best))


class _Cuts:
    """All thresholds that give different answers.

    Cut ``k`` calls slices with at least the k-th smallest distinct probability positive, the last cut none;
    its thresholds are those above ``low[k]`` up to ``high[k]``.
    """

    def __init__(self, truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> None:
        self._order = np.argsort(probability, kind="stable")
        self._truth = truth[self._order]
        distinct, self._starts = np.unique(probability[self._order], return_index=True)
        self._low = np.append(0.0, distinct)
        self._high = np.append(distinct, 1.0)
        # No threshold up to 1 rejects a probability of 1.
        self._count = len(distinct) + int(distinct[-1] < 1)

    def _right(self, weights: Floats) -> tuple[Floats, Floats]:
        """True positives and true negatives at each cut, both (weightings, cuts)."""
        ranked = weights[:, self._order]
        none = np.zeros((len(weights), 1))
        positive = np.add.reduceat(ranked * self._truth, self._starts, axis=1)
        negative = np.add.reduceat(ranked * ~self._truth, self._starts, axis=1)
        from_here_up = np.cumsum(positive[:, ::-1], axis=1)[:, ::-1]
        return np.hstack([from_here_up, none]), np.hstack([none, np.cumsum(negative, axis=1)])

    def reaching(self, sensitivity: float) -> float:
        """The midpoint of the highest cut that reaches ``sensitivity``."""
        tp = self._right(np.ones((1, len(self._truth))))[0][0]
        cut = np.flatnonzero(tp >= sensitivity * tp[0] - 1e-9)[-1]
        return _middle(self._low[cut], self._high[cut])

    def best(self, weights: Floats, *, balanced: bool) -> Iterator[float]:
        """For each weighting with both classes, the midpoint of the widest interval of best cuts."""
        tp, tn = self._right(weights)
        positives, negatives = tp[:, :1], tn[:, -1:]
        # Integers instead of shares, so that equally good cuts compare equal.
        right = tp * negatives + tn * positives if balanced else tp + tn
        both = ((positives > 0) & (negatives > 0))[:, 0]
        for row in right[both, : self._count]:
            edges = np.diff(row == row.max(), prepend=False, append=False).nonzero()[0]
            low, high = self._low[edges[::2]], self._high[edges[1::2] - 1]
            widest = np.argmax(high - low)
            yield _middle(low[widest], high[widest])


def _middle(low: float, high: float) -> float:
    """A threshold above ``low`` and up to ``high``, even if no number lies between them."""
    middle = float(low + high) / 2
    return middle if middle > low else float(high)


CERTAIN_SHARE = 0.8
"""Share of the slices that count as most certain."""


def certainty(probability: ArrayLike, threshold: float) -> NDArray[np.float64]:
    """Distance of each probability from the threshold, as a share of the distance to 0 or 1 on its side.

    It is 0 at the threshold and 1 at a probability of 0 or 1 for any threshold, so both answers can be
    equally certain.

    Parameters
    ----------
    probability
        Calibrated, in [0, 1], shape (slices,).
    threshold
        From this probability on the answer is covid, in [0, 1].

    Returns
    -------
    float64 in [0, 1], shape (slices,). 0 if there is no distance to go, as above a threshold of 1.
    """
    probability = np.asarray(probability, dtype=np.float64)
    way = np.where(probability >= threshold, 1 - threshold, threshold)
    return np.divide(np.abs(probability - threshold), way, out=np.zeros_like(probability), where=way > 0)


def most_certain_accuracy(predictions: pd.DataFrame, threshold: float, share: float = CERTAIN_SHARE) -> float:
    """Accuracy on the most certain slices, as in selective classification (El-Yaniv and Wiener 2010, JMLR 11).

    Each slice is answered by which side of the threshold its probability is on, regardless of its verdict, so
    that detectors that answer ``uncertain`` and those that do not are measured alike. Slices that are tied at
    the limit share the remaining places equally, so the order of rows does not matter.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluation.predictions.read_predictions` gives them, labelled.
    threshold
        On the calibrated probability.
    share
        Share of all slices, over 0 and up to 1; the number is rounded up.

    Raises
    ------
    GroundglassError
        If ``share`` is out of range, there are no rows or a label is blank.
    """
    if not 0 < share <= 1:
        raise GroundglassError(f"a share of {share:g}: must be over 0 and at most 1")
    if predictions.empty:
        raise GroundglassError("there are no predictions")
    probability = predictions["probability"].to_numpy(dtype=np.float64)
    right = (probability >= threshold) == truth_of(predictions)
    certain = certainty(probability, threshold)
    wanted = math.ceil(share * len(certain) - 1e-9)  # 0.8 of 5 is 4, despite rounding
    border = np.sort(certain)[-wanted]
    above, at_border = certain > border, certain == border
    fitting = wanted - int(above.sum())
    return float((right[above].sum() + fitting * right[at_border].mean()) / wanted)
