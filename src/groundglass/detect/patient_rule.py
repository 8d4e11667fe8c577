"""The rule that combines the answers for a patient's slices into one probability, and the features that it uses.

A rule is chosen on data (evaluation.patient_rules) and stored in the bundle. Every aggregation is a logistic
function of features of all slices together, so its output needs no further calibration. With a single feature,
this is Platt scaling [1]_.

References
----------
.. [1] J. Platt: Probabilistic outputs for support vector machines and comparisons to regularized likelihood
   methods. In: Advances in Large Margin Classifiers, 1999.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from groundglass.bundle.facts import Choice, FactsPart
from groundglass.detect.abstention import Abstention, decide

TOP = 0.2
"""Share of the slices, those with the highest values, that ``top_logit`` and ``top_lesions`` use."""
LEAST_SHARE = 1e-3
"""Added to a lesion share before its logarithm is taken: the smallest share that the segmenter can detect."""
LEAST_PROBABILITY = 1e-4
"""Probabilities are kept this far from 0 and 1, so that no single slice decides alone."""
LEAST_OF_LARGEST = 0.1
"""A slice counts if its lung area is at least this share of the largest one: the apices and the recesses
behind the diaphragm show too little lung."""

LEAST_LUNG_SLICES = 3
"""Smallest number of slices with lungs in a chest volume."""

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LungSlices:
    """The data on a patient's slices that show lungs; every array has the shape (slices,).

    Attributes
    ----------
    probability
        Calibrated probability of COVID-19, in [0, 1].
    lungs, lesions
        float64, shape (slices, 2): areas in the right and the left lung, all in the same unit.
    thickness
        The thickness that each slice represents, all in the same unit.
    """

    probability: Values
    lungs: NDArray[np.float64]
    lesions: NDArray[np.float64]
    thickness: Values

    def with_enough_lung(self) -> "LungSlices":
        """The slices with enough lung to count, see :data:`LEAST_OF_LARGEST`; at least one."""
        areas = self.lungs.sum(axis=1)
        keep = areas >= LEAST_OF_LARGEST * areas.max()
        return LungSlices(self.probability[keep], self.lungs[keep], self.lesions[keep], self.thickness[keep])


def _logit(probability: Values) -> Values:
    kept = probability.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(kept / (1 - kept)))


def _log_share(share: float) -> float:
    return math.log(share + LEAST_SHARE)


def _highest(values: Values) -> Values:
    return np.sort(values)[-max(1, round(TOP * len(values))) :]


def _noisy_or(slices: LungSlices) -> float:
    """The noisy-or of the slices, with the mean instead of the sum, so that thin slices do not count more."""
    none = float(np.log1p(-slices.probability.clip(0, 1 - LEAST_PROBABILITY)).mean())
    return math.log(max(-math.expm1(none), LEAST_PROBABILITY)) - none


def _attention(slices: LungSlices) -> float:
    """The mean logit, with each slice weighted by its lesion share."""
    weights = _slice_shares(slices) + LEAST_SHARE
    return float((weights * _logit(slices.probability)).sum() / weights.sum())


def _slice_shares(slices: LungSlices) -> Values:
    lungs = slices.lungs.sum(axis=1)
    return np.divide(slices.lesions.sum(axis=1), lungs, out=np.zeros(len(lungs)), where=lungs > 0)


def _shares_of_sides(slices: LungSlices) -> Values:
    """The lesion shares of the right and the left lung, 0 for a lung that is not visible."""
    lungs, lesions = (slices.thickness @ areas for areas in (slices.lungs, slices.lesions))
    return np.divide(lesions, lungs, out=np.zeros(2), where=lungs > 0)


def _whole_share(slices: LungSlices) -> float:
    lungs, lesions = (float((slices.thickness @ areas).sum()) for areas in (slices.lungs, slices.lesions))
    return lesions / lungs if lungs else 0.0


FEATURES: Mapping[str, Callable[[LungSlices], float]] = {
    "mean_logit": lambda slices: float(_logit(slices.probability).mean()),
    "top_logit": lambda slices: float(_highest(_logit(slices.probability)).mean()),
    "noisy_or": _noisy_or,
    "attention_logit": _attention,
    "lesion_share": lambda slices: _log_share(_whole_share(slices)),
    "top_lesions": lambda slices: _log_share(float(_highest(_slice_shares(slices)).mean())),
    "lesser_side": lambda slices: _log_share(float(_shares_of_sides(slices).min())),
}
"""The features of rules. Logits are those of the slices' probabilities of COVID-19; shares are used as
logarithms."""

LESION_FEATURES = frozenset({"lesion_share", "top_lesions", "lesser_side"})
"""Features that depend only on the segmenter, not on the slices' scores."""

