"""Efficiency of `groundglass predict --workers`: two workers of one core, one worker of one core, and a shell loop.

The studies are phantoms. One worker runs with one core for everything, Ray and the command included; two run
with two. With --without-ray, two commands also run at the same time, each with one core and half of the studies:
what they lose against one such command is the machine's doing. A shell loop starts `groundglass predict` for each
of some studies, on both cores. Every run writes all results into a new folder. Ray gives its workers a low priority
(15); here they get the usual one, like what they are compared with. See benchmarks/README.md.

A study's `pace` is the time from the first finished study to the last, divided by the studies between them, so that
starting is not part of it. The stages' times come from times.csv.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from common import Row, machine, run_command, show, spread
from groundglass.phantom.volumes import write_phantom_volumes

PREDICT = [sys.executable, "-m", "groundglass", "predict"]
STAGES = ("read", "answer", "write", "cpu")
ONE, TWO, ALONE = (
    "one worker, one core",
    "two workers, one core each",
    "one command without workers, one core",
)
PAIR = "two commands without workers, one core each"


class Run(NamedTuple):
    """The seconds of a run, of a study once running, and of a study's stages."""

    wall: float
    pace: float = 0.0
    stages: tuple[float, ...] = ()


def commands(shares: Sequence[Sequence[Path]], cores: Sequence[str], work: Path, *options: str) -> Run:
    """Run a command for each share of the studies, all at the same time, each on its cores."""
    with ExitStack() as stack, ThreadPoolExecutor(len(shares)) as pool:
        outs = [Path(stack.enter_context(tempfile.TemporaryDirectory(dir=work))) for _ in shares]
        started = time.perf_counter()
        jobs = zip(shares, cores, outs, strict=True)
        list(
            pool.map(run_command, (["taskset", "-c", c, *PREDICT, *s, "-o", o, *options] for s, c, o in jobs))
        )
        wall = time.perf_counter() - started
        ends = sorted(path.stat().st_mtime for out in outs for path in out.glob("*/findings.json"))
        rows = [row for out in outs for row in csv.DictReader((out / "times.csv").open(encoding="utf-8"))]
    at_once = cores[0].count(",") + 1 if len(shares) == 1 else len(shares)
    stages = tuple(sum(float(row[stage]) for row in rows) / len(rows) for stage in STAGES)
    return Run(wall, (ends[-1] - ends[0]) / (len(ends) - at_once), stages)


def workers(studies: list[Path], number: int, work: Path) -> Run:
    """Run a command with so many workers on as many cores."""
    cores = ",".join(map(str, range(number)))
    return commands([studies], [cores], work, "--workers", str(number), "--memory-limit", "2000")


def loop(studies: list[Path], work: Path) -> Run:
    """Run one command for each study."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=work) as out:
        for study in studies:
            run_command([*PREDICT, study, "-o", Path(out) / study.name])
    wall = time.perf_counter() - started
    return Run(wall, wall / len(studies))


def row(name: str, runs: list[Run], studies: int) -> Row:
    """A line of the table."""
    walls = [run.wall for run in runs]
    rates = [60 * studies / wall for wall in walls]
    means = [f"{seconds:.2f}" for seconds in runs[-1].stages] or [""] * len(STAGES)
    return name, spread(walls, ".1f"), spread(rates, ".1f"), f"{runs[-1].pace:.2f}", *means


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=200, help="studies [%(default)s]")
    options.add_argument("--loop", type=int, default=20, help="studies of the shell loop [%(default)s]")
    options.add_argument("--slices", type=int, default=40, help="slices of a study [%(default)s]")
    options.add_argument("--side", type=int, default=256, help="rows and columns of a slice [%(default)s]")
    options.add_argument("--repetitions", type=int, default=1, help="repetitions of each [%(default)s]")
    options.add_argument("--work", type=Path, help="keep the phantoms in this folder")
    options.add_argument("--without-ray", action="store_true", help="also compare commands without Ray")
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
        tasks: dict[str, Callable[[], Run]] = {
            ONE: partial(workers, studies, 1, work),
            TWO: partial(workers, studies, 2, work),
        }
        counts = [len(studies)] * 2
        if chosen.without_ray:
            tasks[ALONE] = partial(commands, [studies[::2]], ["0"], work)
            tasks[PAIR] = partial(commands, [studies[::2], studies[1::2]], ["0", "1"], work)
            counts += [len(studies[::2]), len(studies)]
        if chosen.loop:
            tasks["shell loop, both cores"] = partial(loop, studies[: chosen.loop], work)
            counts.append(chosen.loop)
        results: dict[str, list[Run]] = {name: [] for name in tasks}
        for _ in range(chosen.repetitions):
            for name, task in tasks.items():
                results[name].append(task())
                print(f"{name}: {results[name][-1].wall:.0f} s", file=sys.stderr)
    rows = [row(name, runs, count) for (name, runs), count in zip(results.items(), counts, strict=True)]
    header = ("what runs", "wall, s", "studies a minute", *(f"{one}, s a study" for one in ("pace", *STAGES)))
    show(f"{len(studies)} studies of {chosen.slices} slices", header, rows, markdown=chosen.markdown)
    pairs = list(zip(results[ONE], results[TWO], strict=True))
    wall = spread([one.wall / two.wall / 2 for one, two in pairs], ".2f")
    pace = spread([one.pace / two.pace / 2 for one, two in pairs], ".2f")
    print(f"efficiency of two workers: {wall} by wall time, {pace} once running")
    if chosen.without_ray:
        pace = [one.pace / two.pace / 2 for one, two in zip(results[ALONE], results[PAIR], strict=True)]
        print(f"efficiency of two commands without Ray: {spread(pace, '.2f')} once running")


if __name__ == "__main__":
    main()
