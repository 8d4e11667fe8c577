"""Two systems on the same test slices: tests of their difference in AUC and in accuracy.

Slices of one patient are similar, so the tests count whole units (patients or groups). A system may have been
trained several times; the mean over these members is compared. The members are treated as fixed: the tests
show whether the difference would hold for other patients, not for further trainings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, chi2, norm, rankdata

from groundglass.errors import GroundglassError

Floats = NDArray[np.float64]

EXACT_BELOW = 25
"""If fewer units than this differ, McNemar's test is exact if possible."""
NEGLIGIBLE = 1e-12
"""Differences and standard errors up to this size are rounding errors."""


@dataclass(frozen=True)
class PairedTest:
    """A difference between two systems, its interval and its test.

    Attributes
    ----------
    difference
        a minus b, mean over members.
    low, high
        Confidence interval of the difference by normal approximation; NaN if the estimated variance is 0,
        because an interval of zero width would suggest certainty.
    p_value
        Two-sided; 1.0 if the two never differ.
    """

    difference: float
    low: float
    high: float
    p_value: float


def delong(
    truth: NDArray[np.bool_],
    a: Floats,
    b: Floats,
    units: NDArray[np.intp],
    confidence: float = 0.95,
) -> PairedTest:
    """Compare the mean ROC AUC of two systems.

    DeLong, DeLong & Clarke-Pearson 1988, doi 10.2307/2531595, for clustered data as in Obuchowski 1997, doi
    10.2307/2533958; a unit may hold slices of both classes. If every slice is its own unit, this is DeLong's
    test. A mean of AUCs is linear in them, so its structural components are the means of the members'
    components, and the covariances between members need no further term.

    Parameters
    ----------
    truth
        Whether each slice is positive: bool, shape (slices,).
    a, b
        Probabilities, float, shape (members, slices); the two may differ in their number of members.
    units
        The unit of each slice, shape (slices,), as of
        :func:`~groundglass.evaluation.predictions.unit_codes`; numbers may be left out.
    confidence
        Of the interval.

    Returns
    -------
    The test; its p-value is NaN if the AUCs differ but the estimated variance is 0, as for a perfect system
    against a constant one.

    Raises
    ------
    GroundglassError
        If fewer than 2 units have a positive slice or fewer than 2 a negative one.
    """
    unit = np.unique(units, return_inverse=True)[1]
    counts = [len(np.unique(unit[of])) for of in (truth, ~truth)]
    if min(counts) < 2:
        raise GroundglassError(
            f"AUCs are compared across patients: there are {counts[0]} with positive and {counts[1]} with "
            "negative slices, but at least 2 of each are needed; test on more patients"
        )
    gain = structural_components(truth, a).mean(axis=0) - structural_components(truth, b).mean(axis=0)
    difference = float(gain[truth].mean())
    variance = _clustered_variance(gain - difference, truth, unit)
    low, high = _interval(difference, variance, confidence)
    return PairedTest(difference, low, high, _normal_p(difference, variance))


def structural_components(truth: NDArray[np.bool_], probability: Floats) -> Floats:
    """Share of the other class's slices relative to which each slice is ranked correctly; ties count half.

    By mid-ranks, Sun & Xu 2014, doi 10.1109/LSP.2014.2337313. Both the mean over the positive slices and the
    mean over the negative slices are the AUC.

    Parameters
    ----------
    truth
        bool, shape (slices,); both classes must occur.
    probability
        Shape (members, slices).

    Returns
    -------
    Shape (members, slices), in [0, 1].
    """
    ranks = rankdata(probability, axis=1)
    components = np.empty(ranks.shape)
    for own, other in ((truth, ~truth), (~truth, truth)):
        below = ranks[:, own] - rankdata(probability[:, own], axis=1)
        components[:, own] = below / other.sum()
    components[:, ~truth] = 1 - components[:, ~truth]
    return components


