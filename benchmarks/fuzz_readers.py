"""Fuzz the readers of scans: damage valid files at random and read them.

    python benchmarks/fuzz_readers.py --minutes 10 --seed 0

Every damaged input must be read or refused with a GroundglassError. A finding is any other exception, a
crash, a volume that contradicts its documentation, over 20 s, or over 1.5 GB of memory. A child process
reads, and logs each input beforehand, so that the cause of a crash is known. Findings are kept in a folder,
at most three of a kind, each with its files and a description. ``--only NUMBER`` repeats one input in this
process.
"""

import argparse
import contextlib
import faulthandler
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fuzz_mutations import damage
from fuzz_seeds import Seed, make_seeds
from groundglass.errors import GroundglassError
from groundglass.scan.find import find_series
from groundglass.scan.image import read_image
from groundglass.scan.volume import Series

SECONDS = 20
MEMORY = 1_500_000_000
BATCH = 3000
KEPT_OF_A_KIND = 3
OUTCOMES = ("refused for memory", "read", "read in part", "refused")
"""If an input has several series, the first of these that occurs counts."""


class BrokenPromiseError(Exception):
    """A volume that contradicts its documentation."""


def read_input(seed: Seed, folder: Path) -> str:
    """Read a damaged input completely and return the outcome; raises if it is a finding."""
    if seed.reader == "picture":
        outcomes = [_outcome(lambda path=path: _read_picture(path)) for path in sorted(folder.iterdir())]
        return _best(outcomes)
    outcomes = []
    try:
        directory = folder / "DICOMDIR"
        listing = find_series([directory if directory.exists() else folder])
    except GroundglassError:
        return "refused"
    for failure in listing.failures:
        str(failure)
    for series in listing.series:
        outcomes.append(_outcome(lambda series=series: _read_series(series)))
    return _best(outcomes or ["refused"])


def _best(outcomes: list[str]) -> str:
    return next((name for name in OUTCOMES if name in outcomes), "refused")


def _outcome(read: Any) -> str:
    try:
        return str(read())
    except GroundglassError as error:
        if not str(error):
            raise BrokenPromiseError("an error without a message") from error
        return "refused for memory" if isinstance(error.__context__, MemoryError) else "refused"


def _read_picture(path: Path) -> str:
    read_image(path)
    return "read"


