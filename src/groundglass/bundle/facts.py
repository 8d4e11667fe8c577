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


RESEARCH_USE = "Research use only. This is no medical device and must not guide the care of a patient."


def card(facts: Facts, what_it_does: list[str], *, positive: str, validation_note: str) -> str:
    """A model card as Markdown.

    Parameters
    ----------
    facts
        The bundle's facts.
    what_it_does
        Lines of the section of that name.
    positive
        Heading of the column of positive slices.
    validation_note
        What the intervals are over, and which class is positive.
    """
    training = facts.training
    best = "" if training.best_epoch is None else f", best epoch {training.best_epoch}"
    lines = [
        f"# {facts.name}",
        "",
        f"{facts.description.strip()}",
        "",
        f"**{RESEARCH_USE}**",
        "",
        "## What it does",
        "",
        *what_it_does,
        "",
        "## What it was trained on",
        "",
        f"{training.title} (`{training.dataset}`, split `{training.split}`), seed {training.seed}{best}."
        f" Licence of the data: {training.licence}",
        f"Citation: {training.citation}",
        "",
        f"| part | slices | {positive} | patients |",
        "|---|---|---|---|",
        *[_part_row(name, part) for name, part in training.parts.items()],
        "",
        f"Data fingerprint `{training.fingerprint}`. Versions: "
        + ", ".join(f"{name} {version}" for name, version in training.versions.items())
        + ".",
        "",
        "## What was chosen, and on what",
        "",
        *[f"- {line}" for line in facts.chosen],
        "",
        "## Figures",
        "",
        validation_note,
        "",
        *_table(f"{training.dataset}, validation part (on which it was chosen: too good)", facts.validation),
    ]
    for evaluation in facts.evaluations:
        lines += [*_table(_heading(evaluation), evaluation.figures), *_graded(evaluation)]
    for evaluation in facts.left_out:
        title = f"{evaluation.dataset}, left out: by another network, trained in the same way without it"
        told = f"{title} ({evaluation.slices} slices, {evaluation.date})"
        lines += [*_table(told, evaluation.figures), *_graded(evaluation)]
    if not facts.evaluations and not facts.left_out:
        lines += ["No test part has been evaluated yet.", ""]
    return "\n".join(lines).rstrip() + "\n"


def describe_input(facts: Facts) -> str:
    """The input of a network in words."""
    p = facts.preprocessing
    fit = "aspect ratio kept, padded" if p.resize == "pad" else "stretched"
    window = f"HU through a window of level {p.window.level:g}, width {p.window.width:g}; grey as it is"
    parts = [f"{p.size[0]} x {p.size[1]} pixels, {fit}; {window}"]
    if p.clahe is not None:
        parts.append(f"contrast equalised locally (CLAHE, clip limit {p.clahe:g})")
    if p.lungs == "crop":
        parts.append(f"cropped to the lungs with a margin of {p.margin:g}, found by {p.segmenter}")
    if p.lungs == "mask":
        parts.append(f"grey {p.outside:g} outside the lungs, found by {p.segmenter}")
    if p.lungs == "only":
        parts.append(
            f"the convex hull of each lung, found by {p.segmenter}, with a margin of {p.margin:g}; grey "
            f"{p.outside:g} outside"
        )
    if p.greys == "landmarks":
        parts.append("aerated lung and soft tissue brought to fixed greys")
    return "; ".join(parts)


def _part_row(name: str, part: Part) -> str:
    patients = "not known" if part.patients is None else str(part.patients)
    return f"| {name} | {part.slices} | {part.positive} | {patients} |"


def _heading(evaluation: EvaluationFacts) -> str:
    kind = "external: another source than its training data" if evaluation.external else "held out"
    return f"{evaluation.dataset}, {evaluation.part} ({kind}; {evaluation.slices} slices, {evaluation.date})"


def _graded(evaluation: EvaluationFacts) -> list[str]:
    if not evaluation.grade:
        return []
    reasons = [f"- {reason}" for reason in evaluation.grade_reasons]
    return [f"How far the AUC can be believed, from A to E: **{evaluation.grade}**", "", *reasons, ""]


def _table(title: str, figures: dict[str, str]) -> list[str]:
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    return [f"### {title}", "", "| figure | value |", "|---|---|", *rows, ""]