def mcnemar(
    right_a: NDArray[np.bool_] | Floats,
    right_b: NDArray[np.bool_] | Floats,
    units: NDArray[np.intp],
    confidence: float = 0.95,
) -> PairedTest:
    """Compare the mean accuracy of two systems.

    With d the sum over a unit's slices of the mean of ``right_a`` minus the mean of ``right_b``, the
    statistic is (sum of d)² / sum of d², chi-squared with 1 degree of freedom. It is that of Obuchowski 1998,
    doi 10.1002/(SICI)1097-0258(19980715)17:13<1495::AID-SIM863>3.0.CO;2-I, in the short form of Yang, Sun &
    Hardin 2010, doi 10.1002/bimj.201000035, without its factor (units - 1) / units; without the factor it is
    McNemar's, 1947, doi 10.1007/BF02295996, uncorrected, if every slice is its own unit. For units of equal
    size it is also that of Durkalski et al. 2003, doi 10.1002/sim.1438. Means over members instead of counts
    are an extension of these.

    If fewer than ``EXACT_BELOW`` units differ, all by the same amount, as for single slices and one member
    per system, the p-value is that of the exact binomial test. If few units differ, by different amounts, it
    is approximate and can be too small.

    The interval is Wald's, from the squares of d minus its expectation at the observed difference, times
    units / (units - 1).

    Parameters
    ----------
    right_a, right_b
        Whether each answer is right, bool or float in [0, 1], shape (members, slices); the two may differ in
        their number of members. Slices that either system leaves unanswered must have been left out.
    units
        The unit of each slice, shape (slices,), as of
        :func:`~groundglass.evaluation.predictions.unit_codes`; numbers may be left out.
    confidence
        Of the interval.

    Raises
    ------
    GroundglassError
        If there are fewer than 2 units, or a value is NaN.
    """
    unit = np.unique(units, return_inverse=True)[1]
    slices = np.bincount(unit)
    count = len(slices)
    if count < 2:
        raise GroundglassError(
            f"accuracies are compared across patients: {count} with slices that both systems answer, but at "
            "least 2 are needed; test on more patients"
        )
    gain = np.mean(right_a, axis=0, dtype=float) - np.mean(right_b, axis=0, dtype=float)
    if np.isnan(gain).any():
        raise GroundglassError(
            "accuracies are compared on slices that both systems answer: leave out the others"
        )
    sums = np.bincount(unit, weights=gain).astype(float)
    difference = float(gain.mean())
    spread = sums - slices * difference
    variance = float(spread @ spread) / len(unit) ** 2 * count / (count - 1)
    low, high = _interval(difference, variance, confidence)
    return PairedTest(difference, low, high, _mcnemar_p(sums[np.abs(sums) > NEGLIGIBLE]))


def holm(p_values: ArrayLike) -> Floats:
    """Adjust p-values for their number by Holm's step-down method.

    Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics
    6:65-70. Rejecting results of at most alpha limits the chance of any false rejection to alpha, however the
    tests depend on each other.

    Parameters
    ----------
    p_values
        Shape (tests,); NaNs are not counted.

    Returns
    -------
    Adjusted p-values, shape (tests,), in the given order; NaN stays NaN.
    """
    given = np.asarray(p_values, dtype=float)
    defined = np.flatnonzero(~np.isnan(given))
    rising = defined[np.argsort(given[defined])]
    adjusted = np.full(given.shape, np.nan)
    adjusted[rising] = np.maximum.accumulate(given[rising] * np.arange(len(rising), 0, -1))
    return np.minimum(adjusted, 1)


def _clustered_variance(centred: Floats, truth: NDArray[np.bool_], unit: NDArray[np.intp]) -> float:
    """Obuchowski's variance of an AUC, or of a difference of AUCs, from its centred components."""
    count = int(unit.max()) + 1
    positive, negative = (
        np.bincount(unit[of], weights=centred[of], minlength=count) / of.sum() for of in (truth, ~truth)
    )
    variance = (
        _inflation(unit[truth]) * positive @ positive
        + _inflation(unit[~truth]) * negative @ negative
        + 2 * _inflation(unit) * positive @ negative
    )
    # Not negative except for rounding: the factor of the mixed term is the smallest of the three.
    return max(0.0, float(variance))


def _inflation(unit: NDArray[np.intp]) -> float:
    count = len(np.unique(unit))
    return count / (count - 1)


def _interval(difference: float, variance: float, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise GroundglassError(f"the confidence of an interval must be between 0 and 1 (got {confidence:g})")
    if variance <= NEGLIGIBLE**2:
        return np.nan, np.nan
    half = float(norm.ppf((1 + confidence) / 2)) * variance**0.5
    return difference - half, difference + half


def _normal_p(difference: float, variance: float) -> float:
    if variance <= NEGLIGIBLE**2:
        return 1.0 if abs(difference) <= NEGLIGIBLE else np.nan
    return float(2 * norm.sf(abs(difference) / variance**0.5))


def _mcnemar_p(differing: Floats) -> float:
    """The p-value from the sums of the units that differ, none of them 0."""
    if not len(differing):
        return 1.0
    if len(differing) < EXACT_BELOW and np.allclose(np.abs(differing), abs(differing[0])):
        return float(binomtest(int((differing > 0).sum()), len(differing)).pvalue)
    return float(chi2.sf(differing.sum() ** 2 / (differing @ differing), df=1))
