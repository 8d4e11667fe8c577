"""Can the probabilities be taken at their word?"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, NotApplicable, Result
from groundglass.audit.measure.figures import estimated
from groundglass.audit.measure.recalibration import calibration_intercept, calibration_slope, expected_ece
from groundglass.audit.trial import Trial
from groundglass.evaluate.calibration import BrierParts, brier, brier_parts, reliability_curve
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.summary import format_estimate
from groundglass.evaluate.weighted import Floats, WeightedMetrics
from groundglass.labels import UNCERTAIN

SURELY = 0.975
"""The ECE must pass this share of those that calibrated probabilities show by chance."""
NEGLIGIBLE = 0.02
"""A smaller ECE is let pass, however many slices show it."""
LEAST = 50
"""Slices below which a calibration error says nothing."""


class Calibration(Check[Trial]):
    """ECE against what chance gives, the parts of the Brier score, and whether it is over- or underconfident.

    A warning where the ECE is over 0.02 and above 97.5% of those of calibrated probabilities on as many slices.
    """

    code = "GG207"
    title = "Calibration"
    severity = "warning"
    needs: ClassVar = ("two classes",)
    remedy = (
        "Do not show the probability as a chance of COVID-19 on such slices; fit the temperature, or slope and "
        "intercept, anew on labelled slices of the place of use that are not tested on."
    )

    def run(self, subject: Trial) -> Result:
        """Look; raises NotApplicable where there are too few slices."""
        truth, units, seed = subject.material.truth, subject.material.units, subject.material.seed
        if len(truth) < LEAST:
            raise NotApplicable(
                f"Of {len(truth)} slices, under {LEAST}, a calibration error is mostly chance."
            )
        probability = subject.predictions["probability"].to_numpy(dtype=float)
        error = _ece(truth, probability, units, seed)
        chance = expected_ece(probability, units, seed)
        seldom = float(np.quantile(chance, SURELY))
        above = error.value is not None and error.value > max(seldom, NEGLIGIBLE)
        level = float(probability.mean()), float(truth.mean())
        intercept = calibration_intercept(truth, probability, units, seed)
        words = _in_words(level, intercept, calibration_slope(truth, probability, units, seed))
        return Result(
            "warning" if above else None,
            f"The probabilities lie {format_estimate(error, 3)} off what is observed (ECE); calibrated ones would "
            f"by chance lie {chance.mean():.3f} off on as many slices and patients, and seldom over {seldom:.3f}. "
            f"{words} {_brier_in_words(brier(truth, probability), brier_parts(truth, probability))}",
            figure=error,
            measure="ECE",
            header=("probability", "slices", "mean probability", "share labelled covid"),
            rows=_bins(truth, probability),
        )


def _ece(truth: NDArray[np.bool_], probability: Floats, units: NDArray[np.intp], seed: int) -> Estimate:
    verdicts = np.full(len(truth), UNCERTAIN, dtype=object)
    metrics = WeightedMetrics(truth, probability, verdicts)
    return estimated(lambda weights: metrics(weights)["ece"], units, seed)


def _in_words(level: tuple[float, float], intercept: Estimate, slope: Estimate) -> str:
    """Whether the probabilities are too high, and too extreme; ``level`` is their mean and the share of covid."""
    high = _beside(
        intercept, 0.0, below="which is too high", above="which is too low", within="which chance may explain"
    )
    extreme = _beside(
        slope,
        1.0,
        below="they are too extreme, that is overconfident",
        above="they are not extreme enough, that is underconfident",
        within="they are neither surely over- nor surely underconfident",
    )
    return (
        f"On average they say {level[0]:.2f} where {level[1]:.2f} are covid, {high} (calibration intercept "
        f"{format_estimate(intercept)}); {extreme} (slope {format_estimate(slope)}, of calibrated ones 1)."
    )


def _beside(figure: Estimate, wanted: float, *, below: str, above: str, within: str) -> str:
    if figure.high is not None and figure.high < wanted:
        return below
    return above if figure.low is not None and figure.low > wanted else within


def _brier_in_words(score: float, parts: BrierParts) -> str:
    return (
        f"The Brier score of {score:.3f} is {parts.uncertainty:.3f} for the mixture of classes (uncertainty), "
        f"less {parts.resolution:.3f} for what is told apart (resolution), plus {parts.reliability:.3f} for "
        f"miscalibration (reliability) and {parts.within_bins:.3f} within bins."
    )


def _bins(truth: NDArray[np.bool_], probability: Floats) -> tuple[tuple[str, ...], ...]:
    """The reliability curve, bins without slices left out."""
    curve = reliability_curve(truth, probability)
    return tuple(
        (f"{low:.1f} to {high:.1f}", f"{count:.0f}", f"{mean:.2f}", f"{share:.2f}")
        for low, high, count, mean, share in curve[curve["count"] > 0].to_numpy()
    )
