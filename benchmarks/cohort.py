"""Efficiency of `groundglass predict --workers`: two workers of one core, one worker of one core, and a shell loop.

The studies are phantoms. One worker runs with one core for everything, Ray and the command included; two run
with two. `groundglass predict` is also started once for each of some studies, on both cores, as in a shell
loop. Every run writes all results into a new folder. Ray gives its workers a low priority (15); here they
have the usual one, for a fair comparison. The stages' times come from times.csv. See benchmarks/README.md.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from common import Cost, Row, machine, run_command, show, spread
from groundglass.phantom.volumes import write_phantom_volumes

PREDICT = [sys.executable, "-m", "groundglass", "predict"]
STAGES = ("read", "answer", "write", "cpu")


def cohort(scans: Path, work: Path, cores: str, workers: int) -> tuple[Cost, list[dict[str, str]]]:
    """The cost of a run with this many workers on these cores, and the times of its studies."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        limits = ["--memory-limit", "2000"]
        cost = run_command(
            ["taskset", "-c", cores, *PREDICT, scans, "-o", out, "--workers", str(workers), *limits]
        )
        with (Path(out) / "times.csv").open(encoding="utf-8") as handle:
            return cost, list(csv.DictReader(handle))


def in_process(scans: Path, work: Path, cores: str) -> tuple[Cost, list[dict[str, str]]]:
    """The cost of a run without workers on these cores, and the times of its studies."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        cost = run_command(["taskset", "-c", cores, *PREDICT, scans, "-o", out])
        with (Path(out) / "times.csv").open(encoding="utf-8") as handle:
            return cost, list(csv.DictReader(handle))


def loop(studies: list[Path], work: Path) -> tuple[Cost, list[dict[str, str]]]:
    """The cost of one command for each study."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=work) as out:
        costs = [run_command([*PREDICT, study, "-o", Path(out) / study.name]) for study in studies]
    return Cost(time.perf_counter() - started, sum(cost.cpu for cost in costs)), []


def row(name: str, runs: list[tuple[Cost, list[dict[str, str]]]], studies: int) -> Row:
    """A line of the table."""
    walls = [cost.wall for cost, _ in runs]
    rates = [60 * studies / wall for wall in walls]
    means = [
        f"{sum(float(one[stage]) for one in runs[-1][1]) / studies:.2f}" if runs[-1][1] else ""
        for stage in STAGES
    ]
    return name, spread(walls, ".1f"), spread(rates, ".1f"), *means


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=200, help="studies [%(default)s]")
    options.add_argument("--loop", type=int, default=20, help="studies of the shell loop [%(default)s]")
    options.add_argument("--slices", type=int, default=40, help="slices of a study [%(default)s]")
    options.add_argument("--side", type=int, default=256, help="rows and columns of a slice [%(default)s]")
    options.add_argument("--repetitions", type=int, default=1, help="repetitions of each [%(default)s]")
    options.add_argument("--work", type=Path, help="keep the phantoms in this folder")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    chosen = options.parse_args()
    os.environ.update(RAY_worker_niceness="0")
    with tempfile.TemporaryDirectory() as temporary:
        work = chosen.work or Path(temporary)
        scans = work / "scans"
        if not scans.exists():
            shape = (chosen.slices, chosen.side, chosen.side)
            write_phantom_volumes(work, count=chosen.count, shape=shape, syntax="jpeg-lossless")
        studies = sorted(scans.iterdir())[: chosen.count]
        for line in machine():
            print(line)
        tasks = {
            "one worker, one core": partial(cohort, scans, work, "0", 1),
            "two workers, one core each": partial(cohort, scans, work, "0,1", 2),
            "no workers, both cores": partial(in_process, scans, work, "0,1"),
            f"shell loop over {chosen.loop}, both cores": partial(loop, studies[: chosen.loop], work),
        }
        results: dict[str, list[tuple[Cost, list[dict[str, str]]]]] = {name: [] for name in tasks}
        for _ in range(chosen.repetitions):
            for name, task in tasks.items():
                results[name].append(task())
                print(f"{name}: {results[name][-1][0].wall:.0f} s", file=sys.stderr)
    counts = [len(studies)] * 3 + [chosen.loop]
    rows = [row(name, runs, count) for (name, runs), count in zip(results.items(), counts, strict=True)]
    header = ("what runs", "wall, s", "studies a minute", *(f"{stage}, s a study" for stage in STAGES))
    show(f"{len(studies)} studies of {chosen.slices} slices", header, rows, markdown=chosen.markdown)
    one, two = (list(results.values())[place] for place in (0, 1))
    pairs = [first.wall / second.wall / 2 for (first, _), (second, _) in zip(one, two, strict=True)]
    print(f"efficiency of two workers, by wall time: {spread(pairs, '.2f')}")
    costs = [[sum(float(study["cpu"]) for study in times) for _, times in runs] for runs in (one, two)]
    pairs = [first / second for first, second in zip(*costs, strict=True)]
    print(f"processor time of one worker's studies to that of two workers': {spread(pairs, '.2f')}")


if __name__ == "__main__":
    main()
