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
        for path, read in _read_ahead(paths):
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


def _read_ahead(paths: Sequence[Path]) -> Iterator[tuple[Path, Scan | ScanError]]:
    def read(path: Path) -> Scan | ScanError:
        try:
            return read_scan(path)
        except ScanError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        ahead: deque[tuple[Path, Future[Scan | ScanError]]] = deque()
        for path in paths:
            ahead.append((path, pool.submit(read, path)))
            if len(ahead) > AHEAD:
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()
