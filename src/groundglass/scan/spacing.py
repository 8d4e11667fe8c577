"""What must be said of how many slices a volume has, and how they lie apart."""

import numpy as np

from groundglass.scan.volume import Geometry, Vector

FEW = 10
"""Slices under which a volume is told to be none of a whole chest."""
THICK_MM = 5.0
"""Slices further apart than this may miss what is small."""


def spacing_warnings(slices: int, geometry: Geometry | None) -> list[str]:
    """What has to be known of a volume's slices, in words: few, far apart, missing, or unevenly spaced."""
    said = [f"only {count_of_slices(slices)}: a chest has more"] if slices < FEW else []
    if geometry is None or slices < 2:
        return said
    gaps = np.diff(geometry.heights_mm)
    usual = float(np.median(gaps))
    if usual > THICK_MM + 0.05:
        said.append(f"the slices are {usual:.1f} mm apart: small findings may lie between them")
    return said + _gaps(geometry.heights_mm, gaps, usual)


def count_of_slices(count: int) -> str:
    """A number of slices in words."""
    return f"{count} slice{'s' if count > 1 else ''}"


def _gaps(heights: Vector, gaps: Vector, usual: float) -> list[str]:
    ratios = gaps / usual
    wide = (np.rint(ratios) >= 2) & (np.abs(ratios - np.rint(ratios)) < 0.2)
    off = np.abs(ratios - 1) > max(0.05, 0.05 / usual)
    if wide.any() and wide.mean() < 0.25 and not (off & ~wide).any():
        places = [f"{heights[at]:.1f} and {heights[at + 1]:.1f} mm" for at in np.flatnonzero(wide)]
        where = ", ".join(places[:3]) + (f" and {len(places) - 3} more gaps" if len(places) > 3 else "")
        missing = count_of_slices(int(np.rint(ratios[wide] - 1).sum()))
        return [f"{missing} missing, between {where}: the gap is shared among the neighbours"]
    if off.any():
        return [
            f"uneven spacing, {gaps.min():.2f} to {gaps.max():.2f} mm: each slice counts for its own share"
        ]
    return []
