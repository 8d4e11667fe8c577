"""Write masks as NIfTI files that align with the CT."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from groundglass.files import replacing
from groundglass.scan.volume import Geometry, Grid

EVEN_SHARE = 0.05
"""Largest deviation of a slice from even spacing, as a share of the spacing, before the mask is resampled."""
SCANNER, MM = 1, 2
EVENED, STRAIGHTENED = "nearest slices, on an even spacing", "nearest voxels, without the tilt"
RAS = np.diag([-1.0, -1.0, 1.0])


def write_nifti_mask(
    path: Path, mask: NDArray[np.uint8], geometry: Geometry | None, *, source: Grid | None = None
) -> None:
    """Write a mask as a ``.nii.gz`` of 8 bits.

    Parameters
    ----------
    path
        The file; its folder is created.
    mask
        uint8, shape (slices, height, width), in the orientation ``"SPL"``.
    geometry
        The location of the volume's voxels; with None it is not stated, unless ``source`` has it. NIfTI
        cannot store an uneven grid, and ITK cannot open a sheared one. A stack with uneven gaps or missing
        slices is therefore written with the median spacing, each slice taken from the nearest one of the
        mask; and a stack with gantry tilt, whose slices are shifted relative to each other, is written on a
        rectangular grid, each slice moved by whole pixels. The header's ``descrip`` records this, and
        :func:`note_on_grid` describes it beforehand.
    source
        The grid of a NIfTI source: the mask is stored in the same way, with the same affine.

    Raises
    ------
    GroundglassError
        If the file cannot be written.
    ValueError
        If the mask is not uint8 with three axes, or its number of slices differs from the geometry's.
    """
    if mask.dtype != np.uint8 or mask.ndim != 3:
        raise ValueError(f"a mask must be uint8, (slices, height, width), got {mask.dtype} {mask.shape}")
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
        header["descrip"] = ", ".join(_changes(geometry))
        even, where = _even(*_straight(mask, geometry))
        stored = even.T
        header.set_data_shape(stored.shape)
        _set_affine(header, where)
    header["scl_slope"], header["scl_inter"] = 1, 0
    _write(path, header, stored)


def is_even(geometry: Geometry) -> bool:
    """Whether the slices are evenly spaced along a straight line, as NIfTI requires."""
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


def note_on_grid(geometry: Geometry | None) -> str:
    """A note for the user if masks of this geometry are resampled; else ""."""
    said = {
        EVENED: "are on an even spacing, each slice from the nearest one of the uneven series",
        STRAIGHTENED: "are on a rectangular grid, each slice of the tilted series moved by whole pixels",
    }
    changes = [] if geometry is None else [said[change] for change in _changes(geometry)]
    return f"the NIfTI masks {' and '.join(changes)}" if changes else ""


def _changes(geometry: Geometry) -> list[str]:
    """How a mask is resampled before it is written, as the header describes it."""
    upright, moves = _moves(geometry)
    return [EVENED] * (not is_even(upright)) + [STRAIGHTENED] * bool(moves.any())


def _moves(geometry: Geometry) -> tuple[Geometry, NDArray[np.int_]]:
    """The stack with its slices straight above the first, and each slice's former offset in rows and columns."""
    heights, normal = geometry.heights_mm, geometry.normal
    upright = geometry.positions[0] + (heights - heights[0])[:, None] * normal
    steps = np.stack([geometry.row_step, geometry.column_step])
    moves = np.rint((geometry.positions - upright) @ (steps / (steps**2).sum(axis=1, keepdims=True)).T)
    return Geometry(upright, geometry.row_step, geometry.column_step), moves.astype(int)


def _even(mask: NDArray[np.uint8], geometry: Geometry) -> tuple[NDArray[np.uint8], Geometry]:
    """The nearest slices at even heights, and their positions; an even stack is returned unchanged."""
    if is_even(geometry):
        return mask, geometry
    heights = geometry.heights_mm
    step = float(np.median(np.diff(heights)))
    rise = heights[-1] - heights[0]
    wanted = heights[0] + step * np.arange(round(rise / step) + 1)
    nearest = np.abs(heights[None, :] - wanted[:, None]).argmin(axis=1)
    way = geometry.positions[-1] - geometry.positions[0]
    positions = geometry.positions[0] + ((wanted - heights[0]) / rise)[:, None] * way
    return mask[nearest], Geometry(positions, geometry.row_step, geometry.column_step)


def _straight(mask: NDArray[np.uint8], geometry: Geometry) -> tuple[NDArray[np.uint8], Geometry]:
    """A stack with the slices straight above each other, each moved within its plane by whole pixels."""
    upright, moves = _moves(geometry)
    if not moves.any():
        return mask, upright
    least = moves.min(axis=0)
    wide = np.zeros((len(mask), *(mask.shape[1:] + np.ptp(moves, axis=0))), np.uint8)
    for slice_, one, (down, along) in zip(wide, mask, moves - least, strict=True):
        slice_[down : down + one.shape[0], along : along + one.shape[1]] = one
    first = least @ np.stack([geometry.row_step, geometry.column_step])
    return wide, Geometry(upright.positions + first, geometry.row_step, geometry.column_step)


def _set_affine(header: Any, geometry: Geometry) -> None:
    count = len(geometry.positions)
    step = (geometry.positions[-1] - geometry.positions[0]) / (count - 1) if count > 1 else geometry.normal
    affine = np.eye(4)
    affine[:3] = RAS @ np.column_stack((geometry.column_step, geometry.row_step, step, geometry.positions[0]))
    header.set_xyzt_units(MM)
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    header.set_sform(affine, code=SCANNER)
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
