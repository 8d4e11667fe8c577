"""The meaning of a picture's or volume's values: Hounsfield units, with or without an offset, grey or a mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError

AIR_HU = -1024.0
PADDING = -1100.0
"""Noisy air is rarely below this, but the values that scanners use for unmeasured pixels are."""
OFFSETS = (1024, 8192, 32768)
"""Common offsets added to HU to store them without a sign; DeepLesion uses 32768."""
MAX_HU = 100_000.0
"""Higher than any metal, even if the reconstruction overshoots."""
METAL_HU = 4000.0
MAX_METAL = 0.01
"""If a larger share of values exceeds METAL_HU, they have overflowed: bone is below 3000 HU."""
WRAP = 65536
MASK_LEVELS = 16
FLAT_SHARE = 0.7
"""Share of equal neighbours, excluding the darkest and brightest values: a CT is noisy, a label map is not."""
_WRAPPED = "wrapped around: negative values were stored without their sign"
_CONVERT = "convert it again from the DICOM series, to signed 16-bit values in HU"
SAVE_HU = "save it in Hounsfield units, as dcm2niix does from DICOM"

Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Meaning:
    """How to turn values into pixels: divide them by ``divisor``, then subtract ``offset``.

    Attributes
    ----------
    is_hu
        Whether the pixels are HU; otherwise they are grey in [0, 1].
    warning
        The assumption that was made; "" if none.
    """

    is_hu: bool
    divisor: float = 1.0
    offset: float = 0.0
    warning: str = ""


def judge_values(path: Path, runs: Numbers, low: float, high: float) -> Meaning:
    """Determine what the values of a volume mean.

    Parameters
    ----------
    path
        Named in the errors.
    runs
        A sample: runs of neighbouring voxels, shape (runs, voxels), finite.
    low, high
        The smallest and largest value of the whole volume.

    Raises
    ------
    ScanError
        If all values are the same, or they are a mask, have overflowed, or are neither HU nor grey.
    """
    if low == high:
        raise ScanError(path, "every voxel has the same value", "it does not show a chest")
    if _is_mask(runs, low):
        raise ScanError(path, "looks like a mask, not a CT", "name the CT that the mask was drawn on")
    meaning = hounsfield(path, runs, high)
    if meaning is not None:
        return meaning
    if low >= 0 and high <= 255:
        top = 1 if high <= 1 else 255
        return Meaning(is_hu=False, divisor=top, warning=f"holds grey from 0 to {top}, not Hounsfield units")
    problem = f"its values, from {low:g} to {high:g}, are neither Hounsfield units of a chest nor grey"
    raise ScanError(path, problem, SAVE_HU)


def hounsfield(path: Path, values: Numbers, high: float) -> Meaning | None:
    """Read values as Hounsfield units, directly or with one of :data:`OFFSETS`; None if they fit neither.

    Parameters
    ----------
    path
        Named in the error.
    values
        A sample of any shape, finite.
    high
        The largest value of the whole scan.

    Raises
    ------
    ScanError
        If they fit, but more than 1% lie above 4000 HU; or if they would fit if negative values had kept
        their sign.
    """
    measured = values[values >= PADDING]
    if high > MAX_HU:
        return None
    if _share(measured <= -500) >= 0.01 and high > 0:
        refuse_overflow(path, values)
        return Meaning(is_hu=True)
    offset = next((offset for offset in OFFSETS if _has_offset(values, offset)), None)
    if offset is None:
        refuse_wrapped(path, values)
        return None
    refuse_overflow(path, values - offset)
    warning = f"its values look like HU + {offset}, so {offset} was subtracted"
    return Meaning(is_hu=True, offset=offset, warning=warning)


def refuse_wrapped(path: Path, values: Numbers) -> None:
    """Raise ScanError if 16-bit values would be HU if negative values had kept their sign."""
    if _has_offset(np.where(values > WRAP / 2, values - WRAP, values), 0):
        raise ScanError(path, f"its values have {_WRAPPED}", _CONVERT)


def refuse_overflow(path: Path, hu: Numbers) -> None:
    """Raise ScanError if more than 1% of these HU lie above 4000 HU, which neither tissue nor metal explains."""
    over = hu[hu > METAL_HU]
    if over.size <= MAX_METAL * hu.size:
        return
    wrapped = _share((over - WRAP >= AIR_HU + PADDING) & (over - WRAP < 0)) > 0.5
    problem = f"{over.size / hu.size:.0%} of its values lie above {METAL_HU:g} HU, so they have"
    raise ScanError(path, f"{problem} {_WRAPPED if wrapped else 'overflowed'}", _CONVERT)


def _share(true: NDArray[np.bool_]) -> float:
    return float(true.mean()) if true.size else 0.0


def _has_offset(values: Numbers, offset: int) -> bool:
    """Whether air and soft tissue have the values of HU + ``offset``, and everything darker is padding."""
    inside = values >= offset + PADDING
    hu = values[inside] - offset
    tissue = hu[hu > -424]
    return (
        _share(hu <= -700) >= 0.05
        and _share(np.abs(tissue) <= 150) >= 0.5
        and len(np.unique(values[~inside])) <= 2
    )


def _is_mask(runs: Numbers, low: float) -> bool:
    if low < -1 or (runs != np.rint(runs)).any():
        return False
    if len(np.unique(runs)) <= MASK_LEVELS:
        return True
    between = (runs[:, :-1] > runs.min()) & (runs[:, :-1] < runs.max())
    return _share(np.diff(runs, axis=1)[between] == 0) > FLAT_SHARE
