"""The facts that travel with a trained detector, as they stand in ``bundle.json``."""

import math
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.preprocess import Preprocessing


class Answer(NamedTuple):
    """What a bundle makes of a logit: raw score, calibrated probability (both in [0, 1]) and verdict."""

    score: float
    probability: float
    verdict: str


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Part):
    """Counts of one part of the data."""

    slices: int
    positive: int
    patients: int | None = None


class TrainingFacts(_Part):
    """What a bundle was trained and chosen on."""

    dataset: str
    sources: tuple[str, ...]
    title: str
    licence: str
    citation: str
    split: str
    parts: dict[str, Part]
    fingerprint: str
    seed: int
    best_epoch: int
    versions: dict[str, str]


class EvaluationFacts(_Part):
    """One evaluation that was entered into the bundle: where, on what, and the figures with their intervals."""

    dataset: str
    part: str
    external: bool
    fingerprint: str
    date: str
    slices: int
    figures: dict[str, str]


class BundleFacts(_Part):
    """The content of ``bundle.json``.

    ``probability = sigmoid(logit / temperature)``; the verdict is ``covid`` from ``threshold`` on.
    ``chosen`` says in words what was chosen on which part of the data.
    """

    format: Literal[1] = 1
    name: str
    description: str
    groundglass: str
    graph_sha256: str
    preprocessing: Preprocessing
    temperature: Annotated[float, Field(gt=0)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    chosen: tuple[str, ...]
    training: TrainingFacts
    validation: dict[str, str]
    evaluations: tuple[EvaluationFacts, ...] = ()

    def answer(self, logit: float) -> Answer:
        """Score, calibrated probability and verdict of a logit."""
        probability = _sigmoid(logit / self.temperature)
        return Answer(_sigmoid(logit), probability, POSITIVE if probability >= self.threshold else NEGATIVE)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
