"""A comparison as a page, as Markdown, as CSV and as figures."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from groundglass.bundle.facts import RESEARCH_USE
from groundglass.commands.cards import slice_cards
from groundglass.commands.compared import TIMED_ROUNDS, TIMED_SLICES, Cost, Judged, Outcome
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.evaluate.comparison import Comparison
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

HOW_TIMED = (
    f"Time of one training on this machine; slices a second are of the median of {TIMED_ROUNDS} rounds over "
    f"{TIMED_SLICES} slices that lie read in memory, the systems in turns."
)
SHOWN = 24
"""Slices that all get wrong, as many as the page shows; the CSV has them all."""


def write_comparison(outcome: Outcome, folder: Path) -> None:
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


def _best_run(outcome: Outcome) -> Path:
    best = outcome.judged[0].comparison.best
    return next(entrant.runs[0].folder for entrant in outcome.entrants if entrant.name == best)


def _title(outcome: Outcome) -> str:
    return f"{len(outcome.entrants)} systems compared on {outcome.judged[0].name}"


def _protocol(outcome: Outcome) -> str:
    protocol, test = outcome.protocol, outcome.judged[0].comparison
    times = (
        f"seeds {', '.join(map(str, protocol.seeds))}"
        if len(protocol.seeds) > 1
        else f"seed {protocol.seeds[0]}"
    )
    if protocol.folds:
        times += f" and each of {protocol.folds} folds"
    given = [entrant.name for entrant in outcome.entrants if entrant.given]
    how = "" if len(given) == len(outcome.entrants) else f"; recipes were trained with {times}"
    if given:
        how += f"; finished runs were taken as they are: {', '.join(given)}"
    strange = [
        f"in {entrant.name} {facts['backbone']} stands in for {facts['stands_in_for']}"
        for entrant in outcome.entrants
        if "stands_in_for" in (facts := entrant.runs[0].facts())
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


def _table(judged: Judged, extra: Extra = NOTHING_ELSE) -> Table:
    comparison = judged.comparison
    header, rows = comparison_table(comparison, extra)
    note = "In brackets 95% intervals; the positive class is COVID-19. " + " ".join(comparison.notes)
    return Table(f"{judged.title} ({comparison.count} slices)", header, rows, note)


def _cost_table(outcome: Outcome) -> Table:
    rows = [(name, *cost.texts()) for name, cost in outcome.cost.items()]
    return Table("What they take", ("System", *Cost.TITLES), rows, HOW_TIMED)


def _pictures(outcome: Outcome) -> dict[str, Picture]:
    pictures = {}
    for judged in outcome.judged:
        end = f"-{judged.name}" if judged.external else ""
        roc = roc_compared(judged.systems, judged.comparison)
        pictures[f"roc{end}"] = Picture(f"ROC curves, {judged.title}", to_png(roc))
        intervals = intervals_figure(judged.comparison)
        pictures[f"intervals{end}"] = Picture(f"AUC with its interval, {judged.title}", to_png(intervals))
    by_epochs = {
        entrant.name: (entrant.runs[0], recipe)
        for entrant in outcome.entrants
        if isinstance(recipe := entrant.runs[0].recipe(), Recipe)
    }
    if by_epochs:
        logs = {name: pd.read_csv(run.log_file) for name, (run, _) in by_epochs.items()}
        best_by = {name: recipe.training.best_by for name, (_, recipe) in by_epochs.items()}
        caption = "Loss and accuracy by epoch, the first training of each; the kept epoch is marked"
        pictures["curves"] = Picture(caption, to_png(curves_compared(logs, best_by)))
    if len(outcome.entrants) > 1:
        agreement = agreement_figure(outcome.judged[0].comparison)
        pictures["agreement"] = Picture("Share of the slices with the same verdict", to_png(agreement))
    return pictures


def _markdown(outcome: Outcome, pictures: dict[str, Picture]) -> str:
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