def _read_series(series: Series) -> str:
    repr(series)
    volume = series.load()
    if not series.usable:
        raise BrokenPromiseError("an unusable series was loaded")
    if min(volume.shape) < 1:
        raise BrokenPromiseError(f"shape {volume.shape}")
    if volume.geometry is not None:
        if len(volume.geometry.positions) != volume.shape[0]:
            raise BrokenPromiseError("as many positions as slices")
        if (np.diff(volume.geometry.heights_mm) < 0).any():
            raise BrokenPromiseError("slices feet to head")
    damaged = 0
    wanted = sorted({0, 1, volume.shape[0] // 2, volume.shape[0] - 1} & set(range(volume.shape[0])))
    for number in wanted:
        try:
            pixels = volume.slice(number).pixels  # a Scan checks type, range and finiteness
        except GroundglassError:
            damaged += 1
            continue
        if pixels.shape != volume.shape[1:]:
            raise BrokenPromiseError(f"a slice of shape {pixels.shape}, not {volume.shape[1:]}")
        if volume.is_hu and pixels.min() < -1024:
            raise BrokenPromiseError(f"{pixels.min()} HU")
    return "read in part" if damaged else "read"


def read_number(seeds: list[Seed], seed: int, number: int) -> dict[str, Any]:
    """Damage and read one input; returns the outcome."""
    chosen, steps, files = damage(seeds, seed, number)
    told = {"number": number, "reader": chosen.reader, "seed": chosen.name, "steps": steps}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        for file, content in files.items():
            (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / file).write_bytes(content)
        try:
            return told | {"outcome": read_input(chosen, Path(name))}
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Rust libraries raise more than Exception
            return told | {"outcome": "finding", **_described(error)}


def _described(error: BaseException) -> dict[str, str]:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "groundglass" in frame.filename] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    trace = "".join(traceback.format_exception(error))
    return {"kind": f"{type(error).__name__} at {where}", "trace": trace}


def child(seed: int, first: int, until: float, journal: Path) -> None:
    """Read inputs from number ``first`` on and log each before and after it is read."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable()
    seeds = make_seeds()
    for one in seeds:  # the valid ones load every decoder before memory is limited
        with contextlib.suppress(Exception), tempfile.TemporaryDirectory() as name:
            for file, content in one.files.items():
                (Path(name) / Path(file).name).write_bytes(content)
            read_input(one, Path(name))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with journal.open("a") as handle:
        for number in range(first, first + BATCH):
            if time.time() > until:
                break
            print(json.dumps({"begun": number}), file=handle, flush=True)
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            told = read_number(seeds, seed, number)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(told), file=handle, flush=True)
        print(json.dumps({"ended": True}), file=handle)


def run_child(seed: int, first: int, until: float) -> tuple[list[dict[str, Any]], bool]:
    """A child's log, with a crash or hang added as a finding, and whether it ran out of time."""
    with tempfile.TemporaryDirectory() as name:
        journal, errors = Path(name) / "journal", Path(name) / "errors"
        command = [
            sys.executable,
            __file__,
            "--seed",
            str(seed),
            "--child",
            str(first),
            str(until),
            str(journal),
        ]
        with errors.open("wb") as handle:
            code = subprocess.run(command, stdout=handle, stderr=handle).returncode
        lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
        trace = errors.read_text(errors="replace")[-6000:]
    done = [line for line in lines if "outcome" in line]
    begun = [line["begun"] for line in lines if "begun" in line]
    if code == 0:
        return done, time.time() > until
    if len(begun) == len(done):
        raise SystemExit(f"the child ended before it read anything (exit status {code}):\n{trace}")
    hung = "Timeout" in trace
    chosen, steps, _ = damage(make_seeds(), seed, begun[-1])
    kind = f"over {SECONDS} s" if hung else f"crash, exit status {code}"
    told = {"number": begun[-1], "reader": chosen.reader, "seed": chosen.name, "steps": steps}
    return [*done, told | {"outcome": "finding", "kind": kind, "trace": trace}], False


def keep(finding: dict[str, Any], seeds: list[Seed], seed: int, folder: Path) -> None:
    """Write a finding's files and description."""
    target = folder / f"{finding['number']:07d}"
    shutil.rmtree(target, ignore_errors=True)
    for file, content in damage(seeds, seed, finding["number"])[2].items():
        (target / "input" / file).parent.mkdir(parents=True, exist_ok=True)
        (target / "input" / file).write_bytes(content)
    about = f"{finding['kind']}\n{finding['seed']}: {finding['steps']}\n"
    about += f"again: python benchmarks/fuzz_readers.py --seed {seed} --only {finding['number']}\n\n"
    (target / "about.txt").write_text(about + finding["trace"])


def fuzz(seed: int, first: int, minutes: float, folder: Path) -> None:
    """Read damaged inputs until the time is over, keep findings and print a summary."""
    until = time.time() + 60 * minutes
    seeds = make_seeds()
    counts: Counter[tuple[str, str]] = Counter()
    kinds: Counter[str] = Counter()
    over = False
    while not over and time.time() < until:
        told, over = run_child(seed, first, until)
        for line in told:
            counts[line["reader"], line["outcome"]] += 1
            if line["outcome"] == "finding":
                kinds[line["kind"]] += 1
                if kinds[line["kind"]] <= KEPT_OF_A_KIND:
                    keep(line, seeds, seed, folder)
                    print(f"{line['number']}: {line['seed']}: {line['steps']}: {line['kind']}", flush=True)
            first = line["number"] + 1
    print(f"\nseed {seed}, {sum(counts.values())} inputs, the next is number {first}")
    for reader in sorted({reader for reader, _ in counts}):
        outcomes = {outcome: n for (of, outcome), n in sorted(counts.items()) if of == reader}
        print(f"{reader:8}", ", ".join(f"{outcome} {n}" for outcome, n in outcomes.items()))
    for kind, count in kinds.most_common():
        print(f"{count:6}  {kind}")
    print(f"findings are in {folder}" if kinds else "no findings")
    sys.exit(1 if kinds else 0)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=0, help="random seed [%(default)s]")
    options.add_argument("--first", type=int, default=0, help="number of the first input [%(default)s]")
    options.add_argument("--findings", type=Path, default=Path("runs/fuzz"), help="folder [%(default)s]")
    options.add_argument("--only", type=int, metavar="NUMBER", help="read only this input, in this process")
    options.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        child(given.seed, int(given.child[0]), float(given.child[1]), Path(given.child[2]))
    elif given.only is not None:
        told = read_number(make_seeds(), given.seed, given.only)
        print("\n".join(f"{name}: {value}" for name, value in told.items()))
    else:
        fuzz(given.seed, given.first, given.minutes, given.findings)


if __name__ == "__main__":
    main()
