"""Lungs and lesions of a volume, slice by slice, so that memory use does not grow with the number of slices."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import cc3d
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.errors import ScanError
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume
from groundglass.segment.extent import DiseaseExtent, disease_extent
from groundglass.segment.masks import LEFT, RIGHT, Segmentation
from groundglass.segment.notebook import NOTICE, as_html
from groundglass.segment.overlay import legend, montage, thumbnail
from groundglass.segment.segmenter import Segmenter, read_ahead
from groundglass.segment.shares import (
    CONSOLIDATION,
    LESION,
    Labels,
    consolidation_counts,
    counts,
    label_plane,
    lesions_in_words,
)
from groundglass.segment.stack import StackViewer, make_stack

Seen = Callable[[], object]
MOST_DAMAGED = 0.1
"""Share of a volume's slices that may be damaged; a volume with more of them is refused."""
NOT_JOINED = "the apparent lung here is not connected to the lungs"
STRAY = 0.05
"""A connected piece smaller than this share of the largest one is not lung but a bowel loop or air in the
pharynx. A single lung is much larger."""
WITHIN = 0.75
"""Share of a piece of lung on a refused slice that must overlap with the lungs of the next slice for the
piece to be kept: lungs taper towards their tips."""
BLOCK = 4
"""Side in pixels of the blocks used to separate pieces; exact borders do not matter here."""


