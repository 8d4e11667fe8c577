"""Metrics of one table of predictions under many weightings of its slices at once, as the bootstrap needs.

scikit-learn takes one weighting a call, milliseconds each; here 2000 take about a second. The tests hold
every metric against scikit-learn.
"""

import numpy as np
from numpy.typing import NDArray

from groundglass.evaluate.calibration import BINS, bin_of
from groundglass.labels import NEGATIVE, POSITIVE

Floats = NDArray[np.float64]


class Ranking:
    """Slices in falling order of probability, those of equal probability taken together.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        Shape (slices,).
    """

    def __init__(self, truth: NDArray[np.bool_], probability: Floats) -> None:
        self._order = np.argsort(-probability, kind="stable")
        self._truth = truth[self._order].astype(float)
        falling = probability[self._order]
        self._last = np.flatnonzero(np.append(np.diff(falling) != 0, True))
        self.thresholds: Floats = falling[self._last]
        """Distinct probabilities, falling."""

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """True and false positives at ``probability >= threshold``, both (weightings, thresholds)."""
        ranked = weights[:, self._order]
        positive = np.cumsum(ranked * self._truth, axis=1)[:, self._last]
        return positive, np.cumsum(ranked, axis=1)[:, self._last] - positive

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """ROC AUC (trapezoids) and average precision, both (weightings,); NaN where a class is absent."""
        tp, fp = self.counts(weights)
        gained = np.diff(tp, axis=1, prepend=0)
        positives, negatives = tp[:, -1], fp[:, -1]
        below = (np.diff(fp, axis=1, prepend=0) * (tp - gained / 2)).sum(axis=1)
        precision = (gained * ratio(tp, tp + fp, empty=0.0)).sum(axis=1)
        both = (positives > 0) & (negatives > 0)
        return ratio(below, positives * negatives), np.where(both, ratio(precision, positives), np.nan)


class WeightedMetrics:
    """Every metric of a table of predictions, for given weights of its slices.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        Shape (slices,), in [0, 1].
    verdict
        Shape (slices,); slices that are neither POSITIVE nor NEGATIVE count as not answered and are left out
        of what is computed from verdicts.
    """

    def __init__(self, truth: NDArray[np.bool_], probability: Floats, verdict: NDArray[np.object_]) -> None:
        yes, no = verdict == POSITIVE, verdict == NEGATIVE
        self._ranking = Ranking(truth, probability)
        self._columns = np.column_stack(
            [yes & truth, yes & ~truth, no & truth, no & ~truth, (probability - truth) ** 2]
        )
        # A bin's part of the ECE is |sum(probability - truth)| / slices, so one column a bin is enough.
        in_bin = bin_of(probability)[:, None] == np.arange(BINS)
        self._distance = in_bin * (probability - truth)[:, None]

    def confusion(self, weights: Floats) -> Floats:
        """True positives, false positives, false negatives, true negatives: (weightings, 4)."""
        return (weights @ self._columns)[:, :4]

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Each metric by name, shape (weightings,), NaN where it is undefined.

        Parameters
        ----------
        weights
            Shape (weightings, slices), not negative, not all 0.
        """
        total = weights.sum(axis=1)
        tp, fp, fn, tn, squared = (weights @ self._columns).T
        sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
        roc_auc, pr_auc = self._ranking.areas(weights)
        return {
            "accuracy": ratio(tp + tn, tp + fp + fn + tn),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": ratio(tp, tp + fp),
            "npv": ratio(tn, tn + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
            "roc_auc": roc_auc,
            "pr_auc": pr_auc,
            "brier": squared / total,
            "ece": np.abs(weights @ self._distance).sum(axis=1) / total,
            "coverage": (tp + fp + fn + tn) / total,
        }


def ratio(part: Floats, whole: Floats, empty: float = np.nan) -> Floats:
    """``part / whole``, and ``empty`` where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), empty), where=whole > 0)
