"""Whether probabilities are too extreme or too high: calibration slope and intercept, and the ECE to expect.

Cox 1958, Two further applications of a model for binary regression, doi 10.1093/biomet/45.3-4.562; Van Calster et
al. 2019, Calibration: the Achilles heel of predictive analytics, doi 10.1186/s12916-019-1466-7.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from groundglass.audit.measure.figures import estimated
from groundglass.evaluate.calibration import BINS, bin_of
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.weighted import Floats

CERTAIN = 1e-6
"""Probabilities are held this far from 0 and 1, whose logits are infinite."""
ROUNDS, SETTLED = 15, 1e-6
"""Newton's method is done where no coefficient moves by more; where so many rounds are not enough, the classes are
parted wholly, or nearly so, and there is no answer."""
SIMULATED = 1000
"""Sets of labels that are drawn from the probabilities."""


def calibration_slope(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int = 0
) -> Estimate:
    """The slope of a logistic regression of the truth on the logit of the probability.

    1 is calibrated; under 1 the probabilities are too extreme (overconfident), over 1 not extreme enough. Below 0
    they run against the truth.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        In [0, 1], shape (slices,).
    units, seed
        As of :func:`groundglass.audit.measure.figures.estimated`.

    Returns
    -------
    An estimate without a value where the probability parts the classes wholly, or there is one only.
    """
    logits = _logits(probability)
    columns = np.column_stack([np.ones_like(logits), logits])
    return estimated(lambda w: _regression(columns, np.zeros_like(logits), truth, w)[:, 1], units, seed)


def calibration_intercept(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int = 0
) -> Estimate:
    """What is added to every logit so that the mean probability is the share of positives.

    Calibration in the large: 0 is calibrated, under 0 the probabilities are too high. Parameters as of
    :func:`calibration_slope`; an estimate without a value where there is one class only.
    """
    logits = _logits(probability)
    ones = np.ones((len(logits), 1))
    return estimated(lambda w: _regression(ones, logits, truth, w)[:, 0], units, seed)


def _logits(probability: Floats) -> Floats:
    return np.asarray(logit(np.clip(probability, CERTAIN, 1 - CERTAIN)))


def _regression(columns: Floats, offset: Floats, truth: NDArray[np.bool_], weights: Floats) -> Floats:
    """Coefficients of a logistic regression under each weighting, by Newton's method.

    ``columns`` are (slices, coefficients) and ``weights`` (weightings, slices); the result is (weightings,
    coefficients), NaN where it does not settle, as where the classes are parted wholly.
    """
    products = columns[:, :, None] * columns[:, None, :]
    tiny = np.eye(columns.shape[1]) * 1e-12
    found = np.zeros((len(weights), columns.shape[1]))
    settled = np.zeros(len(weights), dtype=bool)
    for _ in range(ROUNDS):
        share = expit(found @ columns.T + offset)
        slope = (weights * (truth - share)) @ columns
        bend = np.tensordot(weights * share * (1 - share), products, axes=1)
        step = np.linalg.solve(bend + tiny, slope[:, :, None])[:, :, 0]
        found = found + step
        settled = np.abs(step).max(axis=1) <= SETTLED
        if settled.all():
            break
    return np.where(settled[:, None], found, np.nan)


def expected_ece(probability: Floats, units: NDArray[np.intp], seed: int = 0) -> Floats:
    """The calibration errors that perfectly calibrated probabilities show on as many slices, by chance alone.

    Labels are drawn from the probabilities, after Broecker & Smith 2007, Increasing the reliability of reliability
    diagrams, doi 10.1175/WAF993.1. The slices of a unit share one draw, since they share the patient: as few
    patients give as large errors by chance.

    Parameters
    ----------
    probability
        In [0, 1], shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,).
    seed
        Of the draws.

    Returns
    -------
    ECE of each of 1000 draws.
    """
    generator = np.random.default_rng(seed)
    in_bin = bin_of(probability)[:, None] == np.arange(BINS)
    count = int(units.max()) + 1
    drawn = [generator.random(count)[units] < probability for _ in range(SIMULATED)]
    distance = np.array([np.abs((probability - labels) @ in_bin).sum() for labels in drawn])
    return distance / len(probability)
