"""Units: what stored values mean where no header tells, decided from the values of a few slices."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError
from groundglass.scan.dicom.frame import Frame
from groundglass.scan.dicom.pixels import stored_values

_SLICES = 5
_AIR_HU = (-1100, -850)
_SOFT_HU = (-150, 150)
_LEAST_SHARE = 0.02
OFFSET_HU = -1024


def guess_intercept(frames: tuple[Frame, ...]) -> int:
    """0 where stored values are HU, -1024 where they are HU + 1024, as CT is usually stored without signs.

    A chest shows both air or lung near -1000 HU and soft tissue near 0; the values of a few slices have to show
    both under one of the two readings.

    Raises
    ------
    ScanError
        If they do under neither.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, _SLICES).round().astype(int))
    values = np.concatenate([stored_values(frames[number])[::4, ::4].ravel() for number in chosen])
    fits = {intercept: _fit(values, intercept) for intercept in (0, OFFSET_HU)}
    best = max(fits, key=lambda intercept: fits[intercept])
    if fits[best] < _LEAST_SHARE:
        raise ScanError(
            str(frames[0].header.found.member.path),
            f"its values, {values.min()} to {values.max()}, are not known to be Hounsfield units",
            "export the series with RescaleSlope and RescaleIntercept",
        )
    return best


def _fit(values: NDArray[np.integer[Any]], intercept: int) -> float:
    """The smaller of the shares of pixels that are air and soft tissue."""
    hu = values.astype(np.int64) + intercept
    return min(float(((hu >= low) & (hu <= high)).mean()) for low, high in (_AIR_HU, _SOFT_HU))
