"""Volume: an ordered stack of axial slices, read one at a time, and its location in the patient."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError, count_of
from groundglass.files import write_text
from groundglass.scan.scan import Scan, describe

ORIENTATION = "SPL"
"""The orientation of every volume. Slices run from the feet to the head, rows from front to back, columns
from the patient's right to the left, so that each slice is oriented as a radiologist views it."""

VOLUME_ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr")
"""Extensions of volume files other than DICOM."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """The location of a stack's voxels, in mm, in DICOM patient coordinates (PS3.3 C.7.6.2.1.1).

    x increases to the patient's left, y to the back, z to the head.

    Attributes
    ----------
    positions
        float64, shape (slices, 3): the centre of each slice's first voxel (row 0, column 0), feet to head.
    row_step, column_step
        float64, shape (3,): the vector from one row, or column, to the next.

    Raises
    ------
    ValueError
        If a shape is wrong, a value is not finite, or a step has no length.
    """

    positions: NDArray[np.float64]
    row_step: Vector
    column_step: Vector

    def __post_init__(self) -> None:
        if self.positions.ndim != 2 or self.positions.shape[1] != 3 or not len(self.positions):
            raise ValueError(f"positions have the shape (slices, 3), got {self.positions.shape}")
        for step in (self.row_step, self.column_step):
            if step.shape != (3,) or not np.isfinite(step).all() or not np.linalg.norm(step) > 0:
                raise ValueError(f"a step is three finite lengths in mm, not all 0, got {step}")
        if not np.isfinite(self.positions).all():
            raise ValueError("positions must be finite")

    @classmethod
    def even(cls, slices: int, spacing: Sequence[float]) -> Self:
        """Geometry of an upright stack at the origin, with the ``spacing`` of slices, rows and columns in mm."""
        across, down, along = spacing
        positions = np.zeros((slices, 3))
        positions[:, 2] = across * np.arange(slices)
        return cls(positions, row_step=np.array([0.0, down, 0.0]), column_step=np.array([along, 0.0, 0.0]))

    @property
    def normal(self) -> Vector:
        """The unit vector normal to the slices, towards the head."""
        normal = np.cross(self.row_step, self.column_step)
        normal /= np.linalg.norm(normal)
        return normal if normal[2] >= 0 else -normal

    @property
    def heights_mm(self) -> Vector:
        """The position of each slice along the normal, in mm; shape (slices,)."""
        return np.asarray(self.positions @ self.normal, dtype=np.float64)

    @property
    def thickness_mm(self) -> Vector | None:
        """The thickness that each slice represents, in mm, shape (slices,): half the distance to each neighbour.

        The gap left by a missing slice is thus divided among its neighbours, and uneven stacks are measured
        correctly. The outermost slices count in full. None for a single slice, which has no neighbours.
        """
        if len(self.positions) < 2:
            return None
        gaps = np.diff(self.heights_mm)
        return (np.concatenate((gaps[:1], gaps)) + np.concatenate((gaps, gaps[-1:]))) / 2

    @property
    def pixel_mm2(self) -> float:
        """The area of one pixel in mm²."""
        return float(np.linalg.norm(np.cross(self.row_step, self.column_step)))

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Distance in mm between neighbouring slices (the median), rows and columns; None for a single slice."""
        if len(self.positions) < 2:
            return None
        step = float(np.median(np.diff(self.heights_mm)))
        return step, float(np.linalg.norm(self.row_step)), float(np.linalg.norm(self.column_step))


@dataclass(frozen=True)
class Member:
    """A file on disk or in a ZIP.

    Attributes
    ----------
    path
        The file, or the ZIP.
    inside
        Its name within the ZIP; "" for a file on disk.
    content
        The bytes of a file that exists only in memory, whose ``path`` is then just a name; otherwise None.
    """

    path: Path
    inside: str = ""
    content: bytes | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.path}/{self.inside}" if self.inside else str(self.path)


@dataclass(frozen=True)
class Instance:
    """The DICOM image that a slice was read from: ``frame`` counts from 0 within ``member``."""

    member: Member
    sop_instance: str
    frame: int = 0


