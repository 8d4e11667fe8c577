"""The facts that travel with a trained detector, as they stand in ``bundle.json``."""

import math
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from groundglass.bundle.facts import Facts
from groundglass.labels import NEGATIVE, POSITIVE


class Answer(NamedTuple):
    """What a bundle makes of a logit: raw score, calibrated probability (both in [0, 1]) and verdict."""

    score: float
    probability: float
    verdict: str


class BundleFacts(Facts):
    """The content of a detector's ``bundle.json``.

    ``probability = sigmoid(logit / temperature)``; the verdict is ``covid`` from ``threshold`` on.
    ``segmenter_sha256`` is that of the graph of the segmenter that it was trained with, "" for none.
    """

    kind: Literal["detector"] = "detector"
    temperature: Annotated[float, Field(gt=0)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    segmenter_sha256: str = ""

    def answer(self, logit: float) -> Answer:
        """Score, calibrated probability and verdict of a logit."""
        probability = _sigmoid(logit / self.temperature)
        return Answer(_sigmoid(logit), probability, POSITIVE if probability >= self.threshold else NEGATIVE)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
