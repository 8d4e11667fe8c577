"""Reporting checklists completed from the records of a bundle or a run: each item is answered, left to the
author, or not applicable. The items and the facts that answer them are in ``standards/*.yaml``."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import yaml
from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel, ConfigDict

from groundglass.bundle.evaluation import METRICS, Evaluation
from groundglass.bundle.facts import EvaluationFacts, Facts, describe_input
from groundglass.data.registry import DATASETS
from groundglass.labels import POSITIVE
from groundglass.report.page import Link, Report, Table, bundle_table, dataset_table

Status = Literal["answered", "in part", "for the author", "not applicable"]
STANDARDS = ("claim-2024", "tripod-ai")
HEADER = ("item", "what it asks for", "answer", "where")
NO_SCORE = (
    "The counts are not a score: an answered item means that something is reported, not that it was done "
    "well. Check every answer before you submit the checklist, and complete the items left to the author."
)
MAIN = ("roc_auc", "sensitivity", "specificity")
"""The metrics given in an answer; the model card has all."""
KEPT_TOGETHER = {
    "official": "the split that the dataset's authors published",
    "grouped": "no patient or group in two parts",
    "blocks": "contiguous numbers in one part, which mostly keeps patients apart; no patient ids were published",
    "random": "slice by slice, so slices of one patient may be in two parts",
}
OVERLAPS = {"seen in training", "groups in two parts", "split by slice", "split not known"}
"""Reasons in ``groundglass.bundle.facts.REASONS`` that concern overlap between the parts."""


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class _Fact(_Words):
    """A template of a recorded fact, with the file and the place in that file where it is recorded."""

    file: str
    at: str
    text: str


class Item(_Words):
    """An item of a reporting standard.

    Attributes
    ----------
    item, section, asks
        Its number, the section of the article that it concerns, and its requirement, paraphrased.
    study
        ``D`` if it applies only to studies that develop a model, ``E`` if only to those that evaluate one.
    fact
        The recorded fact that answers it, in ``facts.yaml``.
    complete
        Whether the fact answers the item completely.
    author
        What the author must add.
    not_applicable
        Template of the reason why the item does not apply if no fact answers it; blank if it applies.
    """

    item: str
    section: str
    asks: str
    study: Literal["D", "E", ""] = ""
    fact: str = ""
    complete: bool = False
    author: str = ""
    not_applicable: str = ""


class Standard(_Words):
    """A reporting standard.

    Attributes
    ----------
    title, name, citation
        Its short and full name, and the publication.
    source
        The transcription that its items were taken from, and the terms of their licence.
    detectors_only
        Whether it applies only to models that predict an outcome.
    items
        In their order.
    """

    title: str
    name: str
    citation: str
    source: str
    detectors_only: bool = False
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Answer:
    """An item with its answer; ``where`` is the file that records it and the place in that file, both blank if
    nothing does."""

    item: Item
    status: Status
    text: str
    where: tuple[str, str] = ("", "")

    @property
    def told(self) -> str:
        """The answer in words, including what the author must add."""
        if self.status == "not applicable":
            return f"Not applicable, because {self.text}"
        left = "" if self.status == "answered" else f"For the author: {self.item.author}"
        return f"{self.text} {left}".strip()


def standards(facts: Facts) -> list[Standard]:
    """The standards that apply to a network of this kind."""
    read = [Standard.model_validate(_read(name)) for name in STANDARDS]
    return [one for one in read if facts.kind == "detector" or not one.detectors_only]


def answers(
    standard: Standard, facts: Facts, recipe: Mapping[str, Any], run: Mapping[str, Any]
) -> list[Answer]:
    """Every item of a standard with its answer.

    Parameters
    ----------
    facts
        The bundle's facts.
    recipe
        The training recipe; empty for a model that was not trained by Groundglass.
    run
        The content of ``run.json``; empty if only the bundle is known.
    """
    known = {name: _Fact.model_validate(fact) for name, fact in _read("facts").items()}
    context = _context(facts, recipe, run)
    return [_answer(item, known.get(item.fact), context) for item in standard.items]


def _answer(item: Item, fact: _Fact | None, context: dict[str, Any]) -> Answer:
    text = _rendered(fact.text, context) if fact is not None else ""
    if fact is not None and text:
        return Answer(
            item, "answered" if item.complete or not item.author else "in part", text, (fact.file, fact.at)
        )
    if reason := _rendered(item.not_applicable, context):
        return Answer(item, "not applicable", reason)
    return Answer(item, "for the author", "")


def _read(name: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath(f"standards/{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def _rendered(template: str, context: dict[str, Any]) -> str:
    return " ".join(_TEMPLATES.from_string(template).render(context).split())


def _context(facts: Facts, recipe: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the templates of facts and reasons use."""
    training = facts.training
    names = dict.fromkeys((*training.sources, *training.masks))
    chosen = {choice.what: str(choice) for choice in facts.chosen}
    everything = (*facts.evaluations, *facts.left_out)
    measured = [one.slices for one in everything]
    return {
        "facts": facts,
        "training": training,
        "recipe": recipe,
        "run": run,
        "positive": POSITIVE,
        "input": describe_input(facts),
        "outputs": "a logit of COVID-19"
        if facts.kind == "detector"
        else "a probability of each mask for each pixel",
        "published": [DATASETS[name] for name in names if name in DATASETS],
        "unpublished": [name for name in names if name not in DATASETS] or not names,
        "kept_together": KEPT_TOGETHER,
        "choice": lambda name: chosen.get(name, ""),
        "evaluations": facts.evaluations,
        "all_evaluations": everything,
        "several_sources": len({one.dataset for one in everything}) > 1,
        "overlaps": [
            f"{one.dataset}: {str(reason).partition(': ')[2]}"
            for one in facts.evaluations
            for reason in one.grade_reasons
            if reason.rule in OVERLAPS
        ],
        "metrics": list(dict.fromkeys(name for one in measured for name, _ in _metrics(one))),
        "resampled": list(dict.fromkeys(one.rows()[-1][1] for one in measured)),
    }


