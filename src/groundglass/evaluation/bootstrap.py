"""The cluster bootstrap: percentile intervals from whole groups of slices, resampled with replacement.

Efron & Tibshirani 1993, An introduction to the bootstrap; Field & Welsh 2007, Bootstrapping clustered data,
doi 10.1111/j.1467-9868.2007.00593.x. Slices of one patient are similar, so resampling single slices would
give intervals that are too narrow.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from groundglass.bundle.evaluation import Estimate, Metric, ResampledBy
from groundglass.errors import GroundglassError, count_of
from groundglass.evaluation.calibration import BINS, bin_of
from groundglass.labels import NEGATIVE, POSITIVE

CELLS = 500_000
"""Weights held in memory at one time, regardless of the number of slices."""
FEW_UNITS = 10
"""A class from fewer patients or groups gets a note on its intervals."""
TOLERATED_UNDEFINED = 0.05
"""Share of resamples that may leave a metric undefined without a note."""

Floats = NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)
"""The key of a metric: text, or part and text."""


def bootstrap_weights(units: NDArray[np.intp], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Draw resamples of whole units, in chunks.

    Parameters
    ----------
    units
        The unit of each slice, numbered from 0, shape (slices,).
    resamples
        Total number of resamples.

    Yields
    ------
    How often each slice is in each resample, shape (resamples of the chunk, slices).
    """
    generator = np.random.default_rng(seed)
    count = int(units.max()) + 1
    chunk = max(1, CELLS // len(units))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, units].astype(float)


def percentile_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    """The central ``confidence`` interval of the resampled values, ignoring NaN; None if all are NaN."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def check_bootstrap(resamples: int, confidence: float) -> None:
    """Raise GroundglassError if the number of resamples or the confidence is out of range."""
    if resamples < 1 or not 0 < confidence < 1:
        raise GroundglassError("intervals need at least 1 resample and a confidence between 0 and 1")


def resample(
    computed: Callable[[Floats], dict[Name, Floats]], units: NDArray[np.intp], resamples: int, seed: int
) -> dict[Name, Floats]:
    """Metrics of each bootstrap resample; no resamples if all slices belong to one unit.

    Parameters
    ----------
    computed
        Maps weights, shape (weightings, slices), to metrics by name, each of shape (weightings, ...).
    units
        The unit of each slice, numbered from 0, shape (slices,).
    resamples, seed
        Settings of the bootstrap.
    """
    # All resamples of a single group are the same, and an interval of zero width would suggest certainty.
    if not units.any():
        return computed(np.empty((0, len(units))))
    chunks = [computed(weights) for weights in bootstrap_weights(units, resamples, seed)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def estimate(value: float, resampled: Floats, confidence: float) -> Estimate:
    """A metric and the interval of its resampled values, shape (resamples,); NaN is undefined."""
    if np.isnan(value):
        return Estimate(value=None)
    interval = percentile_interval(resampled, confidence)
    return Estimate(value=value, low=interval[0], high=interval[1]) if interval else Estimate(value=value)


def estimates(
    metrics: Iterable[Name], values: Mapping[Name, float], resampled: Mapping[Name, Floats], confidence: float
) -> dict[Name, Estimate]:
    """The :func:`estimate` of each of the ``metrics``, from their values and resampled values by name."""
    return {name: estimate(float(values[name]), resampled[name], confidence) for name in metrics}


def notes_on_units(
    labelled: Mapping[str, NDArray[np.bool_]], units: NDArray[np.intp], resampled_by: ResampledBy
) -> list[str]:
    """Name the labels with few units; ``labelled`` maps each label to which slices have it, shape (slices,)."""
    if not units.any():
        return [f"All are of one {resampled_by}: no interval can be given."]
    counts = {name: len(np.unique(units[of])) for name, of in labelled.items()}
    return [
        f"Only {count_of(count, resampled_by)} labelled {name}: intervals from so few are rough."
        for name, count in counts.items()
        if 0 < count < FEW_UNITS
    ]


def notes_on_metrics(
    metrics: Mapping[Name, Metric], values: Mapping[Name, float], resampled: Mapping[Name, Floats]
) -> list[str]:
    """Name the ``metrics`` that are undefined (NaN), on all slices or in many resamples."""
    notes = []
    for name, metric in metrics.items():
        if np.isnan(values[name]):
            notes.append(f"{metric.title} is undefined: {metric.undefined}.")
        elif len(resampled[name]):
            share = float(np.isnan(resampled[name]).mean())
            if share > TOLERATED_UNDEFINED:
                notes.append(
                    f"{metric.title} is undefined in {share:.0%} of the resamples; its interval leaves them out."
                )
    return notes


class Ranking:
    """Slices in descending order of probability, ties taken together.

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
        """Distinct probabilities, descending."""

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """True and false positives at ``probability >= threshold``, both (weightings, thresholds)."""
        ranked = weights[:, self._order]
        positive = np.cumsum(ranked * self._truth, axis=1)[:, self._last]
        return positive, np.cumsum(ranked, axis=1)[:, self._last] - positive

    def areas(self, weights: Floats) -> tuple[Floats, Floats]:
        """ROC AUC (trapezoids) and average precision, both (weightings,); NaN if a class is absent."""
        tp, fp = self.counts(weights)
        gained = np.diff(tp, axis=1, prepend=0)
        positives, negatives = tp[:, -1], fp[:, -1]
        below = (np.diff(fp, axis=1, prepend=0) * (tp - gained / 2)).sum(axis=1)
        precision = (gained * ratio(tp, tp + fp, empty=0.0)).sum(axis=1)
        both = (positives > 0) & (negatives > 0)
        return ratio(below, positives * negatives), np.where(both, ratio(precision, positives), np.nan)


class WeightedMetrics:
    """All metrics of a table of predictions, for given weights of its slices.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        Shape (slices,), in [0, 1].
    verdict
        Shape (slices,); slices that are neither POSITIVE nor NEGATIVE count as not answered and are left out
        of metrics of verdicts.
    """

    def __init__(self, truth: NDArray[np.bool_], probability: Floats, verdict: NDArray[np.object_]) -> None:
        yes, no = verdict == POSITIVE, verdict == NEGATIVE
        self._ranking = Ranking(truth, probability)
        self._columns = np.column_stack(
            [yes & truth, yes & ~truth, no & truth, no & ~truth, (probability - truth) ** 2]
        )
        # A bin's part of the ECE is |sum(probability - truth)| / slices, so one column per bin is enough.
        in_bin = bin_of(probability)[:, None] == np.arange(BINS)
        self._distance = in_bin * (probability - truth)[:, None]

    def confusion(self, weights: Floats) -> Floats:
        """True positives, false positives, false negatives, true negatives: (weightings, 4)."""
        return (weights @ self._columns)[:, :4]

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Each metric by name, shape (weightings,), NaN if it is undefined.

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
    """``part / whole``, or ``empty`` where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), empty), where=whole > 0)
