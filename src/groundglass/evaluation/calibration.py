"""Calibration: measures of how well probabilities match observed frequencies, and temperature scaling."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logsumexp, softmax

BINS = 10
"""Bins of equal width, [0, 0.1), [0.1, 0.2), ... [0.9, 1], for reliability and the calibration error."""
TEMPERATURES = (0.05, 20.0)
"""The lowest and highest temperature that is fitted."""


def fit_temperature(logits: ArrayLike, truth: ArrayLike) -> float:
    """Fit the temperature that minimises the negative log-likelihood of the calibrated probability.

    Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599.

    Parameters
    ----------
    logits
        Logits of validation slices, shape (slices,), or (slices, classes) for several classes.
    truth
        Whether each slice is positive, or the number of its class, shape (slices,).

    Returns
    -------
    The temperature, in ``TEMPERATURES``; 1 if the slices do not determine it: there are none, or all are
    answered correctly, so that any sharpening raises the likelihood.

    Raises
    ------
    ValueError
        If the shapes differ or a logit is not finite.
    """
    logits = np.asarray(logits, dtype=float)
    truth = np.asarray(truth, dtype=np.intp)
    if logits.shape[:1] != truth.shape or logits.ndim > 2:
        raise ValueError(f"logits {logits.shape} and truth {truth.shape} must belong to the same slices")
    if not np.isfinite(logits).all():
        raise ValueError("a logit is not finite")
    if logits.ndim == 1:
        logits = np.column_stack([np.zeros_like(logits), logits])
    lead = logits - np.take_along_axis(logits, truth[:, None], axis=1)
    if not (lead > 0).any():
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(logsumexp(lead / np.exp(log_temperature), axis=1).mean())

    fitted = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return float(np.exp(fitted.x))


def fit_scaling(logits: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> tuple[float, float]:
    """Fit temperature and bias: those with the least log-loss of ``sigmoid(logits / temperature + bias)``.

    Platt 1999, Probabilistic outputs for support vector machines, without his softened targets. The bias
    corrects a systematic shift, such as a different prevalence of COVID-19.

    Parameters
    ----------
    logits
        Logits of COVID-19, shape (slices,).
    truth
        Whether each slice is positive, shape (slices,); both classes must be present.
    weights
        Weight of each slice, shape (slices,), not negative.

    Returns
    -------
    The temperature, in ``TEMPERATURES``, and the bias. The temperature is 1 if the logits separate the
    classes completely, so that any sharpening would lower the loss.
    """
    logits, truth = np.asarray(logits, dtype=float), np.asarray(truth, dtype=bool)
    parted = logits[truth].min() > logits[~truth].max()
    slopes = (1.0, 1.0) if parted else (1 / TEMPERATURES[1], 1 / TEMPERATURES[0])
    bias, slope = fit_weights(logits[:, None], truth, weights, [slopes])
    return 1 / slope, bias


def balanced_weights(
    sources: ArrayLike, truth: ArrayLike, times: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Weights that give both classes the same weight, and the sources within a class too; each class sums to 1.

    Parameters
    ----------
    sources, truth
        The source of each slice, and whether it is positive, shape (slices,).
    times
        How many times each slice counts, shape (slices,); once by default.
    """
    cells = pd.DataFrame({"source": np.asarray(sources), "truth": np.asarray(truth)}).assign(
        times=1.0 if times is None else np.asarray(times)
    )
    slices = cells.groupby(["source", "truth"])["times"].transform("sum")
    counted = cells["truth"].map(cells.groupby("truth")["source"].nunique())
    return (cells["times"] / slices / counted).to_numpy(dtype=float)


