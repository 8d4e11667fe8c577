"""The extent of disease on a slice: areas and shares of a segmentation, and their table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.files import write_csv
from groundglass.segment.masks import LEFT, RIGHT, Segmentation

COLUMNS = (
    "path",
    "name",
    "lungs_px",
    "right_lung_px",
    "left_lung_px",
    "lesions_px",
    "right_lesions_px",
    "left_lesions_px",
    "lesion_share",
    "right_lesion_share",
    "left_lesion_share",
    "lungs_mm2",
    "lesions_mm2",
    "quality",
    "problem",
    "warnings",
)
TYPE_COLUMNS = ("ground_glass_share", "consolidation_share")
"""Further columns, if the segmenter distinguishes lesion types."""
TYPE_NAMES = ("ground glass", "consolidation")
DIGITS = 6


@dataclass(frozen=True)
class Area:
    """Lung and lesion of one lung or of both.

    Attributes
    ----------
    lung_px, lesions_px
        Areas in pixels.
    lung_mm2, lesions_mm2
        Areas in mm²; None if the pixel spacing is unknown.
    consolidation_px
        The part of the lesions that is consolidation, in pixels; the rest is ground glass. None if the
        segmenter does not distinguish them.
    """

    lung_px: int
    lesions_px: int
    lung_mm2: float | None = None
    lesions_mm2: float | None = None
    consolidation_px: int | None = None

    @property
    def lesion_share(self) -> float | None:
        """The share of the lung that is lesion, in [0, 1]; None if there is no lung."""
        return self.lesions_px / self.lung_px if self.lung_px else None

    @property
    def type_shares(self) -> dict[str, float]:
        """See :func:`type_shares`."""
        return type_shares(self.lung_px, self.lesions_px, self.consolidation_px)


def type_shares(lung_px: float, lesions_px: float, consolidation_px: float | None) -> dict[str, float]:
    """The shares of the lung that are ground glass and consolidation, in [0, 1], by :data:`TYPE_COLUMNS`.

    Empty if there is no lung, or if the segmenter does not distinguish the types.
    """
    if consolidation_px is None or not lung_px:
        return {}
    shares = (lesions_px - consolidation_px) / lung_px, consolidation_px / lung_px
    return dict(zip(TYPE_COLUMNS, shares, strict=True))


@dataclass(frozen=True)
class Shares:
    """Areas of lung and lesion on a slice, for the right lung, the left lung and both."""

    right: Area
    left: Area
    both: Area


@dataclass(frozen=True)
class ShareRow:
    """One row of the table.

    ``name`` is used for its masks, ``NAME_lungs.png`` and ``NAME_lesions.png``; ``quality`` and ``problem``
    come from its segmentation.
    """

    path: str
    name: str
    shares: Shares
    quality: float
    problem: str = ""
    warnings: str = ""


def shares(segmentation: Segmentation, spacing: tuple[float, ...] | None = None) -> Shares:
    """Measure a segmentation.

    Parameters
    ----------
    segmentation
        The segmentation, at the slice's own size if ``spacing`` is given.
    spacing
        Distances between neighbouring rows and columns in mm, as in ``Scan.spacing`` of a slice; None if unknown.

    Raises
    ------
    ValueError
        If ``spacing`` is not two positive lengths.
    """
    if spacing is not None and (len(spacing) != 2 or not all(mm > 0 for mm in spacing)):
        raise ValueError(f"a slice's spacing must be two positive lengths in mm, got {spacing}")
    pixel_mm2 = None if spacing is None else spacing[0] * spacing[1]
    lungs = segmentation.lungs
    return Shares(
        right=_area(lungs == RIGHT, segmentation, pixel_mm2),
        left=_area(lungs == LEFT, segmentation, pixel_mm2),
        both=_area(lungs > 0, segmentation, pixel_mm2),
    )


def _area(lung: NDArray[np.bool_], segmentation: Segmentation, pixel_mm2: float | None) -> Area:
    pixels = np.count_nonzero(lung)
    lesions = np.count_nonzero(lung & segmentation.lesions)
    solid = segmentation.consolidation
    return Area(
        lung_px=int(pixels),
        lesions_px=int(lesions),
        lung_mm2=None if pixel_mm2 is None else pixels * pixel_mm2,
        lesions_mm2=None if pixel_mm2 is None else lesions * pixel_mm2,
        consolidation_px=None if solid is None else int(np.count_nonzero(lung & solid)),
    )


def write_shares_csv(path: Path, rows: Iterable[ShareRow]) -> None:
    """Write ``shares.csv``, one row per slice; unknown values are blank.

    The areas of a slice with a problem are also blank, because the region measured is not lung. If the
    segmenter distinguishes lesion types, :data:`TYPE_COLUMNS` follow.
    """
    rows = list(rows)
    types = TYPE_COLUMNS if any(row.shares.both.type_shares for row in rows) else ()
    cells = (
        {
            **({} if row.problem else _figures(row.shares)),
            "path": row.path,
            "name": row.name,
            "quality": f"{row.quality:.{DIGITS}f}",
            "problem": row.problem,
            "warnings": row.warnings,
        }
        for row in rows
    )
    write_csv(path, (*COLUMNS, *types), cells)


def _figures(measured: Shares) -> dict[str, str | int]:
    right, left, both = measured.right, measured.left, measured.both
    return {
        "lungs_px": both.lung_px,
        "right_lung_px": right.lung_px,
        "left_lung_px": left.lung_px,
        "lesions_px": both.lesions_px,
        "right_lesions_px": right.lesions_px,
        "left_lesions_px": left.lesions_px,
        "lesion_share": _number(both.lesion_share, DIGITS),
        "right_lesion_share": _number(right.lesion_share, DIGITS),
        "left_lesion_share": _number(left.lesion_share, DIGITS),
        "lungs_mm2": _number(both.lung_mm2, 1),
        "lesions_mm2": _number(both.lesions_mm2, 1),
        **{name: _number(share, DIGITS) for name, share in both.type_shares.items()},
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


LESION = 4
"""Added to the lung's label (1 for the right, 2 for the left) where there is a lesion."""
CONSOLIDATION = 8
"""Also added where the lesion is consolidation, if the segmenter distinguishes lesion types."""

