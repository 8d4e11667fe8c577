"""How exactly an AUC can be known from so many patients, before anything is trained.

Hanley & McNeil 1982, The meaning and use of the area under a receiver operating characteristic (ROC) curve,
doi 10.1148/radiology.143.1.7063747, with their Q1 and Q2 of exponential distributions.
"""

from math import ceil, sqrt

from scipy.stats import norm


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