@dataclass(eq=False)
class VolumeMasks:
    """The lungs and lesions of a volume, filled in by :meth:`slices`.

    Attributes
    ----------
    volume
        The volume.
    preprocessing
        The preprocessing, whose window is used to show HU in pictures.
    labels
        uint8, the volume's shape: 0 outside the lungs, 1 in the right lung, 2 in the left; plus 4 in lesions,
        plus 8 in consolidation if the segmenter distinguishes lesion types; see groundglass.segment.shares.
    damaged
        By slice number from 0, why a slice could not be read.
    thumbnails
        Each slice as a small grey picture, see groundglass.segment.overlay.thumbnail; None if it could not be read.
    typed
        Whether the segmenter distinguishes ground glass from consolidation.
    """

    volume: Volume
    preprocessing: Preprocessing = field(repr=False)
    labels: Labels = field(init=False)
    damaged: dict[int, ScanError] = field(default_factory=dict)
    thumbnails: list[NDArray[np.uint8] | None] = field(init=False)
    _no_lungs: dict[int, str] = field(default_factory=dict)
    typed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.labels = np.zeros(self.volume.shape, dtype=np.uint8)
        self.thumbnails = [None] * self.volume.shape[0]

    def __repr__(self) -> str:
        return f"VolumeMasks({self.volume.scan_id!r}, {self.headline()})"

    def _repr_html_(self) -> str:
        count = len(self.thumbnails)
        captions = [f"slice {number} of {count}" for number in range(1, count + 1)]
        stack = self.stack(captions, int(self.lesions.sum(axis=(1, 2)).argmax()))
        return as_html(self.headline(), self.picture(), self.extent(), self.warnings, stack)

    def stack(self, captions: Sequence[str], wanted: int) -> StackViewer:
        """All slices with their masks, one caption each, beginning at ``wanted``, counted from 0."""
        oriented = self.volume.oriented
        return make_stack(self.thumbnails, self.labels, captions, wanted, self.legend, sides=oriented)

    @property
    def lungs(self) -> Labels:
        """uint8, the volume's shape: 0 outside the lungs, 1 in the right lung, 2 in the left, lesions included.

        If the volume's orientation is unknown, 1 and 2 are the lungs at the left and right of the pictures.
        """
        return self.labels & np.uint8(RIGHT | LEFT)

    @property
    def legend(self) -> str:
        """The meaning of the pictures' colours, in words."""
        return legend(self.typed, sides=self.volume.oriented)

    @property
    def lesions(self) -> NDArray[np.bool_]:
        """bool, the volume's shape: the lesions, always within the lungs."""
        return self.labels >= LESION

    @property
    def consolidation(self) -> NDArray[np.bool_] | None:
        """bool, the volume's shape: the lesions that are consolidation; None if the types are not distinguished."""
        return self.labels >= CONSOLIDATION if self.typed else None

    def headline(self) -> str:
        """The result in one line."""
        both = self.extent()["both"]
        if both.lesion_share is None:
            return "no lungs were found"
        ml = "" if both.lung_ml is None else f" ({both.lesion_ml:.0f} of {both.lung_ml:.0f} ml)"
        return lesions_in_words(both.lesion_share, both.type_shares) + ml

    def picture(self, words: tuple[str, str] | None = None) -> Image.Image:
        """Up to 20 slices from the head to the feet with their masks, below two lines of text, in RGB."""
        return montage(self.thumbnails, self.labels, words or (self.headline(), f"{NOTICE} {self.legend}"))

    def write(self, folder: Path | str) -> list[str]:
        """Write ``lungs.nii.gz``, 1 in the right and 2 in the left lung, and ``lesions.nii.gz`` into a folder.

        Both lungs are 1 if the volume's orientation is unknown. Lesions are 1; if the segmenter distinguishes
        their types, 1 is ground glass and 2 consolidation. The masks overlay the volume that was read, even
        if that was a NIfTI file; see groundglass.scan.nifti_out.write_nifti_mask.

        Returns
        -------
        Notes on the files, for example that a series was resampled to even spacing.

        Raises
        ------
        GroundglassError
            If a file cannot be written.
        """
        from groundglass.scan.nifti_out import note_on_grid, write_nifti_mask

        volume = self.volume
        lesions = (self.labels >= LESION).view(np.uint8) + (self.labels >= CONSOLIDATION).view(np.uint8)
        lungs = self.lungs if volume.oriented else (self.lungs > 0).view(np.uint8)
        for name, mask in (("lungs", lungs), ("lesions", lesions)):
            write_nifti_mask(Path(folder, f"{name}.nii.gz"), mask, volume.geometry, source=volume.grid)
        note = "" if volume.grid is not None else note_on_grid(volume.geometry)
        return [note] if note else []

    def filled_by(self, segmenter: Segmenter, seen: Seen | None = None) -> Self:
        """The same object with the masks of all slices; parameters and errors as for :meth:`slices`."""
        for _ in self.slices(segmenter, seen):
            pass
        return self

    def slices(
        self, segmenter: Segmenter, seen: Seen | None = None
    ) -> Iterator[tuple[int, Scan, Segmentation]]:
        """Yield the slices that show lungs, with their numbers from 0 and their masks.

        A slice that the segmenter refuses on its own, such as one at the tip of a lung, is judged by its
        neighbours once all slices have been read, so it is yielded last.

        Parameters
        ----------
        segmenter
            Finds the lungs and lesions.
        seen
            Called after each readable slice, in the caller's thread.

        Raises
        ------
        ScanError
            After the last slice, if too many slices are damaged.
        """
        self.typed = segmenter.bundle.facts.typed
        passed, doubtful = 0, set[int]()
        read = read_ahead(range(self.volume.shape[0]), self.volume.slice)
        for number, scan, found in segmenter.segment_read(read):
            if isinstance(scan, ScanError):
                self.damaged[number] = scan
                continue
            self.thumbnails[number] = thumbnail(scan, self.preprocessing)
            if seen is not None:
                seen()
            if found is None or not found.found:
                self._no_lungs[number] = found.problem if found is not None else ""
                if found is not None and found.lungs.any():
                    doubtful.add(number)
                continue
            self.labels[number] = label_plane(found)
            passed += 1
            yield number, scan, found
        self._refuse_if_damaged()
        drop_strays(self.labels)
        if passed > len(doubtful):
            yield from self._vouched_for(doubtful, segmenter)

    def _vouched_for(
        self, doubtful: set[int], segmenter: Segmenter
    ) -> Iterator[tuple[int, Scan, Segmentation]]:
        """The refused slices whose lungs overlap with those of the next slice, each with the overlapping pieces.

        They are read again, so that refused slices need not be kept in memory.
        """
        for step in (1, -1):
            for number in sorted(doubtful, reverse=step < 0):
                neighbour = number - step
                if not 0 <= neighbour < len(self.labels) or not self.labels[neighbour].any():
                    continue
                scan, found = next(segmenter.segment_scans([self.volume.slice(number)]))
                kept = pieces_within(found.lungs, self.labels[neighbour])
                if kept.any():
                    doubtful.remove(number)
                    del self._no_lungs[number]
                    solid = found.consolidation
                    vouched_for = replace(
                        found,
                        problem="",
                        lungs=found.lungs * kept,
                        lesions=found.lesions & kept,
                        consolidation=None if solid is None else solid & kept,
                    )
                    self.labels[number] = label_plane(vouched_for)
                    yield number, scan, vouched_for

    def _refuse_if_damaged(self) -> None:
        slices, lost = self.volume.shape[0], len(self.damaged)
        if lost > MOST_DAMAGED * slices:
            first = next(iter(self.damaged.values()))
            raise ScanError(
                self.volume.source,
                f"{lost} of {slices} slices cannot be read; the first: {first.problem}",
                first.remedy or "get a new copy of the series",
            )

    @property
    def warnings(self) -> list[str]:
        """The assumptions made while reading, and the number of missing slices."""
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
        """The thickness that each slice represents, in mm, shape (slices,); None if the spacing is unknown.

        A damaged slice has thickness 0: its neighbours share its space.
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
        """The extent of disease by region: both lungs, each lung, and zones; see
        groundglass.segment.extent.disease_extent."""
        areas = np.array([counts(plane) for plane in self.labels], dtype=float)
        solid = np.array([consolidation_counts(plane) for plane in self.labels], dtype=float)
        geometry = self.volume.geometry
        return disease_extent(
            areas[:, 0],
            areas[:, 1],
            self.thickness_mm(),
            None if geometry is None else geometry.pixel_mm2,
            solid if self.typed else None,
            oriented=self.volume.oriented,
        )


def drop_strays(labels: Labels) -> None:
    """Set to 0, in place, all pieces that are not connected to the lungs across slices.

    Parameters
    ----------
    labels
        uint8, shape (slices, height, width), with each slice as returned by :func:`label_plane`.
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


