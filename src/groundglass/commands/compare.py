"""``groundglass compare``: compare systems, and write the result as an HTML page, Markdown, CSV and figures."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from groundglass.bundle.facts import RESEARCH_USE
from groundglass.bundle.store import GRAPH
from groundglass.commands.system_runs import Protocol, TrainedSystem, answers, trained_systems
from groundglass.data.datasets import load_dataset, load_labelled
from groundglass.data.registry import DATASETS
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.evaluation.comparison import Comparison, System, compare
from groundglass.evaluation.comparison_report import (
    CLASSES_HEADER,
    NOTHING_ELSE,
    Extra,
    agreement_figure,
    classes_table,
    comparison_frame,
    comparison_table,
    headline,
    home_and_elsewhere,
    intervals_figure,
    markdown_table,
    roc_compared,
)
from groundglass.evaluation.figures import curves_compared
from groundglass.files import replacing, write_bytes, write_text
from groundglass.labels import POSITIVE
from groundglass.recipe.recipe import ClassificationRecipe
from groundglass.report.page import Picture, Report, Table, dataset_table, write_report
from groundglass.report.predictions import drawn_picture
from groundglass.report.slices import slice_cards
from groundglass.scan.read import read_scan

TIMED_SLICES, TIMED_ROUNDS = 32, 3
"""Number of slices that each system answers for timing, and of rounds; the systems take turns."""
HOW_TIMED = (
    f"Time of one training on this machine; slices per second is the median of {TIMED_ROUNDS} rounds over "
    f"{TIMED_SLICES} slices in memory; the systems take turns."
)
SHOWN = 24
"""Number of slices shown on the page that all systems get wrong; the CSV has all of them."""


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
        The systems with their members' answers.
    comparison
        The comparison of their answers for slices.
    patients
        The comparison of their answers for patients; the reason as text if they cannot be compared.
    """

    name: str
    part: str
    systems: list[System]
    comparison: Comparison
    patients: Comparison | str

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """The comparisons by slice and, if there is one, by patient."""
        return (self.comparison, *([self.patients] if isinstance(self.patients, Comparison) else []))

    @property
    def external(self) -> bool:
        """Whether none of it was used for training."""
        return self.part == "all"

    @property
    def title(self) -> str:
        """A description of the slices."""
        kinds = {
            "test": "test set",
            "val": "validation set, on which epochs and thresholds were chosen: too optimistic",
            "all": "external, not used for training",
        }
        return f"{self.name}, {kinds[self.part]}"


@dataclass(frozen=True)
class Cost:
    """The cost of a system: number of weights, size of its graph in MB, seconds of one training, slices per second.

    None if a value is not known.
    """

    parameters: int | None
    megabytes: float
    training_seconds: float | None
    slices_per_second: float

    TITLES: ClassVar[tuple[str, ...]] = ("Parameters", "Size", "Training", "Slices per second")

    def texts(self) -> tuple[str, ...]:
        """The values with their units, in the order of ``TITLES``; blank if not known."""
        seconds = self.training_seconds
        return (
            "" if self.parameters is None else f"{self.parameters:,}",
            f"{self.megabytes:.3g} MB",
            "" if seconds is None else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s",
            f"{self.slices_per_second:.0f}",
        )


