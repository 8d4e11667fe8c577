"""The strength of the evidence for COVID-19: likelihood ratios, each for a setting with its own kind of
controls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from groundglass.bundle.facts import Choice, FactsPart
from groundglass.detect.abstention import Abstention
from groundglass.detect.patient_rule import LEAST_SHARE, PatientRule, slices_rule

DIFFERENTIAL = "differential"
CONTROLS = {
    DIFFERENTIAL: "controls have another disease of the lungs",
    "screening": "most controls are healthy",
}
"""The settings, the default first, and their meaning."""
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap draws."""
LARGEST = 99.0
"""Ratios are limited to 1 / 99 to 99: the data cannot distinguish more extreme ones."""


Weights = tuple[float, float, float]


@dataclass(frozen=True)
class LikelihoodRatio:
    """How much more often a finding like this one occurs with COVID-19 than without it.

    Attributes
    ----------
    setting
        A name in :data:`CONTROLS`.
    ratio
        Values over 1 favour COVID-19, values under 1 argue against it.
    low, high
        95% interval by bootstrap over patients.
    validated
        Whether a source with both classes supports the setting.
    pretest
        The probability of COVID-19 before the scan, if the user gave one.
    """

    setting: str
    ratio: float
    low: float
    high: float
    validated: bool
    pretest: float | None = None

    @property
    def post_test(self) -> float | None:
        """The probability of COVID-19 after the scan; None without a pre-test probability."""
        if self.pretest is None:
            return None
        odds = self.ratio * self.pretest / (1 - self.pretest)
        return odds / (1 + odds)

    def __str__(self) -> str:
        remark = "" if self.validated else ", not validated"
        post = "" if self.post_test is None else f", post-test probability {self.post_test:.2f}"
        return (
            f"{short(self.ratio)} ({short(self.low)} to {short(self.high)}) for {self.setting}{remark}{post}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The ratio as a dictionary for JSON, with the post-test probability if there is a pre-test one."""
        content = {
            "setting": self.setting,
            "ratio": round(self.ratio, 4),
            "interval": [round(self.low, 4), round(self.high, 4)],
            "validated": self.validated,
        }
        if self.pretest is None or self.post_test is None:
            return content
        return content | {"pretest": self.pretest, "post_test": round(self.post_test, 4)}


def short(ratio: float) -> str:
    """A likelihood ratio with two significant digits."""
    return f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}"


class Setting(FactsPart):
    """How a logit becomes a likelihood ratio and a verdict in one setting.

    Attributes
    ----------
    weights
        The weights of the constant 1, the network's logit, and the logarithm of the mean lesion probability
        over the lungs. The weighted sum is the logarithm of the ratio. Both classes have the same weight in
        the fit, so the probability is that at even odds, ``ratio / (1 + ratio)``.
    draws
        The weights from bootstrap resamples of the patients.
    abstention
        The verdict for each probability.
    threshold
        The probability that separates the verdicts if there is no abstention.
    patient
        The rule that combines slices into a patient's answer; None weights the slices' answers by their lesions.
    sources
        The sources with both classes that it was fitted on; if there are none, it is not validated.
    chosen
        The choices made, and the data used.
    """

    weights: Weights
    draws: tuple[Weights, ...] = ()
    abstention: Abstention | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    patient: PatientRule | None = None
    sources: tuple[str, ...] = ()
    chosen: tuple[Choice, ...] = ()

    @property
    def patient_rule(self) -> PatientRule:
        """The rule that answers for patients."""
        return self.patient or slices_rule(self.threshold, self.abstention)

    def logits(self, logit: float, lesion_probability: float | None) -> list[float]:
        """The calibrated logit of a slice and its value for each draw, from the network's logit and the
        lesion probability."""
        share = math.log((lesion_probability or 0.0) + LEAST_SHARE)
        return [float(one) for one in np.array([self.weights, *self.draws]) @ (1.0, logit, share)]

    def ratio(self, name: str, logits: Sequence[float], pretest: float | None = None) -> LikelihoodRatio:
        """The likelihood ratio, from its logarithm and the bootstrap draws of the logarithm."""
        low, high = np.percentile(logits[1:] or logits, INTERVAL)
        limit = math.log(LARGEST)
        found, lowest, highest = (
            math.exp(min(limit, max(-limit, float(one)))) for one in (logits[0], low, high)
        )
        return LikelihoodRatio(name, found, lowest, highest, bool(self.sources), pretest)
