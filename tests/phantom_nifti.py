"""A phantom's NIfTI file as other programs write it: other orientations, types and scaling."""

import gzip
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import DTypeLike, NDArray

from groundglass.phantom import Phantom
from groundglass.phantom.volumes import affine
from groundglass.scan.scan import LUNG_WINDOW, apply_window

ORIENTATIONS = tuple(
    "".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)
)
"""The 48 possible orientations of the axes, in nibabel's letters."""


def write_nifti(
    phantom: Phantom,
    path: Path,
    *,
    content: str = "hu",
    orientation: str = "RAS",
    dtype: DTypeLike = np.int16,
    slope: float | None = None,
    intercept: float = 0.0,
) -> Path:
    """Write a phantom's volume, or a mask of it, at the phantom's position.

    Parameters
    ----------
    content
        ``hu``; ``grey``, the lung window as integers from 0 to 255; or the mask ``lungs`` or ``lesions``.
    orientation
        Directions of the axes, one of ORIENTATIONS.
    dtype
        How the values are stored; integer types are rounded and clipped.
    slope, intercept
        The header's scl_slope and scl_inter; the stored values are scaled to match. A slope of None sets neither.
    """
    values: NDArray[Any] = phantom.scan.pixels if content in ("hu", "grey") else getattr(phantom, content)
    if content == "grey":
        values = np.rint(apply_window(values, *LUNG_WINDOW) * 255)
    if slope is not None:
        values = (values - intercept) / slope
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(np.dtype(dtype))
        values = np.rint(values).clip(limits.min, limits.max)
    image = nib.Nifti1Image(values.astype(dtype), affine(phantom))
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    image = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(orientation)))
    if slope is not None:
        image.header.set_slope_inter(slope, intercept)
    plain = image.to_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(plain, mtime=0) if path.suffix == ".gz" else plain)
    return path
