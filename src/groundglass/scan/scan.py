"""Scan: one slice or one ordered volume, with its pixels, units and origin."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scan:
    """One axial slice or one ordered volume of slices.

    Attributes
    ----------
    pixels
        float32, shape (height, width) for a slice, (slices, height, width) for a volume. Hounsfield units
        where ``is_hu``, else grey in [0, 1].
    is_hu
        Whether ``pixels`` are Hounsfield units.
    scan_id
        A name for the scan: the file's stem, never a patient's name.
    spacing
        Distance between neighbouring samples along each axis of ``pixels``, in mm; None if unknown.
    orientation
        Directions of the axes in nibabel's three-letter code (``"LPS"``); None if unknown.
    patient
        A pseudonymous patient id, or None.
    source
        The file or folder that was read, or None for a scan made in memory.
    warnings
        The assumptions made while reading, in words.

    Raises
    ------
    ValueError
        If the pixels are not a finite float32 slice or volume, or grey pixels are outside [0, 1].
    """

    pixels: NDArray[np.float32]
    is_hu: bool
    scan_id: str
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    patient: str | None = None
    source: Path | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.float32 or self.pixels.ndim not in (2, 3) or self.pixels.size == 0:
            raise ValueError(
                f"a Scan needs float32 pixels, (height, width) or (slices, height, width); got "
                f"{self.pixels.dtype} {self.pixels.shape}"
            )
        low, high = float(self.pixels.min()), float(self.pixels.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise ValueError("a Scan's pixels must be finite")
        if not self.is_hu and (low < 0 or high > 1):
            raise ValueError(f"grey pixels must lie in [0, 1]; these span {low:g} to {high:g}")
        if self.spacing is not None and len(self.spacing) != self.pixels.ndim:
            raise ValueError("spacing needs one value in mm for each axis of the pixels")

    def __repr__(self) -> str:
        return f"Scan({self.scan_id!r}, {describe(self.pixels.shape, self.spacing, is_hu=self.is_hu)})"

    @property
    def is_volume(self) -> bool:
        """Whether the scan is an ordered stack of slices."""
        return self.pixels.ndim == 3


def describe(shape: tuple[int, ...], spacing: tuple[float, ...] | None, *, is_hu: bool) -> str:
    """The size, spacing and units of a scan, in a few words."""
    slices = f"{shape[0]} slices of " if len(shape) == 3 else ""
    size = f"{slices}{shape[-2]} x {shape[-1]} pixels"
    mm = "" if spacing is None else f", {' x '.join(f'{length:.3g}' for length in spacing)} mm"
    return f"{size}{mm}, {'HU' if is_hu else 'grey'}"


LUNG_WINDOW = (-600.0, 1500.0)
"""Level and width of the usual lung window in HU."""


def apply_window(pixels: NDArray[np.float32], level: float, width: float) -> NDArray[np.float32]:
    """Map HU to grey: values up to ``level - width / 2`` to 0, values from ``level + width / 2`` on to 1.

    Parameters
    ----------
    pixels
        float32 in HU, any shape.
    level, width
        Centre and width of the window in HU; the linear-exact function of DICOM PS3.3 C.11.2.1.3.2.

    Returns
    -------
    float32 in [0, 1], the shape of ``pixels``.

    Raises
    ------
    ValueError
        If ``width`` is not positive.
    """
    if width <= 0:
        raise ValueError(f"a window's width must be positive, got {width:g}")
    low = level - width / 2
    return np.clip((pixels - np.float32(low)) / np.float32(width), 0.0, 1.0, dtype=np.float32)
