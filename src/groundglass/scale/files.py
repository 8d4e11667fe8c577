"""Divide the files or volumes of one command among workers on this machine, each of which answers its share."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError, ScanError
from groundglass.scale.cohort import Workers, connected, set_up
from groundglass.scan.dicom.frame import DicomFrame
from groundglass.scan.dicom.series import HeaderReader, read_headers
from groundglass.scan.members import Found
from groundglass.segment.segmenter import Segmenter

Network = TypeVar("Network", Detector, Segmenter)
FILES = 16
"""Number of files that a worker answers at a time."""
HEADERS = 500
"""Number of headers that a task reads."""
MANY = 20_000
"""Smallest number of files for which starting Ray saves time."""
AHEAD = 2
"""Number of finished parts per worker that may wait; more would fill the memory with slices."""


class _Worker:
    """A Ray actor that applies functions, which may hold a network, to items."""

    def __init__(self, cores: int, here: Path) -> None:
        set_up(cores, here)
        self._functions: dict[Any, Any] = {}

    def answer(self, function: list[Any], items: list[Any]) -> list[Any]:
        """The results of a function for items; it is fetched only once, because loading its network takes time."""
        (ref,) = function
        if ref not in self._functions:
            self._functions[ref] = ray.get(ref)
        return list(self._functions[ref](items))


class _Pool:
    """Workers on this machine."""

    def __init__(self, number: int) -> None:
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)) // number)
        kind: Any = ray.remote(_Worker)
        # They reserve no cores, because these would remain reserved while the command does something else.
        self._workers = [kind.options(num_cpus=0).remote(cores, Path.cwd()) for _ in range(number)]

    def by(self, function: Callable[[Any], Iterable[Any]], size: int = FILES) -> Callable[..., Iterator[Any]]:
        """The same function of a sequence, computed by the workers, which take ``size`` items at a time."""
        shared = [ray.put(function)]

        def answers(items: Sequence[Any]) -> Iterator[Any]:
            parts = (list(items[start : start + size]) for start in range(0, len(items), size))
            asked = (
                worker.answer.remote(shared, part)
                for worker, part in zip(cycle(self._workers), parts, strict=False)
            )
            yield from _in_order(asked, AHEAD * len(self._workers))

        return answers


def _in_order(refs: Iterable[Any], most: int) -> Iterator[Any]:
    """The items of the lists that Ray computes; at most this many lists are being computed or waiting."""
    waiting: deque[Any] = deque()
    for ref in refs:
        waiting.append(ref)
        if len(waiting) > most:
            yield from _taken(waiting.popleft())
    while waiting:
        yield from _taken(waiting.popleft())


def _taken(ref: Any) -> Any:
    try:
        return ray.get(ref)
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, GroundglassError):
            raise cause from error
        raise GroundglassError(
            "a worker ended without an answer; run the command without --workers"
        ) from error


def _headers(files: list[Found], here: Path) -> list[list[DicomFrame] | ScanError]:
    """Ray task: read the headers of files."""
    set_up(1, here)
    return list(read_headers(files))


def header_reader(workers: Workers) -> HeaderReader:
    """A reader of DICOM headers that uses all cores of a machine or cluster for many files, and this process
    for few."""

    def read(files: Sequence[Found]) -> Iterator[list[DicomFrame] | ScanError]:
        if len(files) < MANY:
            yield from read_headers(files)
            return
        with connected(workers.address, workers.number):
            task, here = ray.remote(_headers), Path.cwd()
            parts = (list(files[start : start + HEADERS]) for start in range(0, len(files), HEADERS))
            most = AHEAD * int(ray.cluster_resources().get("CPU", 1))
            yield from _in_order((task.remote(part, here) for part in parts), most)

    return read


@contextmanager
def divided(number: int) -> Iterator[Any]:
    """Start workers on this machine; yields a function that distributes a network's files among them.

    Raises
    ------
    GroundglassError
        If Ray cannot be started.
    """
    with connected(None, number):
        pool = _Pool(number)

        def divide(network: Network) -> Network:
            made = copy(network)
            if isinstance(network, Detector):
                made.predict_files = pool.by(network.predict_files)  # type: ignore[method-assign]
            else:
                made.segment_files = pool.by(network.segment_files)  # type: ignore[method-assign]
                made.each = lambda work, items: pool.by(partial(network.each, work), size=1)(items)  # type: ignore[method-assign]
            return made

        yield divide
