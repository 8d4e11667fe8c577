"""Lungs and lesions of a volume, slice by slice, so that memory use does not grow with the number of slices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import cc3d
import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter, read_ahead
from groundglass.segment.shares import Labels, counts, label_plane

Seen = Callable[[int, Scan], None]
SIDES = ("right", "left", "both")
MOST_DAMAGED = 0.1
"""Share of a volume's slices that may be damaged; a volume with more of them is refused."""
NOT_JOINED = "what looks like lung here is not connected to the lungs"
STRAY = 0.05
"""A connected piece that is smaller than this share of the largest one is not lung but a bowel loop, or air in the
throat. Each lung on its own is far larger."""
BLOCK = 4
"""Side in pixels of the blocks in which pieces are told apart: exact borders do not matter for that."""


@dataclass(frozen=True)
class DiseaseExtent:
    """Lung and lesion of one lung or both.

    Attributes
    ----------
    lung_ml, lesion_ml
        Volumes in ml, lesions being part of the lung; None if the spacing is not known.
    lesion_share
        The share of the lung that is lesion, in [0, 1]; None if there is no lung.
    """

    lung_ml: float | None
    lesion_ml: float | None
    lesion_share: float | None


@dataclass(eq=False)
class VolumeMasks:
    """The lungs and lesions of a volume; filled by :meth:`slices`.

    Attributes
    ----------
    volume
        The volume.
    labels
        uint8, the volume's shape: 0 outside the lungs, 1 in the right lung, 2 in the left, and 4 more where there
        is a lesion; see groundglass.segment.shares.
    damaged
        Why slices could not be read, by the slice's number from 0.
    """

    volume: Volume
    labels: Labels = field(init=False)
    damaged: dict[int, ScanError] = field(default_factory=dict)
    _no_lungs: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = np.zeros(self.volume.shape, dtype=np.uint8)

    def slices(
        self, segmenter: Segmenter, seen: Seen | None = None
    ) -> Iterator[tuple[int, Scan, Segmentation]]:
        """The slices that show lungs, with their numbers from 0 and their masks.

        Parameters
        ----------
        segmenter
            Finds the lungs and lesions.
        seen
            Called with each readable slice's number from 0 and the slice, in order, in the caller's thread.

        Raises
        ------
        ScanError
            After the last slice, if more slices are damaged than can be passed over.
        """
        read = read_ahead(range(self.volume.shape[0]), self.volume.slice)
        for number, scan, found in segmenter.segment_read(read):
            if isinstance(scan, ScanError):
                self.damaged[number] = scan
                continue
            if seen is not None:
                seen(number, scan)
            if found is None or not found.found:
                self._no_lungs[number] = found.problem if found is not None else ""
                continue
            self.labels[number] = label_plane(found)
            yield number, scan, found
        self._refuse_if_damaged()
        drop_strays(self.labels)

    def _refuse_if_damaged(self) -> None:
        slices, lost = self.volume.shape[0], len(self.damaged)
        if lost > MOST_DAMAGED * slices:
            first = next(iter(self.damaged.values()))
            raise ScanError(
                self.volume.source,
                f"{lost} of {slices} slices cannot be read; the first: {first.problem}",
                first.remedy or "obtain the series again",
            )

    @property
    def warnings(self) -> list[str]:
        """What the reader had to assume, and how many slices are missing."""
        warnings = list(self.volume.warnings)
        if self.damaged:
            warnings.append(
                f"{len(self.damaged)} of {self.volume.shape[0]} slices cannot be read and were left out"
            )
        return warnings

    def why_without_lungs(self, number: int) -> str:
        """Why a slice has no lungs, or could not be read."""
        damaged = self.damaged.get(number)
        return damaged.problem if damaged is not None else self._no_lungs.get(number, NOT_JOINED)

    def thickness_mm(self) -> NDArray[np.float64] | None:
        """How much each slice stands for, in mm, shape (slices,); None if the spacing is not known.

        A damaged slice stands for nothing: its neighbours share its place.
        """
        geometry = self.volume.geometry
        if geometry is None:
            return None
        read = np.array([number not in self.damaged for number in range(self.volume.shape[0])])
        among = replace(geometry, positions=geometry.positions[read]).thickness_mm
        if among is None:
            return None
        thickness = np.zeros(len(read))
        thickness[read] = among
        return thickness

    def extent(self) -> dict[str, DiseaseExtent]:
        """By side, see :data:`SIDES`."""
        areas = np.array([counts(plane) for plane in self.labels], dtype=float)
        geometry = self.volume.geometry
        return disease_extent(
            areas[:, 0], areas[:, 1], self.thickness_mm(), None if geometry is None else geometry.pixel_mm2
        )


def disease_extent(
    lungs: NDArray[np.float64],
    lesions: NDArray[np.float64],
    thickness_mm: NDArray[np.float64] | None,
    pixel_mm2: float | None,
) -> dict[str, DiseaseExtent]:
    """Volumes of lung and lesion by side, see :data:`SIDES`.

    Parameters
    ----------
    lungs, lesions
        Shape (slices, 2): pixels in the right and in the left lung.
    thickness_mm
        How much each slice stands for, shape (slices,); None if it is not known.
    pixel_mm2
        The area of a pixel; None if it is not known.
    """
    weights = np.ones(len(lungs)) if thickness_mm is None else thickness_mm
    ml = None if thickness_mm is None or pixel_mm2 is None else pixel_mm2 / 1000
    lung, lesion = weights @ lungs, weights @ lesions
    sums = ((lung[0], lesion[0]), (lung[1], lesion[1]), (lung.sum(), lesion.sum()))
    return {
        side: DiseaseExtent(
            lung_ml=None if ml is None else float(lung * ml),
            lesion_ml=None if ml is None else float(lesion * ml),
            lesion_share=float(lesion / lung) if lung else None,
        )
        for side, (lung, lesion) in zip(SIDES, sums, strict=True)
    }


def drop_strays(labels: Labels) -> None:
    """Set to 0, in place, what is not connected to the lungs across the slices.

    Parameters
    ----------
    labels
        uint8, shape (slices, height, width), as :func:`label_plane` gives each slice.
    """
    pieces, count = cc3d.connected_components(_blocks(labels), connectivity=26, return_N=True)
    if count < 2:
        return
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    small = (sizes < STRAY * sizes.max()) & (sizes > 0)
    for number in np.flatnonzero(small[pieces].any(axis=(1, 2))):
        plane = labels[number]
        stray = np.kron(small[pieces[number]], np.ones((BLOCK, BLOCK), dtype=bool))
        plane[stray[: plane.shape[0], : plane.shape[1]]] = 0


def _blocks(labels: Labels) -> NDArray[np.bool_]:
    """Whether each block of a slice holds any lung; shape (slices, rows, columns) of blocks."""
    slices, height, width = labels.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    blocks = np.empty((slices, rows, columns), dtype=bool)
    padded = np.zeros((rows * BLOCK, columns * BLOCK), dtype=np.uint8)
    for number, plane in enumerate(labels):
        padded[:height, :width] = plane
        # A row of a block is read as one number of four bytes, which is ten times as quick.
        fours = padded.view(np.uint32).reshape(rows, BLOCK, columns)
        blocks[number] = np.bitwise_or.reduce(fours, axis=1) != 0
    return blocks
