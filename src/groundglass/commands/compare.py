"""``groundglass compare``: systems under one protocol, from recipes and runs to one page."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from groundglass.bundle.store import GRAPH
from groundglass.commands.compare_report import (
    TIMED_ROUNDS,
    TIMED_SLICES,
    ComparisonResult,
    Cost,
    SystemsOnDataset,
    write_comparison,
)
from groundglass.commands.system_runs import Protocol, TrainedSystem, answers, trained_systems
from groundglass.data.datasets import load_dataset
from groundglass.data.registry import DATASETS
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.evaluate.comparison import System, compare
from groundglass.labels import POSITIVE
from groundglass.scan.find import read_scan


def compare_systems(
    items: Sequence[Path],
    protocol: Protocol,
    folder: Path,
    *,
    external: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> ComparisonResult:
    """Train what is not trained yet, let all answer the same slices, and write the comparison.

    Parameters
    ----------
    items
        Recipe files and folders of finished runs.
    protocol
        What all share.
    folder
        Where to write ``comparison.html``, ``comparison.md``, ``comparison.csv``, ``figures/``, the ``runs/`` of
        the recipes and the ``answers/`` of all.
    external
        Datasets that no one trained on, on which all are compared too.
    tell
        Receives lines of text on how it goes.

    Raises
    ------
    GroundglassError
        If there is no part to judge on, a run was trained on slices to be judged on, an external dataset is none,
        or a training or a reading fails.
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
        tell(f"Answering {len(rows)} slices of {name}.")
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
        name, rows = _name_of(dataset), load_dataset(dataset)
        if name in found:
            raise GroundglassError(f"{dataset}: a dataset {name} is named already; rename one of the two")
        common = (set(rows["source"]) - {""}) & set(own["source"])
        if common:
            raise GroundglassError(
                f"{dataset}: comes from {', '.join(sorted(common))} as the training data does, and is no external "
                "set"
            )
        shared = sum(Path(path).resolve() in seen for path in rows["path"])
        if shared:
            raise GroundglassError(
                f"{dataset}: {shared} of its {len(rows)} slices are of the training data; it is no external set"
            )
        _check_classes(dataset, rows)
        found[name] = rows
    return found


def _check_classes(dataset: str, rows: pd.DataFrame) -> None:
    if (rows["label"] == POSITIVE).nunique() < 2:
        raise GroundglassError(
            f"{dataset}: all {len(rows)} slices to judge on are labelled "
            f"{', '.join(sorted(set(rows['label'])))}; slices with and without {POSITIVE} are needed"
        )


def _judge(
    found: Sequence[TrainedSystem], name: str, part: str, rows: pd.DataFrame, folder: Path
) -> SystemsOnDataset:
    systems = [
        System(
            system.name,
            tuple(answers(run, rows, folder / "answers", name) for run in system.runs),
            tuple(Bundle.load(run.folder).facts.threshold for run in system.runs),
        )
        for system in found
    ]
    return SystemsOnDataset(name, part, systems, compare(systems))


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
    """The mean time that a member took to train."""
    known = [seconds for run in system.runs if (seconds := run.facts().get("seconds")) is not None]
    return statistics.mean(known) if known else None


def _speeds(folders: dict[str, Path], rows: pd.DataFrame) -> dict[str, float]:
    """Slices that each system answers in a second, once they are read."""
    scans = [read_scan(Path(path)) for path in rows["path"].head(TIMED_SLICES)]
    detectors = {name: Detector(Bundle.load(folder)) for name, folder in folders.items()}
    taken: dict[str, list[float]] = {name: [] for name in detectors}
    # In turns, so that whatever else the machine does meets all alike.
    for _ in range(TIMED_ROUNDS):
        for name, detector in detectors.items():
            started = time.perf_counter()
            for _finding in detector.predict_scans(scans):
                pass
            taken[name].append(time.perf_counter() - started)
    return {name: len(scans) / statistics.median(times) for name, times in taken.items()}
