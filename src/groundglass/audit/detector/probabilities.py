"""GG207 and GG208: whether probabilities are too extreme or too high, and whether the threshold still fits.

Cox 1958, Two further applications of a model for binary regression, doi 10.1093/biomet/45.3-4.562; Van Calster et
al. 2019, Calibration: the Achilles heel of predictive analytics, doi 10.1186/s12916-019-1466-7.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.model_selection import StratifiedGroupKFold

from groundglass.audit.check import Check, NotApplicable, Result, Severity
from groundglass.audit.measures import estimated
from groundglass.audit.trial import Trial
from groundglass.bundle.evaluation import METRICS, Estimate
from groundglass.evaluation.bootstrap import Floats, WeightedMetrics, ratio
from groundglass.evaluation.calibration import BINS, bin_of, brier, brier_parts, reliability_curve
from groundglass.evaluation.metrics import evaluate
from groundglass.evaluation.operating_point import choose_threshold
from groundglass.labels import NEGATIVE, POSITIVE, UNCERTAIN

CERTAIN = 1e-6
"""Probabilities are kept this far from 0 and 1, whose logits are infinite."""
ROUNDS, SETTLED = 15, 1e-6
"""Newton's method ends when no coefficient changes by more than this; if this many iterations are not enough,
the classes are separated completely, or nearly so, and there is no result."""
SIMULATED = 1000
"""Number of label sets drawn from the probabilities."""


def calibration_slope(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int = 0
) -> Estimate:
    """The slope of a logistic regression of the truth on the logit of the probability.

    1 is calibrated; under 1 the probabilities are too extreme (overconfident), over 1 not extreme enough.
    Below 0 they contradict the truth.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        In [0, 1], shape (slices,).
    units, seed
        As in :func:`groundglass.audit.measures.estimated`.

    Returns
    -------
    An estimate without a value if the probability separates the classes completely, or there is only one.
    """
    logits = _logits(probability)
    columns = np.column_stack([np.ones_like(logits), logits])
    return estimated(lambda w: _regression(columns, np.zeros_like(logits), truth, w)[:, 1], units, seed)


def calibration_intercept(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int = 0
) -> Estimate:
    """The value that, added to every logit, makes the mean probability equal the share of positives.

    Calibration in the large: 0 is calibrated, under 0 the probabilities are too high. Parameters as in
    :func:`calibration_slope`; an estimate without a value if there is only one class.
    """
    logits = _logits(probability)
    ones = np.ones((len(logits), 1))
    return estimated(lambda w: _regression(ones, logits, truth, w)[:, 0], units, seed)


def _logits(probability: Floats) -> Floats:
    return np.asarray(logit(np.clip(probability, CERTAIN, 1 - CERTAIN)))


def _regression(columns: Floats, offset: Floats, truth: NDArray[np.bool_], weights: Floats) -> Floats:
    """Coefficients of a logistic regression under each weighting, by Newton's method.

    ``columns`` are (slices, coefficients) and ``weights`` (weightings, slices); the result is (weightings,
    coefficients), NaN if it does not converge, as when the classes are separated completely.
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
    """The calibration errors that perfectly calibrated probabilities show on as many slices by chance.

    Labels are drawn from the probabilities, after Broecker & Smith 2007, Increasing the reliability of
    reliability diagrams, doi 10.1175/WAF993.1. The slices of a unit share one draw, since they share the
    patient: with few patients, chance alone gives large errors.

    Parameters
    ----------
    probability
        In [0, 1], shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,).
    seed
        Seed of the draws.

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


FOLDS = 5


@dataclass(frozen=True)
class Rechosen:
    """Balanced accuracy at a given threshold, and at thresholds chosen on the slices at hand.

    Attributes
    ----------
    best
        The threshold with the best balanced accuracy, that is, the best Youden index, on all slices.
    given, chosen
        Balanced accuracy at the given threshold, and with each slice answered by the threshold that is best
        on the other groups' slices, so that no slice influences its own.
    lost
        The second minus the first, paired in each resample; below 0 if the given threshold is better.
    """

    best: float
    given: Estimate
    chosen: Estimate
    lost: Estimate


def rechosen(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], threshold: float, seed: int = 0
) -> Rechosen:
    """Compare a threshold with those that would be chosen here.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        In [0, 1], shape (slices,).
    units
        The group of each slice, shape (slices,).
    threshold
        The verdict is covid at or above this probability.
    seed
        Seed of folds and bootstrap.

    Raises
    ------
    NotApplicable
        If a class has fewer than five groups.
    """
    fewest = min(len(np.unique(units[truth == label])) for label in (True, False))
    if fewest < FOLDS:
        raise NotApplicable(
            f"One class has only {fewest} patients or groups; at least {FOLDS} are needed to choose a threshold."
        )
    given = _right(truth, probability >= threshold)
    chosen = _right(truth, _crossed(truth, probability, units, seed))
    return Rechosen(
        best=_best(truth, probability, units, seed),
        given=estimated(lambda weights: _balanced(weights, given), units, seed),
        chosen=estimated(lambda weights: _balanced(weights, chosen), units, seed),
        lost=estimated(lambda weights: _balanced(weights, chosen) - _balanced(weights, given), units, seed),
    )


def _right(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> Floats:
    """Columns whose weighted sums are positives called positive, positives, controls called negative, controls."""
    return np.column_stack([truth & called, truth, ~truth & ~called, ~truth]).astype(float)


def _balanced(weights: Floats, right: Floats) -> Floats:
    tp, positives, tn, negatives = (weights @ right).T
    return (ratio(tp, positives) + ratio(tn, negatives)) / 2


def _best(truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int) -> float:
    groups = units.astype(str)
    return choose_threshold(truth, probability, groups, criterion="balanced_accuracy", seed=seed)


def _crossed(
    truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int
) -> NDArray[np.bool_]:
    """The answer to each slice by the threshold of the folds that it is not in."""
    called = np.zeros(len(truth), dtype=bool)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for others, own in splitter.split(probability, truth, units):
        threshold = _best(truth[others], probability[others], units[others], seed)
        called[own] = probability[own] >= threshold
    return called


SURELY = 0.975
"""The ECE must exceed this share of those that calibrated probabilities show by chance."""
NEGLIGIBLE = 0.02
"""A smaller ECE passes, regardless of the number of slices."""
LEAST = 50
"""Slices below which a calibration error means nothing."""


class Calibration(Check[Trial]):
    """ECE compared with chance, the parts of the Brier score, and whether the detector is over- or underconfident.

    A warning if the ECE is over 0.02 and above 97.5% of those of calibrated probabilities on as many slices.
    """

    code = "GG207"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if there are too few slices."""
        truth, units, seed = subject.material.truth, subject.material.units, subject.material.seed
        if len(truth) < LEAST:
            raise NotApplicable(
                f"On {len(truth)} slices, fewer than {LEAST}, a calibration error is mostly chance."
            )
        probability = subject.predictions["probability"].to_numpy(dtype=float)
        error = _ece(truth, probability, units, seed)
        chance = expected_ece(probability, units, seed)
        seldom = float(np.quantile(chance, SURELY))
        above = error.value is not None and error.value > max(seldom, NEGLIGIBLE)
        return self.result(
            "warning" if above else None,
            error,
            rows=_bins(truth, probability),
            chance=chance.mean(),
            seldom=seldom,
            mean=probability.mean(),
            share=truth.mean(),
            intercept=calibration_intercept(truth, probability, units, seed),
            slope=calibration_slope(truth, probability, units, seed),
            brier=brier(truth, probability),
            parts=brier_parts(truth, probability),
        )


