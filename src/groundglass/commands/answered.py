"""One study's answer, before it is written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from groundglass.commands.studies import Study
from groundglass.commands.volume_pictures import Thumbnails
from groundglass.detect.detector import Detector
from groundglass.detect.patient import PatientFinding
from groundglass.detect.volume import VolumeFinding, answer_volume
from groundglass.scan.volume import Volume


@dataclass(frozen=True, eq=False)
class Answered:
    """A study's volume with the answer, and small pictures of its slices."""

    study: Study
    volume: Volume
    answer: VolumeFinding
    thumbnails: Thumbnails

    @property
    def finding(self) -> PatientFinding:
        """The patient's answer."""
        return self.answer.finding


def answer_study(detector: Detector, study: Study, seen: Callable[[], object]) -> Answered:
    """Answer for the study's series; ``seen`` is called after each slice.

    Raises
    ------
    ScanError
        If the study has no series to ask, or it cannot be read.
    """
    if study.series is None:
        raise study.error()
    volume = study.series.load()
    thumbnails = Thumbnails(detector.bundle.facts.preprocessing, volume.shape[0])

    def passing(number: int, scan: Any) -> None:
        thumbnails.take(number, scan)
        seen()

    return Answered(study, volume, answer_volume(detector, volume, passing), thumbnails)