def fit_weights(
    inputs: ArrayLike, truth: ArrayLike, weights: ArrayLike, bounds: Sequence[tuple[float, float | None]]
) -> list[float]:
    """Fit a logistic function of several inputs: its bias and their weights, with the least log-loss.

    Parameters
    ----------
    inputs
        Shape (slices, inputs).
    truth, weights
        As in :func:`fit_scaling`.
    bounds
        The lowest and the highest weight of each input.
    """
    ones = np.column_stack([np.ones(len(np.asarray(inputs))), np.asarray(inputs, dtype=float)])
    sign = np.where(np.asarray(truth, dtype=bool), -1.0, 1.0)
    shares = np.asarray(weights, dtype=float) / np.sum(weights)

    def loss(found: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        wrong = sign * (ones @ found)
        return float(shares @ np.logaddexp(0, wrong)), (shares * sign * expit(wrong)) @ ones

    start = [0.0, *(min(1.0, high or 1.0) for _, high in bounds)]
    options = {"ftol": 1e-14, "gtol": 1e-9}
    fitted = minimize(
        loss, start, jac=True, bounds=[(None, None), *bounds], method="L-BFGS-B", options=options
    )
    return [float(one) for one in fitted.x]


def apply_temperature(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """The calibrated probability, in the shape of ``logits``, as :func:`fit_temperature` takes them.

    ``sigmoid(logits / temperature)``, or ``softmax`` over the classes if there are several.
    """
    scaled = np.asarray(logits, dtype=float) / temperature
    return np.asarray(expit(scaled) if scaled.ndim < 2 else softmax(scaled, axis=1))


def bin_of(probability: ArrayLike, bins: int = BINS) -> NDArray[np.intp]:
    """The number, from 0, of the equal-width bin of each probability; 1 is in the last bin."""
    return np.minimum(np.floor(np.asarray(probability) * bins), bins - 1).astype(np.intp)


def reliability_curve(truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> pd.DataFrame:
    """Predicted probability and observed share of positives, by bins of equal width.

    Returns
    -------
    A row per bin: ``low``, ``high``, ``count``, ``mean_probability`` and ``share_positive``, the last two NaN
    if the bin is empty.
    """
    probability = np.asarray(probability, dtype=float)
    place = bin_of(probability, bins)
    count = np.bincount(place, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "mean_probability": np.bincount(place, probability, bins) / filled,
            "share_positive": np.bincount(place, np.asarray(truth, dtype=float), bins) / filled,
        }
    )


def ece(truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: the mean over slices of their bin's distance from the diagonal.

    Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599, here on the probability of the positive class and
    with bins of equal width. With few slices it is above 0 even for a perfectly calibrated model.
    """
    curve = reliability_curve(truth, probability, bins)
    distance = (curve["mean_probability"] - curve["share_positive"]).abs()
    return float((distance * curve["count"]).sum() / curve["count"].sum())


def brier(truth: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of probability and truth (Brier 1950), in [0, 1]; lower is better."""
    return float(np.mean((np.asarray(probability, dtype=float) - np.asarray(truth, dtype=float)) ** 2))


class BrierParts(NamedTuple):
    """The parts of a Brier score: ``reliability - resolution + uncertainty + within_bins``.

    Attributes
    ----------
    reliability
        Mean squared distance of each bin's mean probability from its share of positives; 0 means calibrated.
    resolution
        Mean squared distance of each bin's share of positives from the overall share; higher is better.
    uncertainty
        Variance of the truth itself, 0.25 with equally many positives and negatives; independent of the
        detector.
    within_bins
        The remainder because the probabilities within a bin differ; 0 if they do not.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float


def brier_parts(truth: ArrayLike, probability: ArrayLike, bins: int = BINS) -> BrierParts:
    """Decompose the Brier score over the bins of :func:`reliability_curve`.

    Murphy 1973, A new vector partition of the probability score, doi
    10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2, whose three parts make up the score if all probabilities
    of a bin are equal; the remainder of binning is the two extra components of Stephenson, Coelho & Jolliffe
    2008, doi 10.1175/2007WAF2006116.1, here in one.

    Parameters
    ----------
    truth
        Whether each slice is positive, shape (slices,), at least one.
    probability
        In [0, 1], shape (slices,).
    bins
        Of equal width.
    """
    curve = reliability_curve(truth, probability, bins)
    filled = curve[curve["count"] > 0]
    share = float(np.mean(np.asarray(truth, dtype=float)))

    def mean_square(distance: "pd.Series[float]") -> float:
        return float((distance**2 * filled["count"]).sum() / filled["count"].sum())

    reliability = mean_square(filled["mean_probability"] - filled["share_positive"])
    resolution = mean_square(filled["share_positive"] - share)
    uncertainty = share * (1 - share)
    rest = brier(truth, probability) - (reliability - resolution + uncertainty)
    return BrierParts(reliability, resolution, uncertainty, rest)
