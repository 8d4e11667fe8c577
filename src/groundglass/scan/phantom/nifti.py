"""Writing a phantom, or the truth about it, as NIfTI.

This module loads nibabel, so the package does not load it by itself.
"""

import gzip
from itertools import permutations, product
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import DTypeLike, NDArray

from groundglass.errors import GroundglassError
from groundglass.files import write_bytes
from groundglass.scan.phantom.phantom import Phantom
from groundglass.scan.phantom.stack import phantom_geometry
from groundglass.scan.windowing import LUNG_WINDOW, apply_window

ORIENTATIONS = tuple(
    "".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)
)
"""The 48 ways in which axes can run, in nibabel's letters."""

Content = Literal["hu", "grey", "lungs", "lesions"]


def write_phantom_nifti(
    phantom: Phantom,
    path: Path,
    *,
    content: Content = "hu",
    orientation: str = "RAS",
    dtype: DTypeLike = np.int16,
    slope: float | None = None,
    intercept: float = 0.0,
) -> Path:
    """Write a phantom's volume or one of its masks, where :func:`phantom_geometry` has it.

    Parameters
    ----------
    phantom
        What to write.
    path
        Ends in ``.nii`` or, to be compressed, in ``.nii.gz``.
    content
        ``hu``; ``grey``, the lung window as whole numbers from 0 to 255; or the mask ``lungs`` or ``lesions``.
    orientation
        Where the axes point to, one of :data:`ORIENTATIONS`.
    dtype
        How the values are stored.
    slope, intercept
        What NIfTI's header states (scl_slope, scl_inter); the stored values are made to fit. A slope of None
        states neither.

    Returns
    -------
    ``path``.

    Raises
    ------
    GroundglassError
        If an argument is out of range or the file cannot be written.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise GroundglassError(f"{path}: a NIfTI file ends in .nii or .nii.gz")
    if orientation not in ORIENTATIONS:
        raise GroundglassError(f"no orientation is called {orientation}: RAS is one, in nibabel's letters")
    if slope == 0:
        raise GroundglassError("a slope of 0 would leave nothing of the values")
    values = _values(phantom, content)
    if slope is not None:
        values = (values - intercept) / slope
    image = nib.Nifti1Image(_stored(values, np.dtype(dtype)), affine(phantom))
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, code="scanner")
    image.set_sform(image.affine, code="scanner")
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(orientation))
    image = image.as_reoriented(turn)
    if slope is not None:
        image.header.set_slope_inter(slope, intercept)
    plain = image.to_bytes()
    write_bytes(path, gzip.compress(plain, mtime=0) if path.suffix == ".gz" else plain)
    return path


def affine(phantom: Phantom) -> NDArray[np.float64]:
    """From a voxel's (slice, row, column) to NIfTI's x, y, z in mm (right, front, head)."""
    geometry = phantom_geometry(phantom)
    spacing = np.array(phantom.scan.spacing, dtype=np.float64)
    steps = spacing[0] * geometry.normal, geometry.row_step, geometry.column_step
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([*steps, geometry.positions[0]])
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix)


def _values(phantom: Phantom, content: Content) -> NDArray[Any]:
    if content == "hu":
        return phantom.scan.pixels
    if content == "grey":
        return np.rint(apply_window(phantom.scan.pixels, *LUNG_WINDOW) * 255)
    if content == "lungs":
        return phantom.lungs
    if content == "lesions":
        return phantom.lesions
    raise GroundglassError(f"no content is called {content}: there are hu, grey, lungs, lesions")


def _stored(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in another type, rounded and cut off where it is one of whole numbers."""
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(values).clip(limits.min, limits.max).astype(dtype)
