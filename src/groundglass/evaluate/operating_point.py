"""Choosing the threshold on the calibrated probability, on validation slices."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundglass.errors import GroundglassError
from groundglass.evaluate.intervals import bootstrap_weights
from groundglass.evaluate.predictions import unit_codes
from groundglass.evaluate.weighted import Floats

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