def _ece(truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int) -> Estimate:
    verdicts = np.full(len(truth), UNCERTAIN, dtype=object)
    metrics = WeightedMetrics(truth, probability, verdicts)
    return estimated(lambda weights: metrics(weights)["ece"], units, seed)


def _bins(truth: NDArray[np.bool_], probability: Floats) -> tuple[tuple[str, ...], ...]:
    """The reliability curve, bins without slices left out."""
    curve = reliability_curve(truth, probability)
    return tuple(
        (f"{low:.1f} to {high:.1f}", f"{count:.0f}", f"{mean:.2f}", f"{share:.2f}")
        for low, high, count, mean, share in curve[curve["count"] > 0].to_numpy()
    )


CHANCE = 0.5
"""Balanced accuracy of chance."""
TOLERATED = 0.05
"""Balanced accuracy that a threshold from elsewhere may cost."""
RESAMPLES = 1000
SHOWN = ("sensitivity", "specificity", "balanced_accuracy", "ppv", "npv", "roc_auc")


class ThresholdCarriesOver(Check[Trial]):
    """Sensitivity, specificity and balanced accuracy at the bundle's threshold, and what a better one would give.

    An error if the verdicts may be no better than chance: the lower end of the balanced accuracy is 0.5 or
    less. A warning if the threshold costs over 0.05 of balanced accuracy, by the lower end of the interval.
    """

    code = "GG208"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if a class comes from fewer than five groups."""
        answers = subject.predictions
        answered = answers["verdict"].isin((POSITIVE, NEGATIVE)).to_numpy(dtype=bool)
        truth = subject.material.truth[answered]
        if truth.all() or not truth.any():
            raise NotApplicable("The detector gives no answer for any slice of one class.")
        probability = answers["probability"].to_numpy(dtype=float)[answered]
        units, seed = subject.material.units[answered], subject.material.seed
        compared = rechosen(truth, probability, units, subject.threshold, seed)
        here = evaluate(answers, resamples=RESAMPLES, seed=seed)
        validation = subject.detector.bundle.facts.validation
        return self.result(
            _severity(compared),
            compared.given,
            rows=[
                (
                    METRICS[name].title,
                    here.metrics[name],
                    "not recorded" if validation is None else validation.metrics[name],
                )
                for name in SHOWN
            ],
            threshold=subject.threshold,
            here=here.metrics,
            before=None if validation is None else validation.metrics,
            compared=compared,
        )


def _severity(compared: Rechosen) -> Severity | None:
    sure = compared.given.value if compared.given.low is None else compared.given.low
    if sure is not None and sure <= CHANCE:
        return "error"
    return "warning" if compared.lost.low is not None and compared.lost.low > TOLERATED else None
