"""The facts that travel with a trained detector, as they stand in ``bundle.json``."""

import math
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from groundglass.bundle.engine import Precision
from groundglass.bundle.facts import Facts
from groundglass.detect.abstention import Abstention, decide
from groundglass.detect.patient_rule import PatientRule
from groundglass.labels import POSITIVE, UNCERTAIN


class Answer(NamedTuple):
    """What a bundle makes of its logits.

    ``score``, raw, and ``probability``, calibrated, are of COVID-19, in [0, 1]. ``probabilities`` has one for
    each of several classes, and ``answered`` is COVID-19 where that is the verdict, "" where it is ``uncertain``,
    else the most probable of the others; both are empty for a yes or no. ``reason`` says why it is ``uncertain``.
    """

    score: float
    probability: float
    verdict: str
    probabilities: tuple[float, ...] = ()
    answered: str = ""
    reason: str = ""


class BundleFacts(Facts):
    """The content of a detector's ``bundle.json``.

    Attributes
    ----------
    precision
        What the network is computed in.
    classes
        The classes of the logits, COVID-19 among them; empty for one logit, of COVID-19.
    temperature
        ``probability = sigmoid(logit / temperature + bias)``, of several classes ``softmax(logits / temperature)``.
    bias
        See ``temperature``; 0 with several classes.
    threshold
        The verdict is ``covid`` from this probability of COVID-19 on, unless there is an ``abstention``.
    abstention
        Which probabilities get which verdict, ``uncertain`` among them; None where every one is answered.
    furthest
        A slice whose features lie further from those of the training slices is ``uncertain``; None where that is
        not asked. The distance is the graph's third output.
    segmenter_sha256
        That of the graph of the segmenter that it was trained with, "" for none.
    patient
        How a patient's slices become one answer; None where no such rule was chosen.
    """

    kind: Literal["detector"] = "detector"
    precision: Precision = "f32"
    classes: tuple[str, ...] = ()
    temperature: Annotated[float, Field(gt=0)]
    bias: float = 0.0
    threshold: Annotated[float, Field(ge=0, le=1)]
    abstention: Abstention | None = None
    furthest: float | None = None
    segmenter_sha256: str = ""
    patient: PatientRule | None = None

    def answer(self, logits: ArrayLike, distance: float | None = None) -> Answer:
        """Scores, calibrated probabilities and verdict of one slice.

        Parameters
        ----------
        logits
            Its logit, or its logits, shape (classes,).
        distance
            How far its features lie from those of the training slices, where the graph says so.
        """
        values = np.asarray(logits, dtype=float)
        if not self.classes:
            logit = float(values)
            score, probability = _sigmoid(logit), _sigmoid(logit / self.temperature + self.bias)
            verdict, reason = self._verdict(probability, distance)
            return Answer(score, probability, verdict, reason=reason)
        covid = self.classes.index(POSITIVE)
        probabilities = _softmax(values / self.temperature)
        probability, score = float(probabilities[covid]), float(_softmax(values)[covid])
        verdict, reason = self._verdict(probability, distance)
        others = np.where(np.arange(len(self.classes)) == covid, -1.0, probabilities)
        answers = {POSITIVE: POSITIVE, UNCERTAIN: ""}
        answered = answers.get(verdict, self.classes[int(others.argmax())])
        return Answer(score, probability, verdict, tuple(probabilities.tolist()), answered, reason)

    def unlike(self, distance: float | None) -> str:
        """Why a slice is unlike those of the training; "" where it is not, or nothing is known of it."""
        if self.furthest is None or distance is None or distance <= self.furthest:
            return ""
        return (
            f"unlike what the detector was trained on (distance {distance:.1f}, at most {self.furthest:.1f})"
        )

    def _verdict(self, probability: float, distance: float | None) -> tuple[str, str]:
        """The verdict, and why it is ``uncertain``."""
        unlike = self.unlike(distance)
        return (UNCERTAIN, unlike) if unlike else decide(probability, self.threshold, self.abstention)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
