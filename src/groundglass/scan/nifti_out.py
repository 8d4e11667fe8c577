"""Writing masks as NIfTI, so that they lie right over the CT that they were drawn on."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from groundglass.files import replacing
from groundglass.scan.volume import Geometry, Grid

EVEN_SHARE = 0.05
"""How far a slice may lie from an even stack's, as a share of the spacing, before the mask is resampled."""
SCANNER, MM = 1, 2
RESAMPLED = "nearest slices, on an even spacing"
RAS = np.diag([-1.0, -1.0, 1.0])


def write_nifti_mask(
    path: Path, mask: NDArray[np.uint8], geometry: Geometry | None, *, source: Grid | None = None
) -> None:
    """Write a mask as a ``.nii.gz`` of 8 bits.

    Parameters
    ----------
    path
        Where to; its folder is made.
    mask
        uint8, shape (slices, height, width), in the orientation ``"SPL"``.
    geometry
        Where the volume's voxels lie; None leaves the place unstated, unless ``source`` has it. A stack with uneven
        gaps or missing slices is written on an even grid with the median spacing, each slice from the nearest of
        the mask's, since NIfTI knows no other; the header's ``descrip`` says so, and :func:`is_even` tells
        beforehand. The affine is the sform, which follows a tilted gantry; the qform, which cannot, is then left
        out.
    source
        How a NIfTI source is stored: the mask is then stored so as well, under the same affine.

    Raises
    ------
    GroundglassError
        If the file cannot be written.
    ValueError
        If the mask is not uint8 of three axes, or has not the geometry's number of slices.
    """
    if mask.dtype != np.uint8 or mask.ndim != 3:
        raise ValueError(f"a mask is uint8, (slices, height, width), got {mask.dtype} {mask.shape}")
    if geometry is not None and len(geometry.positions) != len(mask):
        raise ValueError(f"{len(mask)} slices do not fit {len(geometry.positions)} positions")
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    if source is not None:
        stored: NDArray[Any] = source.stored(mask)
        header = _placed(header, stored.shape, source)
    elif geometry is None:
        stored = mask.T
        header.set_data_shape(stored.shape)
    else:
        stored = _even(mask, geometry, header).T
        header.set_data_shape(stored.shape)
        _set_affine(header, geometry)
    header["scl_slope"], header["scl_inter"] = 1, 0
    _write(path, header, stored)


def is_even(geometry: Geometry) -> bool:
    """Whether the slices lie on one straight line at even steps, as NIfTI demands."""
    positions = geometry.positions
    if len(positions) < 2:
        return True
    straight = np.linspace(positions[0], positions[-1], len(positions))
    step = np.linalg.norm(positions[-1] - positions[0]) / (len(positions) - 1)
    return bool(np.linalg.norm(positions - straight, axis=1).max() <= EVEN_SHARE * step)


def _placed(header: Any, shape: tuple[int, ...], source: Grid) -> Any:
    header.set_data_shape(shape)
    for name, value in source.place.items():
        if name == "pixdim":
            header["pixdim"][:4] = value
        else:
            header[name] = value
    return header


def _step(geometry: Geometry) -> NDArray[np.float64]:
    """From one slice of the even grid to the next, in mm of LPS; 1 mm for a single slice."""
    positions = geometry.positions
    if len(positions) < 2:
        return geometry.normal
    rise = geometry.heights_mm[-1] - geometry.heights_mm[0]
    along = positions[-1] - positions[0]
    if is_even(geometry):
        return np.asarray(along / (len(positions) - 1))
    spacing = geometry.spacing
    assert spacing is not None
    return np.asarray(along * (spacing[0] / rise))


def _even(mask: NDArray[np.uint8], geometry: Geometry, header: Any) -> NDArray[np.uint8]:
    if is_even(geometry):
        return mask
    header["descrip"] = RESAMPLED
    heights = geometry.heights_mm
    step = float(np.median(np.diff(heights)))
    wanted = heights[0] + step * np.arange(round((heights[-1] - heights[0]) / step) + 1)
    nearest = np.abs(heights[None, :] - wanted[:, None]).argmin(axis=1)
    return mask[nearest]


def _set_affine(header: Any, geometry: Geometry) -> None:
    affine = np.eye(4)
    columns = (geometry.column_step, geometry.row_step, _step(geometry), geometry.positions[0])
    affine[:3] = RAS @ np.column_stack(columns)
    header.set_xyzt_units(MM)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header.set_sform(affine, code=SCANNER)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        header.set_qform(affine, code=SCANNER, strip_shears=True)


def _write(path: Path, header: Any, stored: NDArray[Any]) -> None:
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    with (
        replacing(path, "wb") as handle,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=handle, mtime=0) as packed,
    ):
        packed.write(header.binaryblock + bytes(4))
        packed.write(np.ascontiguousarray(stored.T).data)
