"""What the numbers of a NIfTI file mean: its header does not say whether they are Hounsfield units.

Judged on a sample, after the header's slope and intercept, in this order:

1. One value throughout, or whole numbers that come in few levels or in flat patches: no slice, or a mask; refused.
2. A hundredth or more from -1100 to -500, and some over 0: HU. What lies under -1100 is padding.
3. Nothing under -100 but padding, a twentieth up to 324, and over 600 half within 150 of 1024: HU + 1024, as it is
   stored where the intercept was lost.
4. All in [0, 1], or in [0, 255]: grey.

All else is refused.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError

AIR_HU = -1024.0
PADDING = -1100.0
"""Air with noise seldom lies under this; the values with which scanners fill what they did not measure do."""
OFFSET = 1024.0
MAX_HU = 100_000.0
"""More than any metal gives, even where the reconstruction overshoots."""
MASK_LEVELS = 16
FLAT_SHARE = 0.7
"""Share of neighbours of one value, the darkest and the brightest set aside: a CT has noise, a label map none."""
SAVE_HU = "save it in Hounsfield units, as dcm2niix does from DICOM"


@dataclass(frozen=True)
class Meaning:
    """How to come from scaled values to pixels: divide by ``divisor``, then take ``offset`` off.

    Attributes
    ----------
    is_hu
        Whether the pixels are HU, else grey in [0, 1].
    warning
        What had to be assumed; "" if nothing.
    """

    is_hu: bool
    divisor: float = 1.0
    offset: float = 0.0
    warning: str = ""


def judge_values(path: Path, runs: NDArray[np.float32], low: float, high: float) -> Meaning:
    """Decide what the values of a volume mean, by the module's rule.

    Parameters
    ----------
    path
        Named in the errors.
    runs
        A sample: stretches of neighbouring voxels, shape (stretches, voxels), finite.
    low, high
        The smallest and largest value of the whole volume.

    Raises
    ------
    ScanError
        If the values are one value, a mask, or neither HU nor grey.
    """
    if low == high:
        raise ScanError(path, "every voxel has the same value", "this holds no slice")
    if _is_mask(runs, low):
        raise ScanError(path, "looks like a mask, not a CT", "name the CT that the mask was drawn on")
    measured = runs[runs >= PADDING]
    if measured.size and high <= MAX_HU:
        if _share((measured >= PADDING) & (measured <= -500)) >= 0.01 and high > 0:
            return Meaning(is_hu=True)
        if _is_offset(measured):
            warning = f"its values look like HU + {OFFSET:g}, so {OFFSET:g} was taken off"
            return Meaning(is_hu=True, offset=OFFSET, warning=warning)
    if low >= 0 and high <= 255:
        top = 1 if high <= 1 else 255
        return Meaning(is_hu=False, divisor=top, warning=f"holds grey from 0 to {top}, not Hounsfield units")
    problem = f"its values, from {low:g} to {high:g}, are neither Hounsfield units of a chest nor grey"
    raise ScanError(path, problem, SAVE_HU)


def _share(true: NDArray[np.bool_]) -> float:
    return float(true.mean()) if true.size else 0.0


def _is_offset(measured: NDArray[np.float32]) -> bool:
    tissue = measured[measured > 600]
    return (
        _share(measured < -100) < 0.001
        and _share(measured <= 324) >= 0.05
        and _share(np.abs(tissue - OFFSET) <= 150) >= 0.5
    )


def _is_mask(runs: NDArray[np.float32], low: float) -> bool:
    if low < -1 or (runs != np.rint(runs)).any():
        return False
    if len(np.unique(runs)) <= MASK_LEVELS:
        return True
    between = (runs[:, :-1] > runs.min()) & (runs[:, :-1] < runs.max())
    return _share(np.diff(runs, axis=1)[between] == 0) > FLAT_SHARE
