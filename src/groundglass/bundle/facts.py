"""The facts about a trained network that its bundle stores in ``bundle.json``, and their model card.

Facts hold values; sentences are made when they are printed.
"""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from groundglass.bundle.evaluation import Estimate, Evaluation, OverlapEvaluation, format_estimate
from groundglass.data.registry import DATASETS
from groundglass.preprocess import Preprocessing

FORMAT: Literal[2] = 2
"""The version of ``bundle.json``; it changes when the meaning or form of a fact changes."""


class FactsPart(BaseModel):
    """A part of the facts; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(FactsPart):
    """Counts of one part of the data."""

    slices: int
    positive: int
    patients: int | None = None


class Choice(FactsPart):
    """Something that was chosen for a bundle besides the training of its weights.

    Attributes
    ----------
    what
        A short name, such as ``threshold``. A later choice of the same name replaces an earlier one.
    values
        What was chosen, by name.
    criterion
        Why these values: what was optimised, or what is required.
    data
        The data it was chosen on; blank if none.
    """

    what: str
    values: dict[str, int | float | str] = {}
    criterion: str = ""
    data: str = ""

    def __str__(self) -> str:
        values = (
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.values.items()
        )
        on = f"on {self.data}" if self.data else ""
        reasons = "; ".join(part for part in (self.criterion, on) if part)
        what = self.what[:1].upper() + self.what[1:]
        return ": ".join(filter(None, (what, "; ".join(filter(None, (", ".join(values), reasons)))))) + "."


def replaced(earlier: Iterable[Choice], later: Iterable[Choice]) -> tuple[Choice, ...]:
    """The choices of both; for a name in both, the ``later`` one."""
    later = tuple(later)
    names = {choice.what for choice in later}
    return (*(choice for choice in earlier if choice.what not in names), *later)


class TrainingFacts(FactsPart):
    """What a bundle was trained and chosen on.

    ``splits`` says how each dataset was split. ``fingerprints`` are those of each source's training and
    validation scans if it was trained on several datasets, or on all sources but one. ``masks`` names the
    sources of the masks that were trained on. For a model that Groundglass did not train, only the sources are
    known, if they are stated.
    """

    dataset: str
    sources: tuple[str, ...]
    title: str = ""
    licence: str = ""
    citation: str = ""
    splits: dict[str, str] = {}
    parts: dict[str, Part] = {}
    fingerprint: str = ""
    fingerprints: dict[str, str] = {}
    masks: tuple[str, ...] = ()
    seed: int | None = None
    best_epoch: int | None = None
    versions: dict[str, str] = {}

    @classmethod
    def stated(cls, sources: tuple[str, ...] | None) -> Self:
        """The facts of a model that Groundglass did not train; ``sources`` is None if its data are not stated."""
        dataset = "" if sources is None else " + ".join(sources) or "no dataset that Groundglass knows"
        return cls(dataset=dataset, sources=sources or ())

    @property
    def known(self) -> bool:
        """Whether the training data are known."""
        return self.dataset != ""

    @property
    def split(self) -> str:
        """How the datasets were split, in words."""
        return " + ".join(self.splits.values())

    def licences(self) -> list[tuple[str, str, str]]:
        """Each dataset that was trained on, masks included: its name, its licence, and whether it allows
        commercial use."""
        known = {name: DATASETS.get(name) for name in (*self.sources, *self.masks)}
        return [
            (name, data.licence, data.commercial_use) if data else (name, "not known", "not known")
            for name, data in known.items()
        ]

    def terms(self) -> str:
        """What the licences of the data mean for a user of the network, as one sentence; blank if they allow all
        use."""
        problems = {"no": "commercial use is not allowed for", "not known": "the licence is not known for"}
        refused = [
            f"{problem} {', '.join(names)}"
            for commercial, problem in problems.items()
            if (names := [name for name, _, use in self.licences() if use == commercial])
        ]
        if not refused:
            return ""
        return (
            f"Non-commercial terms apply: {'; '.join(refused)}. They may extend to networks that were trained on "
            "these data."
        )


Grade = Literal["A", "B", "C", "D", "E"]
"""How trustworthy an AUC is; A is best (docs/honest-numbers.md)."""

REASONS = {
    "no AUC": "There is no AUC: all slices are of one class.",
    "trained on": "The detector was trained on slices evaluated here.",
    "chosen on": "The detector was chosen on slices evaluated here.",
    "trained and chosen on": "The detector was trained and chosen on slices evaluated here.",
    "seen in training": "{count} of the {of} slices are in the training or validation set.",
    "groups in two parts": "The patients or groups of {count} slices are also in the training or validation set.",
    "split not known": "Neither patients nor the split are known, so slices of one patient may be on both sides.",
    "split by slice": "Patients are not known and the split was made by slice, so patients are in several parts.",
    "patients guessed": "Patients are only guessed: the interval may be too narrow.",
    "patients not known": "Patients are not known: the interval may be too narrow.",
    "label is the source": "Each of the {sources} sources has one class only, so the source reveals the label.",
    "few patients": "A class comes from fewer than {least} {units}: {fewest}.",
    "lungs removed": "With the lungs blacked out the AUC is still {auc}.",
    "headers reach the AUC": "The files' headers alone reach the AUC, without any pixel: {auc}.",
    "headers predict the label": "The files' headers alone predict the label with AUC {auc}.",
    "worse on another source": "On another source, {dataset}, the AUC is {auc}.",
    "no interval": "The AUC has no interval.",
    "wide interval": "The interval is ±{half_width:.2f}.",
    "not measured": "{item}: not known: {why}.",
    "not known on another source": "It is not known whether the AUC holds on another source.",
    "no other source tested": "No dataset from another source was tested.",
}
"""The sentence of each reason that lowers a grade."""


class GradeReason(FactsPart):
    """Something that lowers the grade of an AUC to ``grade``: its name in :data:`REASONS` and the values in it."""

    grade: Grade
    rule: str
    values: dict[str, int | float | str | Estimate] = {}

    def __str__(self) -> str:
        shown = {
            name: format_estimate(value) if isinstance(value, Estimate) else value
            for name, value in self.values.items()
        }
        return f"{self.grade}: {REASONS[self.rule].format(**shown)}"


class EvaluationFacts(FactsPart):
    """One evaluation: on what, and the figures with their intervals.

    Attributes
    ----------
    dataset, part
        What was evaluated.
    external
        Whether none of its sources was trained on.
    fingerprint
        Of the dataset with its split.
    date
        ISO 8601.
    slices
        The figures per slice; of a segmenter, per case.
    patients
        The figures per patient; None if patients are not known.
    superseded
        Whether the verdicts have been recalibrated since, so that figures of verdicts no longer hold.
    grade, grade_reasons
        How trustworthy the AUC is, and what lowers the grade; blank for segmenters.
    setting
        The setting in which the detector answered; blank if it knows none.
    """

    dataset: str
    part: str
    setting: str = ""
    external: bool
    fingerprint: str
    date: str
    slices: Evaluation | OverlapEvaluation
    patients: Evaluation | None = None
    superseded: bool = False
    grade: Grade | Literal[""] = ""
    grade_reasons: tuple[GradeReason, ...] = ()


class Facts(FactsPart):
    """What every ``bundle.json`` holds, regardless of the task.

    Attributes
    ----------
    chosen
        What was chosen, and on which data.
    validation
        The figures on the validation set, which was used to choose the network; ``validation_superseded`` if
        the verdicts have been recalibrated since.
    evaluations
        Evaluations of this network.
    left_out
        Evaluations on one source each, of networks trained in the same way without that source.
    """

    format: Literal[2] = 2
    kind: str
    name: str
    description: str
    groundglass: str
    graph_sha256: str
    preprocessing: Preprocessing
    chosen: tuple[Choice, ...]
    training: TrainingFacts
    validation: Evaluation | OverlapEvaluation | None = None
    validation_superseded: bool = False
    evaluations: tuple[EvaluationFacts, ...] = ()
    left_out: tuple[EvaluationFacts, ...] = ()

    def stored(self) -> Self:
        """The facts as the bundle stores them, without a user's choices."""
        return self