def _metrics(measured: Any) -> list[tuple[str, str]]:
    """Name and value of each metric of an evaluation: its rows without counts and intervals."""
    rows: list[tuple[str, str]] = measured.rows()
    if isinstance(measured, Evaluation):
        titles = {METRICS[name].title for name in measured.metrics}
        return [row for row in rows if row[0] in titles]
    return rows[1:-1]


def _figures(one: EvaluationFacts, titles: Iterable[str] = ()) -> str:
    """The main figures of an evaluation with their intervals, and the number of slices."""
    kept = set(titles) or {METRICS[name].title for name in MAIN}
    shown = [
        f"{name} {value}" for name, value in _metrics(one.slices) if name in kept or "mean over cases" in name
    ]
    return f"{', '.join(shown)}; {_size(one)}"


def _size(one: EvaluationFacts) -> str:
    slices = one.slices
    counts = f"{slices.count if isinstance(slices, Evaluation) else slices.slices} slices"
    return counts if one.patients is None else f"{counts} of {one.patients.count} patients"


def _accuracy(one: EvaluationFacts, name: str) -> str:
    if one.superseded or not isinstance(one.slices, Evaluation):
        return ""
    titles = [METRICS[metric].title for metric in ("sensitivity", "specificity", "ppv", "npv")]
    return f"{name}: {_figures(one, titles)}. "


def _confusion(one: EvaluationFacts, name: str) -> str:
    if one.superseded or not isinstance(one.slices, Evaluation):
        return ""
    counts = one.slices.confusion
    return f"{name}: {counts.false_positive} false {POSITIVE}, {counts.false_negative} false not {POSITIVE}. "


def _settings(part: Any) -> str:
    """A part of a recipe in one line, without settings that are off."""
    if isinstance(part, Mapping):
        kept = {name: value for name, value in part.items() if value not in (None, 0, False)}
        nested = {name: isinstance(value, Mapping) for name, value in kept.items()}
        return ", ".join(
            f"{name} ({_settings(value)})" if nested[name] else f"{name} {_settings(value)}"
            for name, value in kept.items()
        )
    if isinstance(part, list):
        return " ".join(map(_settings, part))
    return "yes" if part is True else str(part)


_TEMPLATES = Environment(undefined=StrictUndefined, autoescape=False)  # plain text, which the report escapes
_TEMPLATES.filters |= {
    "settings": _settings,
    "figures": _figures,
    "counted": _size,
    "accuracy": _accuracy,
    "confusion": _confusion,
}


def counted(answered: Iterable[Answer]) -> str:
    """The number of items with each status, in words."""
    counts = Counter(answer.status for answer in answered)
    return (
        f"{counts.total()} items: {counts['answered']} answered from the record, {counts['in part']} in part, "
        f"{counts['for the author']} left to the author, {counts['not applicable']} not applicable"
    )


def card_page(
    facts: Facts, filled: Mapping[str, tuple[Standard, list[Answer]]], left_out: list[str]
) -> Report:
    """The page with all standards; ``filled`` contains them by the name of their Markdown file."""
    sources = dict.fromkeys((*facts.training.sources, *facts.training.masks))
    counts = [f"{standard.title}: {counted(answered)}." for standard, answered in filled.values()]
    return Report(
        title=f"Reporting standards for {facts.name}",
        headline=" ".join(counts),
        warnings=[NO_SCORE, *left_out],
        tables_title="Item by item",
        figures_of_merit=[_table(*one) for one in filled.values()],
        facts=[*filter(None, map(dataset_table, sources)), bundle_table(facts)],
    )


def _table(standard: Standard, answered: list[Answer]) -> Table:
    rows = [
        (_number(one.item), f"{one.item.section}. {one.item.asks}.", one.told, _link(one)) for one in answered
    ]
    return Table(standard.title, HEADER, rows, f"{standard.citation}. {standard.source}", prose=True)


def _number(item: Item) -> str:
    return f"{item.item} {item.study}".strip()


def _link(answer: Answer) -> str:
    file, at = answer.where
    return Link(f"{file}: {at}", file) if file else ""


def markdown(standard: Standard, facts: Facts, answered: list[Answer]) -> str:
    """A standard with its answers as a Markdown table."""
    lines = [
        f"# {standard.title}: {facts.name}",
        "",
        f"{standard.name}. {standard.citation}.",
        "",
        f"{counted(answered)}. {NO_SCORE}",
        "",
        f"| {' | '.join(HEADER)} |",
        "|---|---|---|---|",
    ]
    for one in answered:
        file, at = one.where
        cells = (
            _number(one.item),
            f"{one.item.section}. {one.item.asks}.",
            one.told,
            f"[{file}]({file}): {at}" if file else "",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", standard.source, ""])
