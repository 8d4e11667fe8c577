"""Volume: an ordered stack of axial slices, read one at a time, and where it lies in the patient."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError
from groundglass.scan.scan import Scan

ORIENTATION = "SPL"
"""Of every volume: slices run from the feet to the head, rows from front to back, columns from the patient's right
to the left, so that each slice stands as a radiologist views it."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of a stack lie, in mm, in DICOM's patient coordinates (PS3.3 C.7.6.2.1.1).

    x grows to the patient's left, y to the back, z to the head.

    Attributes
    ----------
    positions
        float64, shape (slices, 3): the centre of each slice's first voxel (row 0, column 0), feet to head.
    row_step, column_step
        float64, shape (3,): from one row, or column, to the next.

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

    @property
    def normal(self) -> Vector:
        """The unit vector across the slices, to the head."""
        normal = np.cross(self.row_step, self.column_step)
        normal /= np.linalg.norm(normal)
        return normal if normal[2] >= 0 else -normal

    @property
    def heights_mm(self) -> Vector:
        """Where each slice lies along the normal, in mm; shape (slices,)."""
        return np.asarray(self.positions @ self.normal, dtype=np.float64)

    @property
    def thickness_mm(self) -> Vector | None:
        """How much each slice stands for, in mm, shape (slices,): half of the way to each of its neighbours.

        So a missing slice is shared among its neighbours, and uneven stacks are measured right. The outermost
        slices count in full. None for a single slice, which has no neighbour to tell.
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
        """Distance in mm of neighbouring slices (the median), rows and columns; None for a single slice."""
        if len(self.positions) < 2:
            return None
        step = float(np.median(np.diff(self.heights_mm)))
        return step, float(np.linalg.norm(self.row_step)), float(np.linalg.norm(self.column_step))


@dataclass(frozen=True)
class Member:
    """A file on disk, or one within a ZIP.

    Attributes
    ----------
    path
        The file, or the ZIP.
    inside
        Its name within the ZIP; "" for a file on disk.
    """

    path: Path
    inside: str = ""

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
    """How a volume came from DICOM, for what is written about it.

    Attributes
    ----------
    instances
        One for each slice, in the volume's order.
    transposed, rows_flipped, columns_flipped
        What was done to each slice to make it stand as a radiologist views it: first the transposition.
    """

    instances: tuple[Instance, ...]
    transposed: bool = False
    rows_flipped: bool = False
    columns_flipped: bool = False

    def upright(self, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """A slice as the volume has it, from one, shape (height, width), as it is stored."""
        turned = stored.T if self.transposed else stored
        return turned[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]

    def stored(self, upright: NDArray[np.generic]) -> NDArray[np.generic]:
        """A slice as it is stored, from one, shape (height, width), as the volume has it."""
        turned = upright[:: -1 if self.rows_flipped else 1, :: -1 if self.columns_flipped else 1]
        return turned.T if self.transposed else turned


@dataclass(frozen=True, eq=False)
class Grid:
    """How a volume's voxels are stored in the NIfTI file that it came from.

    Attributes
    ----------
    axes
        The file's axis, from 0, along which the volume's slices, rows and columns run.
    flipped
        Which of the volume's axes run against the file's.
    place
        The header's fields that say where the grid lies in the patient, by name, as they were read.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    place: Mapping[str, NDArray[np.generic]]

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flipped)

    def upright(self, stored: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view, shape (slices, height, width), of the file's array of three axes."""
        return stored.transpose(self.axes)[self._steps]

    def stored(self, upright: NDArray[np.generic]) -> NDArray[np.generic]:
        """A view, with the file's three axes, of an array of shape (slices, height, width)."""
        return upright[self._steps].transpose(np.argsort(self.axes))


@dataclass(frozen=True, eq=False)
class Volume:
    """An ordered stack of axial slices whose pixels are read when they are asked for.

    Attributes
    ----------
    shape
        (slices, height, width), in the orientation ``"SPL"``, see :data:`ORIENTATION`.
    is_hu
        Whether the pixels are Hounsfield units, else grey in [0, 1].
    scan_id
        A name that tells nothing of the patient.
    source
        The file, folder or ZIP that is read.
    read
        Gives the pixels of one slice, by its number from 0: float32, shape (height, width), finite; raises
        ScanError where that slice is damaged. Safe to call from several threads.
    geometry
        Where the voxels lie; None where that is not known.
    warnings
        What the reader had to assume, in words.
    origin
        The DICOM images; None for a volume that was no DICOM.
    grid
        How the NIfTI file stores it; None for a volume that was no NIfTI.
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

    def slice(self, number: int) -> Scan:
        """Slice ``number``, from 0 at the feet; raises ScanError where it is damaged."""
        spacing = None if self.geometry is None else self.geometry.spacing
        return Scan(
            self.read(number),
            is_hu=self.is_hu,
            scan_id=f"{self.scan_id}-{number + 1:04d}",
            spacing=None if spacing is None else spacing[1:],
            orientation=ORIENTATION[1:],
            source=self.source,
        )

    def slices(self) -> Iterator[Scan | ScanError]:
        """The slices from the feet to the head, each read as it is asked for; a damaged one gives its error."""
        for number in range(self.shape[0]):
            try:
                yield self.slice(number)
            except ScanError as error:
                yield error
