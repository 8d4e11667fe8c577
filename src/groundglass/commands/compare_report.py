"""The result of a comparison, and writing it as an HTML page, Markdown, CSV and figures."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from groundglass.bundle.facts import RESEARCH_USE
from groundglass.commands.cards import slice_cards
from groundglass.commands.system_runs import Protocol, TrainedSystem
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.evaluate.comparison import Comparison, System
from groundglass.evaluate.comparison_report import (
    NOTHING_ELSE,
    Extra,
    agreement_figure,
    comparison_frame,
    comparison_table,
    headline,
    intervals_figure,
    markdown_table,
    roc_compared,
)
from groundglass.evaluate.figures import curves_compared, to_png
from groundglass.files import replacing, write_bytes, write_text
from groundglass.recipe.recipe import Recipe
from groundglass.report.page import Picture, Report, Table, dataset_table, write_report

TIMED_SLICES, TIMED_ROUNDS = 32, 3
"""Slices that each system answers to be timed, and how often; the systems take turns."""
HOW_TIMED = (
    f"Time of one training on this machine; slices a second are of the median of {TIMED_ROUNDS} rounds over "
    f"{TIMED_SLICES} slices that lie read in memory, the systems in turns."
)
SHOWN = 24
"""Slices that all get wrong, as many as the page shows; the CSV has them all."""


@dataclass(frozen=True)
class SystemsOnDataset:
    """All systems on one set of slices.

    Attributes
    ----------
    name
        The dataset's name.
    part
        ``test``, ``val``, or ``all`` of an external dataset.
    systems
        Each with its members' answers.
    comparison
        What these say.
    """

    name: str
    part: str
    systems: list[System]
    comparison: Comparison

    @property
    def external(self) -> bool:
        """Whether nothing of it was trained on."""
        return self.part == "all"

    @property
    def title(self) -> str:
        """What it is, in words."""
        kinds = {
            "test": "test part",
            "val": "validation part, on which epochs and thresholds were chosen: too good",
            "all": "external, no one trained on it",
        }
        return f"{self.name}, {kinds[self.part]}"


@dataclass(frozen=True)
class Cost:
    """What a system takes: weights, megabytes of its graph, seconds of one training, slices it answers in a second.

    None where it is not known.
    """

    parameters: int | None
    megabytes: float
    training_seconds: float | None
    slices_per_second: float

    TITLES: ClassVar[tuple[str, ...]] = ("Parameters", "Size", "Training", "Slices a second")

    def texts(self) -> tuple[str, ...]:
        """The values with their units, in the order of ``TITLES``; blank where one is not known."""
        seconds = self.training_seconds
        return (
            "" if self.parameters is None else f"{self.parameters:,}",
            f"{self.megabytes:.3g} MB",
            "" if seconds is None else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s",
            f"{self.slices_per_second:.0f}",
        )


@dataclass(frozen=True)
class ComparisonResult:
    """What came of a comparison.

    Attributes
    ----------
    protocol, trained_systems
        What was compared, and how.
    judged
        On the common part first, then on each external dataset.
    cost
        By system, what it takes.
    """

    protocol: Protocol
    trained_systems: list[TrainedSystem]
    judged: list[SystemsOnDataset]
    cost: dict[str, Cost]


def write_comparison(outcome: ComparisonResult, folder: Path) -> None:
    """Write the page, ``comparison.md``, ``comparison.csv``, ``all-wrong.csv`` and ``figures/``."""
    pictures = _pictures(outcome)
    for name, picture in pictures.items():
        write_bytes(folder / "figures" / f"{name}.png", picture.png)
    tables = [_table(judged) for judged in outcome.judged]
    costs = {name: asdict(cost) for name, cost in outcome.cost.items()}
    frames = [
        comparison_frame(judged.comparison, costs).assign(dataset=judged.name, part=judged.part)
        for judged in outcome.judged
    ]
    _write_csv(pd.concat(frames), folder / "comparison.csv")
    test = outcome.judged[0].comparison
    _write_csv(test.all_wrong, folder / "all-wrong.csv")
    write_text(folder / "comparison.md", _markdown(outcome, pictures))
    first = Detector(Bundle.load(_best_run(outcome)))
    labels = _labels(test)
    shown = f"The first {SHOWN}; all-wrong.csv has all. " if len(labels) > SHOWN else ""
    report = Report(
        title=_title(outcome),
        headline=headline(test),
        warnings=[_protocol(outcome)],
        figures_of_merit=[*tables, _cost_table(outcome)],
        pictures=list(pictures.values()),
        slices_title=f"Slices that all get wrong: {len(labels)} of {test.count}",
        slices_note=f"{shown}Left the slice, right the places that speak for COVID-19 to {test.best}; the answer "
        "is that of its first training, where most of every system's trainings are wrong.",
        slices=slice_cards(first, list(labels)[:SHOWN], labels),
        facts=[about for judged in outcome.judged if (about := dataset_table(judged.name)) is not None],
    )
    write_report(report, folder / "comparison.html")


def _best_run(outcome: ComparisonResult) -> Path:
    best = outcome.judged[0].comparison.best
    return next(system.runs[0].folder for system in outcome.trained_systems if system.name == best)


def _title(outcome: ComparisonResult) -> str:
    return f"{len(outcome.trained_systems)} systems compared on {outcome.judged[0].name}"


def _protocol(outcome: ComparisonResult) -> str:
    protocol, test = outcome.protocol, outcome.judged[0].comparison
    times = (
        f"seeds {', '.join(map(str, protocol.seeds))}"
        if len(protocol.seeds) > 1
        else f"seed {protocol.seeds[0]}"
    )
    if protocol.folds:
        times += f" and each of {protocol.folds} folds"
    given = [system.name for system in outcome.trained_systems if system.given]
    how = "" if len(given) == len(outcome.trained_systems) else f"; recipes were trained with {times}"
    if given:
        how += f"; finished runs were taken as they are: {', '.join(given)}"
    strange = [
        f"in {system.name} {facts['backbone']} stands in for {facts['stands_in_for']}"
        for system in outcome.trained_systems
        if "stands_in_for" in (facts := system.runs[0].facts())
    ]
    replaced = f" {'; '.join(strange).capitalize()}." if strange else ""
    changed = f" Every recipe was changed by {', '.join(protocol.changes)}." if protocol.changes else ""
    units = "" if test.resampled_by == "slice" else f" from {test.groups} {test.resampled_by}s"
    classes = f", {' and '.join(protocol.classes)} alone" if protocol.classes else ""
    return (
        f"One protocol for all: {outcome.judged[0].name}{classes}, split {protocol.split} with seed "
        f"{protocol.split_seed}{how}; it takes the place of each recipe's own data part. Epoch, "
        f"calibration and threshold were chosen on the validation part. The figures are of {test.count} slices"
        f"{units}: {outcome.judged[0].title}. No lungs were looked for, except by "
        f"systems that need them.{replaced}{changed}"
    )


def _table(judged: SystemsOnDataset, extra: Extra = NOTHING_ELSE) -> Table:
    comparison = judged.comparison
    header, rows = comparison_table(comparison, extra)
    note = "In brackets 95% intervals; the positive class is COVID-19. " + " ".join(comparison.notes)
    return Table(f"{judged.title} ({comparison.count} slices)", header, rows, note)


def _cost_table(outcome: ComparisonResult) -> Table:
    rows = [(name, *cost.texts()) for name, cost in outcome.cost.items()]
    return Table("What they take", ("System", *Cost.TITLES), rows, HOW_TIMED)


def _pictures(outcome: ComparisonResult) -> dict[str, Picture]:
    pictures = {}
    for judged in outcome.judged:
        end = f"-{judged.name}" if judged.external else ""
        roc = roc_compared(judged.systems, judged.comparison)
        pictures[f"roc{end}"] = Picture(f"ROC curves, {judged.title}", to_png(roc))
        intervals = intervals_figure(judged.comparison)
        pictures[f"intervals{end}"] = Picture(f"AUC with its interval, {judged.title}", to_png(intervals))
    by_epochs = {
        system.name: (system.runs[0], recipe)
        for system in outcome.trained_systems
        if isinstance(recipe := system.runs[0].recipe(), Recipe)
    }
    if by_epochs:
        logs = {name: pd.read_csv(run.log_file) for name, (run, _) in by_epochs.items()}
        best_by = {name: recipe.training.best_by for name, (_, recipe) in by_epochs.items()}
        caption = "Loss and accuracy by epoch, the first training of each; the kept epoch is marked"
        pictures["curves"] = Picture(caption, to_png(curves_compared(logs, best_by)))
    if len(outcome.trained_systems) > 1:
        agreement = agreement_figure(outcome.judged[0].comparison)
        pictures["agreement"] = Picture("Share of the slices with the same verdict", to_png(agreement))
    return pictures


def _markdown(outcome: ComparisonResult, pictures: dict[str, Picture]) -> str:
    test = outcome.judged[0].comparison
    parts = [f"# {_title(outcome)}\n", f"{headline(test)}\n", f"{_protocol(outcome)}\n", f"{RESEARCH_USE}\n"]
    costs = {name: dict(zip(Cost.TITLES, cost.texts(), strict=True)) for name, cost in outcome.cost.items()}
    for table in (_table(judged, {} if judged.external else costs) for judged in outcome.judged):
        parts += [f"## {table.title}\n", markdown_table(table.header, table.rows), f"{table.note}\n"]
    parts.append(f"{HOW_TIMED}\n")
    parts += [f"![{picture.caption}](figures/{name}.png)\n" for name, picture in pictures.items()]
    wrong = [f"`{path.name}` ({label})" for path, label in _labels(test).items()]
    parts.append(f"## Slices that all get wrong: {len(wrong)} of {test.count}\n")
    if wrong:
        parts.append(", ".join(wrong) + "\n")
    return "\n".join(parts)


def _labels(comparison: Comparison) -> dict[Path, str]:
    """The labels of the slices that all get wrong."""
    wrong = comparison.all_wrong
    return dict(zip(map(Path, wrong["path"]), wrong["label"], strict=True))


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    with replacing(path) as handle:
        frame.to_csv(handle, index=False, float_format="%.6g", lineterminator="\n")
