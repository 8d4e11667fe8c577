"""Answering for files: reading runs ahead of the network, and a file that cannot be read stops nothing."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from groundglass.errors import ScanError
from groundglass.scan.reader import read_scan
from groundglass.scan.scan import Scan

Answer = TypeVar("Answer")
Item = TypeVar("Item")

READERS = 2
AHEAD = 8
"""Slices that are read before the engine asks for them: enough to keep it busy, few enough to stay small."""


def answer_files(
    paths: Sequence[Path], answer: Callable[[Iterable[Scan]], Iterator[Answer]]
) -> Iterator[tuple[Path, Answer | ScanError]]:
    """Answers for files, in their order; a file that cannot be read gives its error, and the others go on.

    Parameters
    ----------
    paths
        The files.
    answer
        Gives one answer for each scan, in their order.
    """
    outcomes: deque[tuple[Path, ScanError | None]] = deque()

    def scans() -> Iterator[Scan]:
        for path, read in read_ahead(paths, read_scan):
            if isinstance(read, ScanError):
                outcomes.append((path, read))
            else:
                outcomes.append((path, None))
                yield read

    def failures() -> Iterator[tuple[Path, ScanError]]:
        while outcomes and (error := outcomes[0][1]) is not None:
            yield outcomes.popleft()[0], error

    for one in answer(scans()):
        yield from failures()
        yield outcomes.popleft()[0], one
        yield from failures()
    yield from failures()


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Scan]
) -> Iterator[tuple[Item, Scan | ScanError]]:
    """Scans in the order of ``items``, read by threads that run ahead; one that cannot be read gives its error."""

    def attempt(item: Item) -> Scan | ScanError:
        try:
            return read(item)
        except ScanError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        ahead: deque[tuple[Item, Future[Scan | ScanError]]] = deque()
        for item in items:
            ahead.append((item, pool.submit(attempt, item)))
            if len(ahead) > AHEAD:
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()