Labels = NDArray[np.uint8]


def label_plane(segmentation: Segmentation) -> Labels:
    """The labels of one slice, uint8, shape (height, width); all 0 if no lungs were found."""
    if not segmentation.found:
        return np.zeros_like(segmentation.lungs)
    plane = segmentation.lungs | (segmentation.lesions.astype(np.uint8) * np.uint8(LESION))
    solid = segmentation.consolidation
    return plane if solid is None else plane | (solid.astype(np.uint8) * np.uint8(CONSOLIDATION))


def segmentation_of(plane: Labels) -> Segmentation:
    """A slice's segmentation from its labels, uint8, shape (height, width), without its quality."""
    lungs, lesions, consolidation = plane & np.uint8(RIGHT | LEFT), plane & LESION, plane & CONSOLIDATION
    return Segmentation(lungs, lesions > 0, quality=1.0, consolidation=consolidation > 0)


def counts(plane: Labels) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels of lung (including lesions) and of lesion, each for the right and the left lung."""
    if not plane.any():
        return (0, 0), (0, 0)
    plane = plane & np.uint8(CONSOLIDATION - 1)
    # Ten times as fast as a histogram.
    right, left, *lesions = (
        int(np.count_nonzero(plane == label)) for label in (RIGHT, LEFT, LESION + RIGHT, LESION + LEFT)
    )
    return (right + lesions[0], left + lesions[1]), (lesions[0], lesions[1])


def consolidation_counts(plane: Labels) -> tuple[int, int]:
    """Pixels of consolidation in the right and the left lung."""
    right, left = (int(np.count_nonzero(plane == CONSOLIDATION + LESION + side)) for side in (RIGHT, LEFT))
    return right, left


def lesions_in_words(lesion_share: float, type_shares: Mapping[str, float]) -> str:
    """Text such as "lesions in 7.0% of the lungs (ground glass 5.1%, consolidation 1.9%)"."""
    types = types_in_words(type_shares) if lesion_share else ""
    return f"lesions in {lesion_share:.1%} of the lungs" + (f" ({types})" if types else "")


def types_in_words(type_shares: Mapping[str, float | None]) -> str:
    """Text such as "ground glass 5.1%, consolidation 1.9%"; "" if the types are unknown."""
    names = dict(zip(TYPE_COLUMNS, TYPE_NAMES, strict=True))
    return ", ".join(f"{names[name]} {percent(share)}" for name, share in type_shares.items())


def percent(share: float | None, unknown: str = "-") -> str:
    """A share as a percentage."""
    return unknown if share is None else f"{share:.1%}"
