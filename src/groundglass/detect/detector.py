"""Detector: from scans to findings, by a bundle."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.bundle.engine import Engine, Outputs
from groundglass.detect.bundle import Bundle
from groundglass.errors import ScanError
from groundglass.labels import NOT_A_CHEST_CT
from groundglass.preprocess import Box
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter, answer_files
from groundglass.segment.shares import shares


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
        ``covid``, ``not covid`` or ``uncertain``; ``not a chest CT`` where lungs were looked for and not found.
    evidence
        float32, shape (rows, columns): what each place of the model's input adds to the logit.
    scan
        The slice.
    region
        The part of the slice that the model saw.
    segmentation
        Lungs and lesions; None where they were not looked for.
    probabilities
        Of each of the bundle's several classes, calibrated; empty where the question is a yes or no.
    answered
        The answered class among them, "" for none and for what is uncertain or no chest CT.
    doubt
        Why the verdict is ``uncertain``; else empty.
    distance
        How far its features lie from those of the training slices; None where the bundle does not say.
    """

    score: float
    probability: float
    verdict: str
    evidence: NDArray[np.float32]
    scan: Scan
    region: Box
    segmentation: Segmentation | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    answered: str = ""
    doubt: str = ""
    distance: float | None = None

    @property
    def reason(self) -> str:
        """Why the verdict is ``not a chest CT`` or ``uncertain``; else empty."""
        problem = self.segmentation.problem if self.segmentation is not None else ""
        return problem or self.doubt

    @property
    def lesion_share(self) -> float | None:
        """The share of the lungs that is lesion, in [0, 1]; None where no lungs were looked for or found."""
        if self.segmentation is None or not self.segmentation.found:
            return None
        return shares(self.segmentation).both.lesion_share


class Detector:
    """Answers for slices by a bundle.

    Parameters
    ----------
    bundle
        The bundle.
    segmenter
        Who finds lungs and lesions, for the lesion share and the verdict ``not a chest CT``; None leaves them
        out. A bundle that looks at lungs alone brings its own.

    Examples
    --------
    >>> detector = Detector.load()                               # doctest: +SKIP
    >>> detector.predict(read_scan("slice.png")).probability     # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle, segmenter: Segmenter | None = None) -> None:
        self.bundle = bundle
        self.segmenter = segmenter if bundle.segmenter is None else Segmenter(bundle.segmenter)
        facts = bundle.facts
        shape = (facts.preprocessing.channels, *facts.preprocessing.size)
        self._engine = Engine(bundle.graph, shape, facts.precision)

    @classmethod
    def load(cls, name_or_path: str | Path | None = None, *, lungs: bool = True) -> "Detector":
        """Load a bundle by name or path, by default the default one.

        Parameters
        ----------
        name_or_path
            A shipped bundle's name, a folder or a zip.
        lungs
            Look for lungs and lesions with the shipped segmenter, if the bundle brings none.

        Raises
        ------
        BundleError
            As Bundle.load does.
        """
        bundle = Bundle.load(name_or_path)
        if not lungs or bundle.segmenter is not None:
            return cls(bundle)
        with ThreadPoolExecutor(1) as pool:  # the two networks are compiled side by side
            segmenter = pool.submit(Segmenter.load)
            detector = cls(bundle)
            detector.segmenter = segmenter.result()
        return detector

    def predict(self, scan: Scan) -> SliceFinding:
        """The finding for one slice; raises ValueError for a volume."""
        return next(self.predict_scans([scan]))

    def predict_scans(self, scans: Iterable[Scan]) -> Iterator[SliceFinding]:
        """Findings for slices, in their order."""
        return self.predict_segmented(self._segmented(scans))

    def predict_segmented(
        self, segmented: Iterable[tuple[Scan, Segmentation | None]]
    ) -> Iterator[SliceFinding]:
        """Findings for slices whose lungs were looked for before, in their order."""
        preprocessing = self.bundle.facts.preprocessing
        waiting: deque[tuple[Scan, Box, Segmentation | None]] = deque()

        def inputs() -> Iterator[NDArray[np.float32]]:
            for scan, segmentation in segmented:
                lungs = segmentation.trusted_lungs if segmentation is not None else None
                prepared = preprocessing(scan, lungs)
                height, width = scan.pixels.shape
                region = preprocessing.region(height, width, lungs)
                waiting.append((scan, region, segmentation))
                yield prepared

        for outputs in self._engine.run(inputs()):
            yield self._finding(outputs, *waiting.popleft())

    def _finding(
        self,
        outputs: Outputs,
        scan: Scan,
        region: Box,
        segmentation: Segmentation | None,
    ) -> SliceFinding:
        facts = self.bundle.facts
        logits, evidence, *more = outputs
        distance = float(more[0]) if more else None
        answer = facts.answer(logits, distance)
        refused = segmentation is not None and not segmentation.found
        return SliceFinding(
            score=answer.score,
            probability=answer.probability,
            verdict=NOT_A_CHEST_CT if refused else answer.verdict,
            evidence=evidence,
            scan=scan,
            region=region,
            segmentation=segmentation,
            probabilities=dict(zip(facts.classes, answer.probabilities, strict=True)),
            answered="" if refused else answer.answered,
            doubt="" if refused else answer.reason,
            distance=distance,
        )

    def _segmented(self, scans: Iterable[Scan]) -> Iterator[tuple[Scan, Segmentation | None]]:
        if self.segmenter is None:
            return ((scan, None) for scan in scans)
        return iter(self.segmenter.segment_scans(scans))

    def predict_files(self, paths: Sequence[Path]) -> Iterator[tuple[Path, SliceFinding | ScanError]]:
        """Findings for files, in their order; a file that cannot be read gives its error, and the others go on.

        Reading runs ahead in threads of its own while the engine computes.
        """
        return answer_files(paths, self.predict_scans)
