"""Windowing: Hounsfield units to the grey that a radiologist looks at."""

import numpy as np
from numpy.typing import NDArray

LUNG_WINDOW = (-600.0, 1500.0)
"""Level and width in HU of the usual lung window."""


def apply_window(pixels: NDArray[np.float32], level: float, width: float) -> NDArray[np.float32]:
    """Map HU to grey: ``level - width / 2`` and below to 0, ``level + width / 2`` and above to 1.

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
