"""The facts that travel with every trained network, as they stand in ``bundle.json``."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from groundglass.preprocess import Preprocessing


class FactsPart(BaseModel):
    """A part of the facts; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(FactsPart):
    """Counts of one part of the data."""

    slices: int
    positive: int
    patients: int | None = None


class TrainingFacts(FactsPart):
    """What a bundle was trained and chosen on.

    ``fingerprints`` are by source, of the training and validation scans; they stand there where scans of several
    datasets, or of all sources but one, were trained on. ``masks`` has the sources of the slices whose masks were
    trained on beside them.
    """

    dataset: str
    sources: tuple[str, ...]
    title: str
    licence: str
    citation: str
    split: str
    parts: dict[str, Part]
    fingerprint: str
    fingerprints: dict[str, str] = {}
    masks: tuple[str, ...] = ()
    seed: int
    best_epoch: int | None = None
    versions: dict[str, str]


class EvaluationFacts(FactsPart):
    """One evaluation that was entered into the bundle: where, on what, and the figures with their intervals.

    ``grade`` says from A to E how far its AUC can be believed, and ``grade_reasons`` what holds it down
    (docs/honest-numbers.md); the first bundles have neither, nor have segmenters.
    """

    dataset: str
    part: str
    external: bool
    fingerprint: str
    date: str
    slices: int
    figures: dict[str, str]
    grade: str = ""
    grade_reasons: tuple[str, ...] = ()


class Facts(FactsPart):
    """What stands in every ``bundle.json``, whatever the network answers.

    ``chosen`` says in words what was chosen on which part of the data. ``left_out`` has a source each, judged by a
    network that was trained in the same way without it.
    """

    format: Literal[1] = 1
    kind: str
    name: str
    description: str
    groundglass: str
    graph_sha256: str
    preprocessing: Preprocessing
    chosen: tuple[str, ...]
    training: TrainingFacts
    validation: dict[str, str]
    evaluations: tuple[EvaluationFacts, ...] = ()
    left_out: tuple[EvaluationFacts, ...] = ()