def pieces_within(lungs: Labels, neighbour: Labels) -> NDArray[np.bool_]:
    """The connected pieces of a slice's lungs that overlap with the lungs of the next slice by :data:`WITHIN`.

    Parameters
    ----------
    lungs, neighbour
        uint8, shape (height, width): not 0 in the lungs.
    """
    _, pieces = cv2.connectedComponents((lungs > 0).astype(np.uint8))
    inside = np.bincount(pieces[neighbour > 0], minlength=pieces.max() + 1)
    keep = inside >= WITHIN * np.bincount(pieces.ravel())
    keep[0] = False
    return np.asarray(keep[pieces], dtype=np.bool_)


def _blocks(labels: Labels) -> NDArray[np.bool_]:
    """Whether each block of a slice contains lung; shape (slices, rows, columns) of blocks."""
    slices, height, width = labels.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    blocks = np.empty((slices, rows, columns), dtype=bool)
    padded = np.zeros((rows * BLOCK, columns * BLOCK), dtype=np.uint8)
    for number, plane in enumerate(labels):
        padded[:height, :width] = plane
        # A row of a block is read as one four-byte number, which is ten times as fast.
        fours = padded.view(np.uint32).reshape(rows, BLOCK, columns)
        blocks[number] = np.bitwise_or.reduce(fours, axis=1) != 0
    return blocks
