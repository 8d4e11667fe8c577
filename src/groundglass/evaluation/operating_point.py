"""Choosing the threshold on the calibrated probability, on validation slices."""

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
    """Choose the probability from which on a slice is called positive.

    ``accuracy`` and ``balanced_accuracy``: the best threshold of each of 1000 bootstrap resamples by group is
    found, and their median taken. With a hundred slices the best threshold of the slices themselves hangs on
    a few of them. ``sensitivity``: the largest threshold whose sensitivity reaches ``target``. ``fixed``:
    ``target``, by default 0.5.

    Thresholds between two neighbouring probabilities give the same answers. The middle is taken, so that
    rounding a probability changes none of them; of several best stretches, the widest.

    Parameters
    ----------
    truth
        Whether each slice is positive, shape (slices,).
    probability
        Calibrated, in [0, 1], shape (slices,).
    groups
        The patient or group of each slice, blank where not known, shape (slices,).

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
    """All thresholds that differ in their answers.

    Cut ``k`` calls positive what has at least the k-th smallest distinct probability, the last cut nothing;
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
        """The middle of the highest cut that has ``sensitivity``."""
        tp = self._right(np.ones((1, len(self._truth))))[0][0]
        cut = np.flatnonzero(tp >= sensitivity * tp[0] - 1e-9)[-1]
        return _middle(self._low[cut], self._high[cut])

    def best(self, weights: Floats, *, balanced: bool) -> Iterator[float]:
        """For each weighting with both classes, the middle of the widest stretch of best cuts."""
        tp, tn = self._right(weights)
        positives, negatives = tp[:, :1], tn[:, -1:]
        # Whole numbers in place of shares, so that equally good cuts compare equal.
        right = tp * negatives + tn * positives if balanced else tp + tn
        both = ((positives > 0) & (negatives > 0))[:, 0]
        for row in right[both, : self._count]:
            edges = np.diff(row == row.max(), prepend=False, append=False).nonzero()[0]
            low, high = self._low[edges[::2]], self._high[edges[1::2] - 1]
            widest = np.argmax(high - low)
            yield _middle(low[widest], high[widest])


def _middle(low: float, high: float) -> float:
    """A threshold above ``low`` and up to ``high``, even where no number lies between them."""
    middle = float(low + high) / 2
    return middle if middle > low else float(high)


CERTAIN_SHARE = 0.8
"""Of the slices, those that count as most certain."""


def certainty(probability: ArrayLike, threshold: float) -> NDArray[np.float64]:
    """How far each probability lies from the threshold, as a share of the way to 0 or 1 on its side.

    At the threshold it is 0, at a probability of 0 or 1 it is 1, wherever the threshold lies; so both answers can
    be equally certain.

    Parameters
    ----------
    probability
        Calibrated, in [0, 1], shape (slices,).
    threshold
        From which on the answer is covid, in [0, 1].

    Returns
    -------
    float64 in [0, 1], shape (slices,). Where there is no way to go, as from a threshold of 1 upwards, 0.
    """
    probability = np.asarray(probability, dtype=np.float64)
    way = np.where(probability >= threshold, 1 - threshold, threshold)
    return np.divide(np.abs(probability - threshold), way, out=np.zeros_like(probability), where=way > 0)


def most_certain_accuracy(predictions: pd.DataFrame, threshold: float, share: float = CERTAIN_SHARE) -> float:
    """Accuracy on the most certain slices, as in selective classification (El-Yaniv and Wiener 2010, JMLR 11).

    Each slice is answered by the side of the threshold that its probability lies on, whatever its verdict, so that
    a detector that answers ``uncertain`` and one that does not are measured alike. Of slices that are equally
    certain at the border, as many as still fit count, each in the same part: the order of rows plays no part.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluation.predictions.read_predictions` gives them, labelled.
    threshold
        On the calibrated probability.
    share
        Of all slices, over 0 and up to 1; the number is rounded up.

    Raises
    ------
    GroundglassError
        If ``share`` is out of its range, there is no row or a label is blank.
    """
    if not 0 < share <= 1:
        raise GroundglassError(f"a share of {share:g}: of the slices, over 0 and up to 1 can be asked for")
    if predictions.empty:
        raise GroundglassError("there are no predictions to be certain of")
    probability = predictions["probability"].to_numpy(dtype=np.float64)
    right = (probability >= threshold) == truth_of(predictions)
    certain = certainty(probability, threshold)
    wanted = math.ceil(share * len(certain) - 1e-9)  # 0.8 of 5 is 4, whatever 0.8 is in binary
    border = np.sort(certain)[-wanted]
    above, at_border = certain > border, certain == border
    fitting = wanted - int(above.sum())
    return float((right[above].sum() + fitting * right[at_border].mean()) / wanted)