AGGREGATIONS: Mapping[str, tuple[str, ...]] = {
    "mean": ("mean_logit",),
    "top-k mean": ("top_logit",),
    "noisy-or": ("noisy_or",),
    "attention by lesions": ("attention_logit",),
    "lesion share": ("lesion_share",),
    "most diseased slices": ("top_lesions",),
    "scores and lesion share": ("top_logit", "lesion_share"),
    "attention and lesion share": ("attention_logit", "lesion_share"),
    "both lungs": ("lesion_share", "lesser_side"),
    "all": ("mean_logit", "top_logit", "lesion_share", "top_lesions", "lesser_side"),
}
"""The aggregations to choose from and their features, simplest first. Shares of whole lungs precede those of
selected slices, because they depend less on how a volume is sliced."""


def features(slices: LungSlices, names: tuple[str, ...] = tuple(FEATURES)) -> dict[str, float]:
    """The features of a patient's slices that show enough lung."""
    counted = slices.with_enough_lung()
    return {name: FEATURES[name](counted) for name in names}


class PatientRule(FactsPart):
    """Combines the answers for slices into a patient's probability of COVID-19.

    Attributes
    ----------
    aggregation
        Name in :data:`AGGREGATIONS`.
    weights
        By feature; ``probability = sigmoid(intercept + sum(weight * feature))``.
    threshold
        The verdict is ``covid`` at or above this probability, unless there is an ``abstention``.
    abstention
        The verdict for each probability, including ``uncertain``; None if it never abstains.
    draws
        The intercept and the weights, in this order, from bootstrap resamples of the patients.
    chosen
        The data it was chosen on, and its performance there.
    """

    aggregation: str
    weights: dict[str, float]
    intercept: float
    threshold: Annotated[float, Field(ge=0, le=1)]
    abstention: Abstention | None = None
    draws: tuple[tuple[float, ...], ...] = ()
    chosen: tuple[Choice, ...] = ()

    def logits(self, slices: LungSlices) -> list[float]:
        """The logit of the patient's probability, and its value for each draw."""
        values = [1.0, *features(slices, tuple(self.weights)).values()]
        weights = np.array([(self.intercept, *self.weights.values()), *self.draws])
        return [float(logit) for logit in weights @ values]

    def probability(self, slices: LungSlices) -> float:
        """The patient's calibrated probability of COVID-19."""
        return 1 / (1 + math.exp(-max(-700.0, min(700.0, self.logits(slices)[0]))))

    def answer(self, slices: LungSlices) -> tuple[float, str, str]:
        """The patient's probability of COVID-19, the verdict, and why it is ``uncertain`` ("" if it is not).

        Prediction and evaluation both use this method for patients.
        """
        probability = self.probability(slices)
        return probability, *decide(probability, self.threshold, self.abstention)


def shows_chest(bearing: int, slices: int) -> bool:
    """Whether enough slices show lungs (``bearing`` of ``slices``) to answer for the patient."""
    return 0 < bearing >= min(LEAST_LUNG_SLICES, slices)


def slices_rule(
    threshold: float, abstention: Abstention | None = None, draws: tuple[tuple[float, ...], ...] = ()
) -> PatientRule:
    """The rule if none was chosen on patients: the mean logit of the slices, each weighted by its lesion share.

    It is no more certain about a patient than about one slice, because it does not accumulate evidence over slices.
    """
    return PatientRule(
        aggregation="attention by lesions",
        weights={"attention_logit": 1.0},
        intercept=0.0,
        threshold=threshold,
        abstention=abstention,
        draws=draws,
        chosen=(Choice(what="none", criterion="no rule was chosen on patients; it is that of slices"),),
    )
