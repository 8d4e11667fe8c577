"""The facts that travel with a trained detector, as they stand in ``bundle.json``."""

import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from groundglass.bundle.facts import Facts
from groundglass.detect.patient_rule import PatientRule
from groundglass.labels import NEGATIVE, POSITIVE


class Answer(NamedTuple):
    """What a bundle makes of its logits.

    ``score``, raw, and ``probability``, calibrated, are of COVID-19, in [0, 1]. ``probabilities`` has one for
    each of several classes, and ``answered`` is COVID-19 where that is the verdict, else the most probable of
    the others; both are empty for a yes or no.
    """

    score: float
    probability: float
    verdict: str
    probabilities: tuple[float, ...] = ()
    answered: str = ""


class BundleFacts(Facts):
    """The content of a detector's ``bundle.json``.

    Attributes
    ----------
    classes
        The classes of the logits, COVID-19 among them; empty for one logit, of COVID-19.
    temperature
        ``probability = sigmoid(logit / temperature)``, of several classes ``softmax(logits / temperature)``.
    threshold
        The verdict is ``covid`` from this probability of COVID-19 on.
    segmenter_sha256
        That of the graph of the segmenter that it was trained with, "" for none.
    patient
        How a patient's slices become one answer; None where no such rule was chosen.
    """

    kind: Literal["detector"] = "detector"
    classes: tuple[str, ...] = ()
    temperature: Annotated[float, Field(gt=0)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    segmenter_sha256: str = ""
    patient: PatientRule | None = None

    def answer(self, logits: ArrayLike) -> Answer:
        """Scores, calibrated probabilities and verdict of one slice's logit, or its logits, shape (classes,)."""
        values = np.asarray(logits, dtype=float)
        if not self.classes:
            score, probability = _sigmoid(float(values)), _sigmoid(float(values) / self.temperature)
            return Answer(score, probability, self._verdict(probability))
        covid = self.classes.index(POSITIVE)
        probabilities = _softmax(values / self.temperature)
        probability, score = float(probabilities[covid]), float(_softmax(values)[covid])
        verdict = self._verdict(probability)
        others = np.where(np.arange(len(self.classes)) == covid, -1.0, probabilities)
        answered = POSITIVE if verdict == POSITIVE else self.classes[int(others.argmax())]
        return Answer(score, probability, verdict, tuple(probabilities.tolist()), answered)

    def _verdict(self, probability: float) -> str:
        return POSITIVE if probability >= self.threshold else NEGATIVE


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
