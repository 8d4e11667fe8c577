"""Shared by the benchmarks: slices, a description of the machine, timed commands, taking turns, tables.

Only the standard library is imported at the top, since keras_side.py runs in an interpreter without Groundglass.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
LIBRARIES = (
    "groundglass",
    "numpy",
    "pillow",
    "openvino",
    "onnxruntime",
    "torch",
    "lightning",
    "timm",
    "kornia",
)
PHANTOMS = "phantoms"
MAX_EPOCHS = 1000
"""More epochs than any benchmark needs: a side trains until the benchmark stops it."""
Row = tuple[str, ...]
SLICES_PER_PHANTOM = 20
"""A phantom yields 16 to 30 slices, so this many make a set of about the requested size."""
PAUSE = 0.2
"""Seconds between tasks, so that idle threads of one have stopped spinning before the next begins."""
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of ``ru_maxrss``."""


def parser(description: str, *, slices: int, repetitions: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(description=description)
    default = "covid-ct" if os.environ.get("GROUNDGLASS_MIRROR") else PHANTOMS
    options.add_argument(
        "--data",
        default=default,
        help="phantoms, a dataset's name, a manifest, or a folder of class folders [%(default)s]",
    )
    options.add_argument("--slices", type=int, default=slices, help="largest number of slices [%(default)s]")
    options.add_argument(
        "--repetitions", type=int, default=repetitions, help="repetitions of each [%(default)s]"
    )
    options.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    return options


def prepare_slices(data: str, count: int, folder: Path) -> tuple[list[Path], str]:
    """Copy slices of both classes into one subfolder per class, as Keras' generator requires.

    Returns
    -------
    The files, and a description. They were just written, so they are read from memory, not from disk.
    """
    from PIL import Image

    rows = sorted(_rows(data, count, folder.parent / PHANTOMS), key=lambda row: row["label"])
    chosen = [rows[number * len(rows) // count] for number in range(min(count, len(rows)))]
    files = []
    for number, row in enumerate(chosen):
        source = Path(row["path"])
        file = folder / row["label"].replace(" ", "-") / f"{number:05d}{source.suffix.lower()}"
        file.parent.mkdir(parents=True, exist_ok=True)
        files.append(Path(shutil.copyfile(source, file)))
    sides = sorted(max(Image.open(file).size) for file in files)
    middle = statistics.median_low(sides)
    return (
        files,
        f"{len(files)} slices of {data}, longest side {sides[0]} to {sides[-1]}, median {middle} pixels",
    )


def _rows(data: str, count: int, folder: Path) -> list[dict[str, str]]:
    if data == PHANTOMS:
        from groundglass.phantom import write_phantom_set

        return write_phantom_set(folder, count=max(3, -(-count // SLICES_PER_PHANTOM)))
    from groundglass.data.datasets import load_dataset

    manifest = load_dataset(data)
    pairs = zip(manifest["path"], manifest["label"], strict=True)
    return [{"path": path, "label": label} for path, label in pairs]


def machine() -> list[str]:
    """The machine, the libraries, and the load, one line each."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in CPU_FLAGS if flag in facts.get("flags", "").split()]
    name = facts.get("model name", platform.processor())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        f"{name}, {cores} cores, {' '.join(flags) or 'flags unknown'}, {platform.system()}",
        f"Python {platform.python_version()}, {versions(LIBRARIES)}",
        f"load average of the minute before: {os.getloadavg()[0]:.1f} (numbers are only valid on a quiet machine)",
    ]


def versions(names: Sequence[str]) -> str:
    """Names and versions of the libraries that are installed."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


class Cost(NamedTuple):
    """Cost of a command from process start to exit: seconds, and peak resident memory in bytes.

    A child inherits the peak of the process that starts it, so ``memory`` is at least that large.
    """

    wall: float
    cpu: float
    memory: float = 0.0


def run_command(command: Sequence[str | Path]) -> Cost:
    """Run a command without its output, and measure it and its children; an error ends the benchmark."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"exit code {process.returncode}: {' '.join(map(str, command))}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * PEAK_UNIT)


def in_turn(tasks: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, list[Any]]:
    """Results of each task: one warm-up round, which is not kept, then the repetitions in turn."""
    results: dict[str, list[Any]] = {name: [] for name in tasks}
    for repetition in range(repetitions + 1):
        print(f"round {repetition} of {repetitions}", file=sys.stderr)
        for name, task in tasks.items():
            result = task()
            if repetition:
                results[name].append(result)
            time.sleep(PAUSE)
    return results


def timed(task: Callable[[], Any]) -> Callable[[], float]:
    """Make a task return the seconds that it took."""

    def run() -> float:
        started = time.perf_counter()
        task()
        return time.perf_counter() - started

    return run


class Pacer:
    """In the training process: runs each epoch on request and reports its cost, until standard input ends.

    The first epoch is a warm-up; its report also holds ``facts``. Call ``begin`` and ``end`` in the training
    library's callbacks.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.warm = False
        self._started = self._cpu = 0.0
        # Libraries print to standard output, which is reserved for the reports.
        self._reports, sys.stdout = sys.stdout, sys.stderr

    def begin(self) -> None:
        if self.warm and not sys.stdin.readline():
            raise SystemExit
        self._started, self._cpu = time.perf_counter(), time.process_time()

    def end(self, **measured: float) -> None:
        seconds = time.perf_counter() - self._started
        cpu = time.process_time() - self._cpu
        report = {"seconds": seconds, "cpu": cpu, **measured, **({} if self.warm else self.facts)}
        print(json.dumps(report), file=self._reports, flush=True)
        self.warm = True


class Side:
    """In the benchmark: a process that trains an epoch on request and otherwise sleeps."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.epochs: list[dict[str, float]] = []
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, **environment},
            )
        self.facts: dict[str, Any] = self._report()

    def epoch(self) -> None:
        """Train one epoch and keep the report."""
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)
        self.epochs.append(self._report())

    def close(self) -> None:
        """End the process, which is waiting for its turn."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def rates(self) -> list[float]:
        """Images per second of each epoch."""
        return [self.facts["slices"] / epoch["seconds"] for epoch in self.epochs]

    def _report(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            sys.exit(f"{self.name}: stopped\n{self._log.read_text()[-2000:]}")
        return json.loads(line)


def spread(values: Sequence[float], form: str = ".0f") -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def show(title: str, header: Row, rows: Sequence[Row], *, markdown: bool) -> None:
    """Print a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.MARKDOWN if markdown else box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    print(f"\n**{title}**" if markdown else f"\n{title}")
    Console(width=200, highlight=False).print(table)
