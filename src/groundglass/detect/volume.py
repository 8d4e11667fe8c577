"""Answering for a volume: slice by slice, so that memory stays small however many slices there are."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from groundglass.detect.bundle import BundleFacts
from groundglass.detect.detector import Detector, SliceFinding
from groundglass.detect.patient import PatientFinding, SliceAnswer, conclude, enough_lung
from groundglass.errors import GroundglassError, ScanError
from groundglass.preprocess import Box
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Geometry, Volume
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter, read_ahead
from groundglass.segment.shares import counts, drop_strays, label_plane, segmentation_of

Seen = Callable[[int, Scan], None]
MOST_DAMAGED = 0.1
"""Share of a volume's slices that may be damaged; with more of them it is refused."""
NOT_JOINED = "what looks like lung here does not hang together with the lungs"


@dataclass(frozen=True, eq=False)
class Asked:
    """What the network said of one slice of a volume, without the slice itself: see SliceFinding."""

    score: float
    probability: float
    verdict: str
    evidence: NDArray[np.float32]
    region: Box
    doubt: str = ""
    distance: float | None = None

    def finding(self, scan: Scan, labels: NDArray[np.uint8]) -> SliceFinding:
        """The finding with the slice, which is read once more, and its labels as in VolumeAnswer."""
        return SliceFinding(
            self.score,
            self.probability,
            self.verdict,
            self.evidence,
            scan,
            self.region,
            segmentation_of(labels),
            doubt=self.doubt,
            distance=self.distance,
        )


@dataclass(frozen=True, eq=False)
class VolumeAnswer:
    """What a bundle says of a volume.

    Attributes
    ----------
    finding
        The patient's answer.
    labels
        uint8, the volume's shape: 0 outside the lungs, 1 in the right lung, 2 in the left, and 4 more where there
        is a lesion; see groundglass.segment.shares.
    asked
        What the network said, by the slice's number from 0.
    damaged
        Why slices could not be read, likewise.
    """

    finding: PatientFinding
    labels: NDArray[np.uint8]
    asked: dict[int, Asked]
    damaged: dict[int, ScanError]


def answer_volume(detector: Detector, volume: Volume, seen: Seen | None = None) -> VolumeAnswer:
    """Find lungs and lesions on every slice, ask those with lungs, and conclude for the patient.

    Parameters
    ----------
    detector
        One that has a segmenter.
    volume
        What to answer for; its slices are read ahead in threads of their own.
    seen
        Called with each readable slice's number from 0 and the slice, in order, in the caller's thread.

    Raises
    ------
    ScanError
        If more slices are damaged than can be passed over.
    GroundglassError
        If the detector has no segmenter.
    """
    pass_ = _Pass(volume, segmenter_of(detector), seen)
    for finding in detector.predict_segmented(pass_.with_lungs()):
        number = pass_.waiting.popleft()
        pass_.asked[number] = Asked(
            finding.score,
            finding.probability,
            finding.verdict,
            finding.evidence,
            finding.region,
            finding.doubt,
            finding.distance,
        )
    pass_.refuse_if_damaged()
    drop_strays(pass_.labels)
    return VolumeAnswer(pass_.conclude(detector), pass_.labels, pass_.asked, pass_.damaged)


def segmenter_of(detector: Detector) -> Segmenter:
    """The detector's segmenter; raises GroundglassError where it has none, as no volume can be answered then."""
    if detector.segmenter is None:
        raise GroundglassError("a volume cannot be answered without the lungs: leave out --no-lungs")
    return detector.segmenter


@dataclass(eq=False)
class _Pass:
    """One pass over a volume; its fields fill while :meth:`with_lungs` is gone through."""

    volume: Volume
    segmenter: Segmenter
    seen: Seen | None
    labels: NDArray[np.uint8] = field(init=False)
    damaged: dict[int, ScanError] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    waiting: deque[int] = field(default_factory=deque)
    asked: dict[int, Asked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = np.zeros(self.volume.shape, dtype=np.uint8)

    def with_lungs(self) -> Iterator[tuple[Scan, Segmentation]]:
        """The slices on which lungs were found; ``waiting`` takes their numbers."""
        numbers: deque[int] = deque()

        def scans() -> Iterator[Scan]:
            for number, read in read_ahead(range(self.volume.shape[0]), self.volume.slice):
                if isinstance(read, ScanError):
                    self.damaged[number] = read
                    continue
                if self.seen is not None:
                    self.seen(number, read)
                numbers.append(number)
                yield read

        for scan, segmentation in self.segmenter.segment_scans(scans()):
            number = numbers.popleft()
            if not segmentation.found:
                self.reasons[number] = segmentation.problem
                continue
            self.labels[number] = label_plane(segmentation)
            self.waiting.append(number)
            yield scan, segmentation

    def refuse_if_damaged(self) -> None:
        """Raise ScanError where too many slices could not be read."""
        slices, lost = self.volume.shape[0], len(self.damaged)
        if lost > MOST_DAMAGED * slices:
            first = next(iter(self.damaged.values()))
            raise ScanError(
                self.volume.source,
                f"{lost} of {slices} slices cannot be read; the first: {first.problem}",
                first.remedy or "get the series anew",
            )

    def conclude(self, detector: Detector) -> PatientFinding:
        """The patient's answer, from the labels as they stand."""
        facts = detector.bundle.facts
        answers = [self._answer(number, facts) for number in range(self.volume.shape[0])]
        answers = [
            replace(answer, counted=enough)
            for answer, enough in zip(answers, enough_lung(answers), strict=True)
        ]
        geometry = self.volume.geometry
        warnings = list(self.volume.warnings)
        if self.damaged:
            warnings.append(f"{len(self.damaged)} of {len(answers)} slices cannot be read and were left out")
        return conclude(
            facts,
            answers,
            None if geometry is None else self._thickness(geometry),
            None if geometry is None else geometry.pixel_mm2,
            warnings,
        )

    def _answer(self, number: int, facts: BundleFacts) -> SliceAnswer:
        geometry = self.volume.geometry
        height = None if geometry is None else float(geometry.heights_mm[number])
        if number in self.damaged:
            return SliceAnswer(number + 1, height, reason=self.damaged[number].problem)
        lungs, lesions = counts(self.labels[number])
        if not sum(lungs):
            return SliceAnswer(number + 1, height, reason=self.reasons.get(number, NOT_JOINED))
        asked = self.asked[number]
        return SliceAnswer(
            number + 1,
            height,
            asked.probability,
            asked.score,
            lungs_px=lungs,
            lesions_px=lesions,
            reason=facts.unlike(asked.distance),
        )

    def _thickness(self, geometry: Geometry) -> NDArray[np.float64] | None:
        """How much each slice stands for, in mm; what is damaged is shared among its neighbours."""
        read = np.array([number not in self.damaged for number in range(len(geometry.positions))])
        among = replace(geometry, positions=geometry.positions[read]).thickness_mm
        if among is None:
            return None
        thickness = np.zeros(len(read))
        thickness[read] = among
        return thickness
