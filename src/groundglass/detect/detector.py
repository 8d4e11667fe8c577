"""Detector: from scans to findings, by a bundle."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.detect.bundle import Bundle
from groundglass.detect.engine import Engine
from groundglass.errors import ScanError
from groundglass.scan.reader import read_scan
from groundglass.scan.scan import Scan

READERS = 2
AHEAD = 8
"""Slices that are read before the engine asks for them: enough to keep it busy, few enough to stay small."""


@dataclass(frozen=True)
class SliceFinding:
    """What a bundle says of one slice.

    Attributes
    ----------
    score
        Raw output of the network in [0, 1], 1 for COVID-19.
    probability
        The same after calibration.
    verdict
        ``covid`` or ``not covid``.
    evidence
        float32, shape (rows, columns): what each place of the model's input adds to the logit.
    scan
        The slice.
    """

    score: float
    probability: float
    verdict: str
    evidence: NDArray[np.float32]
    scan: Scan


class Detector:
    """Answers for slices by a bundle.

    Parameters
    ----------
    bundle
        The bundle.

    Examples
    --------
    >>> detector = Detector.load()                               # doctest: +SKIP
    >>> detector.predict(read_scan("slice.png")).probability     # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        preprocessing = bundle.facts.preprocessing
        self._engine = Engine(bundle.graph, (preprocessing.channels, *preprocessing.size))

    @classmethod
    def load(cls, name_or_path: str | Path | None = None) -> "Detector":
        """Load a bundle by name or path, by default the default one; raises BundleError as Bundle.load does."""
        return cls(Bundle.load(name_or_path))

    def predict(self, scan: Scan) -> SliceFinding:
        """The finding for one slice; raises ValueError for a volume."""
        return next(self.predict_scans([scan]))

    def predict_scans(self, scans: Iterable[Scan]) -> Iterator[SliceFinding]:
        """Findings for slices, in their order."""
        waiting: deque[Scan] = deque()

        def inputs() -> Iterator[NDArray[np.float32]]:
            for scan in scans:
                prepared = self.bundle.facts.preprocessing(scan)
                waiting.append(scan)
                yield prepared

        for output in self._engine.run(inputs()):
            answer = self.bundle.facts.answer(output.logit)
            yield SliceFinding(*answer, output.evidence, waiting.popleft())

    def predict_files(self, paths: Sequence[Path]) -> Iterator[tuple[Path, SliceFinding | ScanError]]:
        """Findings for files, in their order; a file that cannot be read gives its error, and the others go on.

        Reading runs ahead in threads of its own while the engine computes.
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

        for finding in self.predict_scans(scans()):
            yield from failures()
            yield outcomes.popleft()[0], finding
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