@dataclass(frozen=True)
class Origin:
    """The DICOM origin of a volume, needed to write DICOM objects that refer to it.

    Attributes
    ----------
    instances
        One per slice, in the volume's order.
    transposed, rows_flipped, columns_flipped
        The operations that oriented each slice as a radiologist views it; the transposition comes first.
    """

    instances: tuple[Instance, ...]
    transposed: bool = False
    rows_flipped: bool = False
    columns_flipped: bool = False

    def upright(self, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """Turn a stored slice to the volume's orientation, shape (height, width)."""
        turned = stored.T if self.transposed else stored
        return turned[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]

    def stored(self, upright: NDArray[np.generic]) -> NDArray[np.generic]:
        """Turn a slice from the volume's orientation to the stored one, shape (height, width)."""
        turned = upright[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]
        return turned.T if self.transposed else turned


@dataclass(frozen=True, eq=False)
class Grid:
    """How a volume's voxels are stored in the original NIfTI file.

    Attributes
    ----------
    axes
        The file's axis, from 0, along which the volume's slices, rows and columns run.
    flipped
        Which of the volume's axes run against the file's.
    place
        The header's fields that locate the grid in the patient, by name, as read.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    place: Mapping[str, NDArray[np.generic]]

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flipped)

    def upright(self, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view of the file's three-axis array, shape (slices, height, width)."""
        return stored.transpose(self.axes)[self._steps]

    def stored(self, upright: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view of an array of shape (slices, height, width), with the file's three axes."""
        return upright[self._steps].transpose(np.argsort(self.axes))


@dataclass(frozen=True, eq=False)
class Volume:
    """An ordered stack of axial slices whose pixels are read on demand.

    Attributes
    ----------
    shape
        (slices, height, width), in the orientation ``"SPL"``, see :data:`ORIENTATION`.
    is_hu
        Whether the pixels are Hounsfield units; otherwise they are grey in [0, 1].
    scan_id
        A name that reveals nothing about the patient.
    source
        The file, folder or ZIP that is read.
    read
        Returns the pixels of one slice, by its number from 0: float32, shape (height, width), finite; raises
        ScanError if that slice is damaged. Safe to call from several threads.
    geometry
        The location of the voxels; None if unknown.
    warnings
        What the reader had to assume, in words.
    origin
        The DICOM images; None for a volume that is not from DICOM.
    grid
        How the NIfTI file stores it; None for a volume that is not from NIfTI.
    age_years
        The patient's age in years; None if it is not known.
    oriented
        Whether it is known which side of the slices is the patient's right and which end of the stack is the
        head; otherwise both were assumed, as ``warnings`` state.
    """

    shape: tuple[int, int, int]
    is_hu: bool
    scan_id: str
    source: Path
    read: Callable[[int], NDArray[np.float32]]
    geometry: Geometry | None = None
    warnings: tuple[str, ...] = ()
    origin: Origin | None = None
    grid: Grid | None = None
    age_years: float | None = None
    oriented: bool = True

    def __repr__(self) -> str:
        return f"Volume({self.scan_id!r}, {describe(self.shape, self.spacing, is_hu=self.is_hu)})"

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Distance in mm of neighbouring slices, rows and columns; None if it is not known."""
        return None if self.geometry is None else self.geometry.spacing

    def slice(self, number: int) -> Scan:
        """Slice ``number``, from 0 at the feet; raises ScanError if it is damaged."""
        spacing = self.spacing
        return Scan(
            self.read(number),
            is_hu=self.is_hu,
            scan_id=f"{self.scan_id}-{number + 1:04d}",
            spacing=None if spacing is None else spacing[1:],
            orientation=ORIENTATION[1:],
            source=self.source,
        )

    def slices(self) -> Iterator[Scan | ScanError]:
        """The slices from the feet to the head, each read on demand; a damaged slice gives its error."""
        for number in range(self.shape[0]):
            try:
                yield self.slice(number)
            except ScanError as error:
                yield error


Plane = Literal["axial", "coronal", "sagittal", "oblique", "unknown"]


@dataclass(frozen=True, eq=False)
class Series:
    """A stack of slices: a DICOM series, a part of one, or a NIfTI file.

    Attributes
    ----------
    source
        The file, the folder that contains its files, or the ZIP.
    kind
        ``dicom`` or ``nifti``.
    slices, rows, columns
        Its size; 0 if unknown.
    open
        Opens the volume of a usable series, for :meth:`load`.
    modality, body_part, kernel
        As stated in the header, else "". NIfTI states none.
    plane
        Orientation of the slices.
    spacing
        Distance in mm of neighbouring slices, rows and columns; None if it is not known.
    problem, remedy
        Why it cannot be used as a chest CT volume, and what the user can do; both "" if it can.
    warnings
        The assumptions needed to read it, in words.
    number
        SeriesNumber; "" if there is none.
    patient, study, series_uid
        PatientID, StudyInstanceUID and SeriesInstanceUID, "" if there are none. They identify a person: they
        appear in no log, file name or report unless the user asks for it.
    damaged
        The number of damaged files that were left out.
    content
        A hash of its files' names, sizes and times of change.
    files
        Its files, or the ZIP.
    fetch
        Fetches the series of a study that is still elsewhere, such as in a PACS; until then, only its source,
        patient, study and content are known. None for a series that is already here.
    """

    source: Path
    kind: Literal["dicom", "nifti"]
    slices: int
    rows: int
    columns: int
    open: Callable[[], Volume] | None = field(default=None, repr=False)
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
    files: frozenset[Path] = field(default=frozenset(), repr=False)
    fetch: Callable[[], Sequence["Series"]] | None = field(default=None, repr=False)

    @property
    def examination(self) -> tuple[str, str]:
        """A key shared by the series of one examination; like the ids, it identifies a person.

        For NIfTI, or if the header names no study, it is the location of the files.
        """
        return self.study or str(self.source.absolute()), self.patient

    @property
    def usable(self) -> bool:
        """Whether it can be read as a volume of the chest."""
        return not self.problem

    def load(self) -> Volume:
        """Open the volume; raises ScanError if the series is not usable."""
        if self.problem or self.open is None:
            raise ScanError(self.source, self.problem, self.remedy)
        return self.open()


@dataclass(frozen=True)
class Listing:
    """The scans found under some paths.

    Attributes
    ----------
    series
        All series, usable or not, grouped by study.
    pictures
        PNG, JPEG and similar files, each a slice of its own.
    failures
        Files that appear to be scans but could not be read at all.
    ignored
        The number of other files.
    results
        Folders with results of Groundglass, which were not searched.
    """

    series: tuple[Series, ...]
    pictures: tuple[Path, ...] = ()
    failures: tuple[ScanError, ...] = ()
    ignored: int = 0
    results: tuple[Path, ...] = ()


RESULTS = ".groundglass"
"""Name of the file that marks a results folder."""


def mark_results(folder: Path) -> None:
    """Mark a folder as results; raises GroundglassError if the file cannot be written."""
    write_text(folder / RESULTS, "Results of Groundglass: a search for scans skips this folder.\n")


FEW = 10
"""A volume with fewer slices gets a warning that it does not show a whole chest."""
THICK_MM = 5.0
"""Slices further apart than this may miss small findings."""


def spacing_warnings(slices: int, geometry: Geometry | None) -> list[str]:
    """Warnings about a volume's slices: few, far apart, missing, or unevenly spaced."""
    said = [f"only {count_of(slices, 'slice')}: a chest has more"] if slices < FEW else []
    if geometry is None or slices < 2:
        return said
    gaps = np.diff(geometry.heights_mm)
    usual = float(np.median(gaps))
    if usual > THICK_MM + 0.05:
        said.append(f"the slices are {usual:.1f} mm apart: small findings may lie between them")
    return said + _gaps(geometry.heights_mm, gaps, usual)


def _gaps(heights: Vector, gaps: Vector, usual: float) -> list[str]:
    ratios = gaps / usual
    wide = (np.rint(ratios) >= 2) & (np.abs(ratios - np.rint(ratios)) < 0.2)
    off = np.abs(ratios - 1) > max(0.05, 0.05 / usual)
    if wide.any() and wide.mean() < 0.25 and not (off & ~wide).any():
        places = [f"{heights[at]:.1f} and {heights[at + 1]:.1f} mm" for at in np.flatnonzero(wide)]
        where = ", ".join(places[:3]) + (
            f" and {count_of(len(places) - 3, 'more gap')}" if len(places) > 3 else ""
        )
        missing = count_of(int(np.rint(ratios[wide] - 1).sum()), "slice")
        return [f"{missing} missing, between {where}: the gap is shared among the neighbours"]
    if off.any():
        return [
            f"uneven spacing, {gaps.min():.2f} to {gaps.max():.2f} mm: each slice is weighted by its own extent"
        ]
    return []