RESEARCH_USE = "Research use only. This is not a medical device and must not guide the care of a patient."


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
        *_trained_on(facts.training, positive),
        "",
        "## What was chosen, and on what",
        "",
        *([f"- {choice}" for choice in facts.chosen] or ["Nothing is recorded."]),
        "",
        "## Figures",
        "",
        validation_note,
        "",
        *(_validation(facts) if facts.training.parts else []),
    ]
    for evaluation in facts.evaluations:
        lines += _evaluated(_heading(evaluation), evaluation)
    for evaluation in facts.left_out:
        title = f"{evaluation.dataset}, left out: by another network, trained in the same way without it"
        lines += _evaluated(f"{title} ({_count(evaluation)} slices, {evaluation.date})", evaluation)
    if not facts.evaluations and not facts.left_out:
        lines += ["No test set has been evaluated yet.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _trained_on(training: TrainingFacts, positive: str) -> list[str]:
    if not training.parts:  # a model that was not trained by Groundglass
        return [
            f"Stated: {training.dataset}." if training.known else "It is not stated what it was trained on."
        ]
    best = "" if training.best_epoch is None else f", best epoch {training.best_epoch}"
    return [
        f"{training.title} (`{training.dataset}`, split `{training.split}`), seed {training.seed}{best}.",
        f"Citation: {training.citation}",
        "",
        "| trained on | licence of the data | commercial use |",
        "|---|---|---|",
        *[f"| {' | '.join(row)} |" for row in training.licences()],
        "",
        *([f"**{terms}**", ""] if (terms := training.terms()) else []),
        f"| part | slices | {positive} | patients |",
        "|---|---|---|---|",
        *[_part_row(name, part) for name, part in training.parts.items()],
        "",
        f"Data fingerprint `{training.fingerprint}`. Versions: "
        + ", ".join(f"{name} {version}" for name, version in training.versions.items())
        + ".",
    ]


def describe_input(facts: Facts) -> str:
    """The input of a network in words."""
    p = facts.preprocessing
    fit = "aspect ratio kept, padded" if p.resize == "pad" else "stretched"
    window = f"HU in a window of level {p.window.level:g}, width {p.window.width:g}; grey is not changed"
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
        parts.append("aerated lung and soft tissue mapped to fixed greys")
    return "; ".join(parts)


def _part_row(name: str, part: Part) -> str:
    patients = "not known" if part.patients is None else str(part.patients)
    return f"| {name} | {part.slices} | {part.positive} | {patients} |"


def _heading(evaluation: EvaluationFacts) -> str:
    kind = "external: another source than its training data" if evaluation.external else "held out"
    setting = evaluation.setting and f"setting {evaluation.setting}; "
    counted = f"{_count(evaluation)} slices, {evaluation.date}"
    return f"{evaluation.dataset}, {evaluation.part} ({setting}{kind}; {counted})"


def _count(evaluation: EvaluationFacts) -> int:
    found = evaluation.slices
    return found.slices if isinstance(found, OverlapEvaluation) else found.count


SUPERSEDED = "The verdicts were calibrated again since: only AUC and PR AUC still hold."


def _validation(facts: Facts) -> list[str]:
    title = f"{facts.training.dataset}, validation set (used for choices, so the figures are too optimistic)"
    if facts.validation is None:
        return [f"### {title}", "", "Not evaluated.", ""]
    return _table(title, facts.validation.rows(), superseded=facts.validation_superseded)


def _evaluated(title: str, evaluation: EvaluationFacts) -> list[str]:
    lines = _table(title, evaluation.slices.rows(), superseded=evaluation.superseded)
    if evaluation.patients is not None:
        by = f"Per patient, by the {evaluation.patients.aggregation}:"
        lines += [by, "", *_rows(evaluation.patients.rows()), ""]
    return [*lines, *_graded(evaluation)]


def _graded(evaluation: EvaluationFacts) -> list[str]:
    if not evaluation.grade:
        return []
    reasons = [f"- {reason}" for reason in evaluation.grade_reasons]
    return [f"How far the AUC can be trusted, from A to E: **{evaluation.grade}**", "", *reasons, ""]


def _table(title: str, figures: Iterable[tuple[str, str]], *, superseded: bool) -> list[str]:
    return [f"### {title}", "", *([SUPERSEDED, ""] if superseded else []), *_rows(figures), ""]


def _rows(figures: Iterable[tuple[str, str]]) -> list[str]:
    return ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures)]