@dataclass(frozen=True)
class ComparisonResult:
    """The result of a comparison.

    Attributes
    ----------
    protocol, trained_systems
        How the systems were compared, and the systems.
    judged
        The results on the common part, then on each external dataset.
    cost
        The cost of each system.
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
    tables = [table for judged in outcome.judged for table in _tables(judged)]
    _write_csv(_frame(outcome), folder / "comparison.csv")
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
        slices_title=f"Slices that every system gets wrong: {len(labels)} of {test.count}",
        slices_note=f"{shown}Left: the slice. Right: the areas that point to COVID-19 according to "
        f"{test.best}; the "
        "answer shown is that of its first training. On these slices, most trainings of every system are wrong.",
        slices=slice_cards(first, list(labels)[:SHOWN], labels),
        facts=[about for judged in outcome.judged if (about := dataset_table(judged.name)) is not None],
    )
    write_report(report, folder / "comparison.html")


def _frame(outcome: ComparisonResult) -> pd.DataFrame:
    """The content of ``comparison.csv``."""
    costs = {name: asdict(cost) for name, cost in outcome.cost.items()}
    frames = [
        comparison_frame(comparison, costs).assign(
            dataset=judged.name, part=judged.part, unit=comparison.unit
        )
        for judged in outcome.judged
        for comparison in judged.comparisons
    ]
    return pd.concat(frames)


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
        how += f"; finished runs were used as they are: {', '.join(given)}"
    strange = [
        f"{system.name}, {facts['backbone']} replaces {facts['stands_in_for']}"
        for system in outcome.trained_systems
        if "stands_in_for" in (facts := system.runs[0].facts())
    ]
    replaced = f" In {'; in '.join(strange)}." if strange else ""
    changed = f" Every recipe was changed by {', '.join(protocol.changes)}." if protocol.changes else ""
    units = "" if test.resampled_by == "slice" else f" from {test.groups} {test.resampled_by}s"
    classes = f", {' and '.join(protocol.classes)} alone" if protocol.classes else ""
    return (
        f"One protocol for all: {outcome.judged[0].name}{classes}, split {protocol.split} with seed "
        f"{protocol.split_seed}{how}; this replaces the data section of each recipe. Epoch, "
        f"calibration and threshold were chosen on the validation set. The figures are for {test.count} slices"
        f"{units}: {outcome.judged[0].title}. Only systems that need the "
        f"lungs segmented them.{replaced}{changed}"
    )


def _tables(judged: SystemsOnDataset, extra: Extra = NOTHING_ELSE) -> list[Table]:
    """The standings by slice and, if patients can be compared, by patient."""
    tables = []
    for comparison in judged.comparisons:
        header, rows = comparison_table(comparison, extra if comparison.unit == "slice" else NOTHING_ELSE)
        note = "95% intervals are in brackets; the positive class is COVID-19. " + " ".join(comparison.notes)
        if isinstance(judged.patients, str):
            note += f" Patients are not compared: {judged.patients}."
        tables.append(Table(f"{judged.title} ({comparison.count} {comparison.unit}s)", header, rows, note))
    if of_classes := classes_table(judged.systems):
        note = "Means over the classes, each against the rest, for every training; 95% intervals are in brackets."
        tables.append(Table(f"{judged.title}: all classes together", CLASSES_HEADER, of_classes, note))
    return tables


def _cost_table(outcome: ComparisonResult) -> Table:
    rows = [(name, *cost.texts()) for name, cost in outcome.cost.items()]
    return Table("Cost of the systems", ("System", *Cost.TITLES), rows, HOW_TIMED)


def _pictures(outcome: ComparisonResult) -> dict[str, Picture]:
    pictures = {}
    for judged in outcome.judged:
        end = f"-{judged.name}" if judged.external else ""
        roc = roc_compared(judged.systems, judged.comparison)
        pictures[f"roc{end}"] = drawn_picture(f"ROC curves, {judged.title}", roc)
        intervals = intervals_figure(judged.comparison)
        pictures[f"intervals{end}"] = drawn_picture(f"AUC with its interval, {judged.title}", intervals)
    if len(outcome.judged) > 1:
        frame = _frame(outcome)
        page = home_and_elsewhere({outcome.judged[0].name: frame[frame["unit"] == "slice"]})
        pictures["home-and-elsewhere"] = drawn_picture(
            "AUC on the training dataset and on others, with intervals", page
        )
    by_epochs = {
        system.name: (system.runs[0], recipe)
        for system in outcome.trained_systems
        if isinstance(recipe := system.runs[0].recipe(), ClassificationRecipe)
    }
    if by_epochs:
        logs = {name: pd.read_csv(run.log_file) for name, (run, _) in by_epochs.items()}
        best_by = {name: recipe.training.best_by for name, (_, recipe) in by_epochs.items()}
        caption = "Loss and accuracy by epoch, the first training of each; the kept epoch is marked"
        pictures["curves"] = drawn_picture(caption, curves_compared(logs, best_by))
    if len(outcome.trained_systems) > 1:
        agreement = agreement_figure(outcome.judged[0].comparison)
        pictures["agreement"] = drawn_picture("Share of the slices with the same verdict", agreement)
    return pictures


def _markdown(outcome: ComparisonResult, pictures: dict[str, Picture]) -> str:
    test = outcome.judged[0].comparison
    parts = [f"# {_title(outcome)}\n", f"{headline(test)}\n", f"{_protocol(outcome)}\n", f"{RESEARCH_USE}\n"]
    costs = {name: dict(zip(Cost.TITLES, cost.texts(), strict=True)) for name, cost in outcome.cost.items()}
    tables = [t for judged in outcome.judged for t in _tables(judged, {} if judged.external else costs)]
    for table in tables:
        parts += [f"## {table.title}\n", markdown_table(table.header, table.rows), f"{table.note}\n"]
    parts.append(f"{HOW_TIMED}\n")
    parts += [f"![{picture.caption}](figures/{name}.png)\n" for name, picture in pictures.items()]
    wrong = [f"`{path.name}` ({label})" for path, label in _labels(test).items()]
    parts.append(f"## Slices that every system gets wrong: {len(wrong)} of {test.count}\n")
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


def compare_systems(
    items: Sequence[Path],
    protocol: Protocol,
    folder: Path,
    *,
    external: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> ComparisonResult:
    """Train the systems that are not trained yet, answer the same slices with all, and write the comparison.

    Parameters
    ----------
    items
        Recipe files and folders of finished runs.
    protocol
        The settings that all share.
    folder
        Where to write ``comparison.html``, ``comparison.md``, ``comparison.csv``, ``figures/``, the recipes'
        ``runs/`` and all ``answers/``.
    external
        Datasets not used for training, on which all are also compared.
    tell
        Receives lines of text about the progress.

    Raises
    ------
    GroundglassError
        If there is no part to evaluate on, a run was trained on slices to be evaluated on, an external
        dataset is not external, or training or reading fails.
    """
    part, common = protocol.judged_rows()
    _check_classes(protocol.dataset, common)
    others = _external_rows(external, protocol.dataset)
    parts = [
        (_name_of(protocol.dataset), part, common),
        *((name, "all", rows) for name, rows in others.items()),
    ]
    found = trained_systems(items, protocol, folder / "runs", [(part, rows) for _, part, rows in parts], tell)
    judged = []
    for name, part, rows in parts:
        tell(f"Running on {len(rows)} slices of {name}.")
        judged.append(_judge(found, name, part, rows, folder))
    outcome = ComparisonResult(protocol, found, judged, _cost(found, common))
    write_comparison(outcome, folder)
    return outcome


def _name_of(dataset: str) -> str:
    return dataset if dataset in DATASETS else Path(dataset).stem


def _external_rows(datasets: Sequence[str], trained_on: str) -> dict[str, pd.DataFrame]:
    """The rows of external datasets by their names."""
    found: dict[str, pd.DataFrame] = {}
    own = load_dataset(trained_on) if datasets else pd.DataFrame({"path": [], "source": []})
    seen = {Path(path).resolve() for path in own["path"]}
    for dataset in datasets:
        name, rows = _name_of(dataset), load_labelled(dataset)
        if name in found:
            raise GroundglassError(f"{dataset}: another dataset is also named {name}; rename one of the two")
        common = (set(rows["source"]) - {""}) & set(own["source"])
        if common:
            raise GroundglassError(
                f"{dataset}: comes from {', '.join(sorted(common))} like the training data, so it is not an "
                "external dataset"
            )
        shared = sum(Path(path).resolve() in seen for path in rows["path"])
        if shared:
            raise GroundglassError(
                f"{dataset}: {shared} of its {len(rows)} slices are in the training data, so it is not an "
                "external dataset"
            )
        _check_classes(dataset, rows)
        found[name] = rows
    return found


def _check_classes(dataset: str, rows: pd.DataFrame) -> None:
    if (rows["label"] == POSITIVE).nunique() < 2:
        raise GroundglassError(
            f"{dataset}: all {len(rows)} slices to evaluate on are labelled "
            f"{', '.join(sorted(set(rows['label'])))}; slices with and without {POSITIVE} are needed"
        )


def _judge(
    found: Sequence[TrainedSystem], name: str, part: str, rows: pd.DataFrame, folder: Path
) -> SystemsOnDataset:
    systems = []
    for system in found:
        members = tuple(answers(run, rows, folder / "answers", name) for run in system.runs)
        facts = [Bundle.load(run.folder).facts for run in system.runs]
        thresholds, rules = (tuple(one.threshold for one in facts), tuple(one.patient_rule for one in facts))
        systems.append(System(system.name, members, thresholds, rules))
    try:
        patients: Comparison | str = compare(systems, unit="patient")
    except GroundglassError as error:
        patients = str(error)
    return SystemsOnDataset(name, part, systems, compare(systems), patients)


def _cost(found: Sequence[TrainedSystem], rows: pd.DataFrame) -> dict[str, Cost]:
    speeds = _speeds({system.name: system.runs[0].folder for system in found}, rows)
    return {
        system.name: Cost(
            parameters=system.runs[0].facts().get("parameters"),
            megabytes=(system.runs[0].bundle_folder / GRAPH).stat().st_size / 1e6,
            training_seconds=_seconds(system),
            slices_per_second=speeds[system.name],
        )
        for system in found
    }


def _seconds(system: TrainedSystem) -> float | None:
    """The mean training time of a member."""
    known = [seconds for run in system.runs if (seconds := run.facts().get("seconds")) is not None]
    return statistics.mean(known) if known else None


def _speeds(folders: dict[str, Path], rows: pd.DataFrame) -> dict[str, float]:
    """Slices that each system answers per second, without reading."""
    scans = [read_scan(Path(path)) for path in rows["path"].head(TIMED_SLICES)]
    detectors = {name: Detector(Bundle.load(folder)) for name, folder in folders.items()}
    taken: dict[str, list[float]] = {name: [] for name in detectors}
    # The systems take turns, so that other load on the machine affects all alike.
    for _ in range(TIMED_ROUNDS):
        for name, detector in detectors.items():
            started = time.perf_counter()
            for _finding in detector.predict_scans(scans):
                pass
            taken[name].append(time.perf_counter() - started)
    return {name: len(scans) / statistics.median(times) for name, times in taken.items()}
