"""Series: what a listing says of one stack of slices before its pixels are read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from groundglass.errors import ScanError
from groundglass.scan.volume import Volume

Plane = Literal["axial", "coronal", "sagittal", "oblique", "unknown"]


@dataclass(frozen=True, eq=False)
class Series:
    """One stack of slices that was found: a DICOM series, or a part of one, or a NIfTI file.

    Attributes
    ----------
    source
        The file, the folder that holds its files, or the ZIP.
    kind
        ``dicom`` or ``nifti``.
    slices, rows, columns
        Its size; 0 where it is not known.
    load
        Opens the volume; raises ScanError where it is not usable.
    modality, body_part, kernel
        As the header states them; "" where it does not. NIfTI states none.
    plane
        How the slices lie.
    spacing
        Distance in mm of neighbouring slices, rows and columns; None where it is not known.
    problem, remedy
        Why it cannot be used as a chest CT volume, and what the user can do; both "" where it can.
    warnings
        What a reader has to assume, in words.
    number
        SeriesNumber; "" where there is none.
    patient, study, series_uid
        PatientID, StudyInstanceUID and SeriesInstanceUID, "" where there are none. They identify a person: they go
        into no log, file name or report unless the user asks for it.
    damaged
        How many of its files are damaged and were left out.
    content
        Changes where a file of the series does: a hash over its files' names, sizes and times of change.
    """

    source: Path
    kind: Literal["dicom", "nifti"]
    slices: int
    rows: int
    columns: int
    load: Callable[[], Volume] = field(repr=False)
    modality: str = ""
    body_part: str = ""
    kernel: str = ""
    plane: Plane = "unknown"
    spacing: tuple[float, float, float] | None = None
    problem: str = ""
    remedy: str = ""
    warnings: tuple[str, ...] = ()
    number: str = ""
    patient: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    damaged: int = 0
    content: str = ""

    @property
    def examination(self) -> tuple[str, str]:
        """What series of one examination of one patient share; it identifies a person as the ids do.

        Where the header names no study, and of NIfTI, that is the place of the files.
        """
        return self.study or str(self.source.absolute()), self.patient

    @property
    def usable(self) -> bool:
        """Whether it can be read as a volume of the chest."""
        return not self.problem


@dataclass(frozen=True)
class Listing:
    """What was found under some paths.

    Attributes
    ----------
    series
        Usable or not, those of one study side by side.
    pictures
        PNG, JPEG and the like, each a slice of its own.
    failures
        Files that claim to be scans and could not be read at all.
    ignored
        How many other files there were.
    results
        Folders with results of Groundglass, which were not searched.
    """

    series: tuple[Series, ...]
    pictures: tuple[Path, ...] = ()
    failures: tuple[ScanError, ...] = ()
    ignored: int = 0
    results: tuple[Path, ...] = ()
