"""The cluster bootstrap: percentile intervals from whole groups of slices, resampled with replacement.

Efron & Tibshirani 1993, An introduction to the bootstrap; Field & Welsh 2007, Bootstrapping clustered data,
doi 10.1111/j.1467-9868.2007.00593.x. Slices of one patient are alike, so resampling slices one by one would
give intervals that are too narrow.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CELLS = 500_000
"""Weights that are held at one time; bounds memory, whatever the number of slices."""


def bootstrap_weights(units: NDArray[np.intp], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Draw resamples of whole units, in chunks.

    Parameters
    ----------
    units
        The unit of each slice, numbered from 0, shape (slices,).
    resamples
        How many are drawn in all.

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
    """The middle ``confidence`` of the resampled values, NaN left out; None where all are NaN."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
