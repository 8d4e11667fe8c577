"""Read a volume from a NIfTI file of version 1 or 2, compressed or not, on disk or within a ZIP.

MetaImage, NRRD and Analyze are read in the same way; see :mod:`groundglass.scan.raw_volumes`.

The array is decoded once and kept as stored (64-bit numbers and 32-bit integers as float32); each slice is
oriented and scaled on demand. :mod:`groundglass.scan.units` determines what the numbers mean.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from groundglass.errors import ScanError, count_of
from groundglass.scan.image import MAX_PIXELS, MIN_SIDE
from groundglass.scan.members import content_hash, found
from groundglass.scan.nifti_header import (
    GET_NEW_COPY,
    MAX_TILT,
    Placing,
    data_offset,
    opened,
    place_voxels,
    read_header,
    scaling,
    stored_shape,
)
from groundglass.scan.units import AIR_HU, Meaning, judge_values
from groundglass.scan.volume import VOLUME_ENDINGS, Member, Series, Volume

MAX_SLICES = 5000
CHUNK_VOXELS = 1 << 20
SAMPLE = (256, 4096)
"""Number of runs, and of voxels in each, that are used to determine the meaning of the values."""
MAX_HOLES = 0.5
LABEL_INTENT = 1002


@dataclass(frozen=True)
class _StoredArray:
    """Everything from the header that is needed to read the array; ``path`` names the file in errors."""

    member: Member
    data: Member
    packed: bool
    path: Path
    stored: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    scale: tuple[float, float]
    placing: Placing


def nifti_series(path: Path | Member) -> Series:
    """List the volume of one NIfTI file, without reading its voxels.

    Parameters
    ----------
    path
        The ``.nii`` or ``.nii.gz``; recognised by its content, not its name.

    Returns
    -------
    A Series whose ``load`` gives the volume in HU, or in grey with a warning, in the orientation ``"SPL"``.
    Values under -1024 HU become -1024, and voxels that are not numbers become air, with a warning. ``load``
    raises ScanError if the file is truncated or damaged, contains a mask, a single value, values that are
    neither HU nor grey, or mostly voxels that are not numbers, or if it needs more memory than is available.
    Problems visible in the header are in ``problem``.

    Raises
    ------
    ScanError
        If the file cannot be read as NIfTI at all.
    """
    member = path if isinstance(path, Member) else Member(path)
    name = Path(str(member))
    layout = read_header(member)
    header = layout.header
    size = stored_shape(name, header)
    columns, rows, slices = size[:3]
    problem, remedy = _unusable(header, size)
    listed = Series(
        name,
        "nifti",
        slices,
        rows,
        columns,
        problem=problem,
        remedy=remedy,
        content=content_hash({found(member), found(layout.data)}),
        files=frozenset({member.path, layout.data.path}),
    )
    if problem:
        return listed
    stored = (columns, rows, slices)
    placing = place_voxels(header, stored)
    offset = data_offset(name, header) if layout.offset is None else layout.offset
    dtype, scale = header.get_data_dtype(), scaling(name, header)
    plan = _StoredArray(member, layout.data, layout.packed, name, stored, dtype, offset, scale, placing)
    slices, rows, columns = placing.shape
    problem, remedy = _wrong_size(placing)
    return replace(
        listed,
        slices=slices,
        rows=rows,
        columns=columns,
        open=partial(_load, plan),
        plane="unknown" if placing.tilt is None else "oblique" if placing.tilt > MAX_TILT else "axial",
        spacing=None if placing.geometry is None else placing.geometry.spacing,
        problem=problem,
        remedy=remedy,
        warnings=placing.warnings,
    )


def scan_name(member: Member) -> str:
    """The file's name without its extension."""
    name = Path(member.inside or member.path).name
    ending = next((one for one in VOLUME_ENDINGS if name.lower().endswith(one) and len(name) > len(one)), "")
    return name.removesuffix(name[len(name) - len(ending) :])


def _unusable(header: Any, size: tuple[int, ...]) -> tuple[str, str]:
    """Why a file with this header cannot hold a chest volume, and the remedy; "" twice if it can."""
    if len(size) > 3:
        return f"holds {math.prod(size[3:])} volumes", "save the one you want as a separate file"
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = np.dtype(np.void)
    if dtype.kind not in ("i", "u", "f"):
        what = (
            "colours"
            if dtype.names
            else "complex numbers"
            if dtype.kind == "c"
            else "voxels of an unknown type"
        )
        return f"holds {what}, not one number per voxel", "save the CT as 16-bit integers in HU"
    if int(header["intent_code"]) == LABEL_INTENT:
        return "is a mask, by its header", "name the CT that the mask was drawn on"
    return "", ""


def _wrong_size(placing: Placing) -> tuple[str, str]:
    slices, height, width = placing.shape
    if min(height, width) < MIN_SIDE:
        problem = f"its axial slices have {height} x {width} pixels, too few for a slice"
        return problem, f"at least {MIN_SIDE} a side are needed"
    if height * width > MAX_PIXELS or slices > MAX_SLICES:
        problem = f"{slices} slices of {height} x {width} pixels would take too much memory"
        return problem, f"at most {MAX_SLICES} slices of {MAX_PIXELS // 1_000_000} megapixels are read"
    return "", ""


def _load(plan: _StoredArray) -> Volume:
    size = math.prod(plan.stored) * plan.dtype.itemsize
    start, unpacked = (plan.offset, size) if plan.packed else (0, 0)
    needed = size if plan.packed else size + plan.offset
    with opened(plan.data, start, unpacked) as (handle, most):
        if most < needed:
            raise ScanError(plan.path, "holds fewer voxels than its header says", GET_NEW_COPY)
        try:
            voxels, low, high, holes = _read_voxels(plan, handle)
        except MemoryError as error:
            problem = f"takes {needed / 1e9:.1f} GB of memory, more than there is"
            raise ScanError(plan.path, problem, "resample it to fewer voxels") from error
    warnings = plan.placing.warnings
    if holes:
        if holes > MAX_HOLES * voxels.size:
            raise ScanError(plan.path, "most of its voxels hold no number", GET_NEW_COPY)
        warnings += (f"{count_of(holes, 'voxel')} without a number, read as air",)
    low, high = sorted(value * plan.scale[0] + plan.scale[1] for value in (low, high))
    meaning = judge_values(plan.path, sample(voxels, plan.scale), low, high)
    upright = plan.placing.grid.upright(voxels.reshape(plan.stored, order="F"))
    return Volume(
        shape=plan.placing.shape,
        is_hu=meaning.is_hu,
        scan_id=scan_name(plan.member),
        source=plan.path,
        read=partial(_slice, upright, plan.scale, meaning, holes > 0),
        geometry=plan.placing.geometry,
        warnings=(*warnings, meaning.warning) if meaning.warning else warnings,
        grid=plan.placing.grid,
        oriented=plan.placing.oriented,
    )


def _read_voxels(plan: _StoredArray, handle: IO[bytes]) -> tuple[NDArray[Any], float, float, int]:
    """Decode the array: voxels in the file's order, their minimum and maximum, and the number of NaN.

    It is read in pieces, so that there is never a second copy in memory. nibabel's ArrayProxy would
    decompress the file again for each slice, scale to float64 and ignore gzip's checksum.
    """
    if not plan.packed:
        handle.seek(plan.offset)
    native = plan.dtype.newbyteorder("=")
    kept = native if native.itemsize <= 2 or native == np.float32 else np.dtype(np.float32)
    voxels = np.empty(math.prod(plan.stored), dtype=kept)
    low, high, holes = math.inf, -math.inf, 0
    for start in range(0, voxels.size, CHUNK_VOXELS):
        piece = voxels[start : start + CHUNK_VOXELS]
        raw = handle.read(piece.size * plan.dtype.itemsize)
        if len(raw) < piece.size * plan.dtype.itemsize:
            raise ScanError(plan.path, "holds fewer voxels than its header says", GET_NEW_COPY)
        with np.errstate(over="ignore", invalid="ignore"):
            piece[:] = np.frombuffer(raw, dtype=plan.dtype)
        numbers = piece if kept.kind != "f" else piece[np.isfinite(piece)]
        holes += piece.size - numbers.size
        if numbers.size:
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    handle.read(1)  # at its end, gzip compares its checksum
    return voxels, low, high, holes


def sample(voxels: NDArray[Any], scale: tuple[float, float] = (1.0, 0.0)) -> NDArray[np.float32]:
    """Scaled runs of neighbouring voxels for judge_values: float32, shape (runs, voxels), finite."""
    count, length = SAMPLE
    length = min(length, voxels.size)
    starts = np.unique(np.linspace(0, voxels.size - length, count).astype(np.intp))
    runs = np.stack([voxels[start : start + length] for start in starts]).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        runs = (runs * np.float32(scale[0]) + np.float32(scale[1])).astype(np.float32)
    sound = np.isfinite(runs).all(axis=1)
    return runs[sound] if sound.any() else np.nan_to_num(runs, nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU)


def _slice(
    upright: NDArray[Any], scale: tuple[float, float], meaning: Meaning, holes: bool, number: int
) -> NDArray[np.float32]:
    pixels = upright[number].astype(np.float32, order="C")
    lowest, highest = (AIR_HU, math.inf) if meaning.is_hu else (0.0, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        if scale != (1.0, 0.0):
            pixels *= np.float32(scale[0])
            pixels += np.float32(scale[1])
        if meaning.divisor != 1:
            pixels /= np.float32(meaning.divisor)
        if meaning.offset:
            pixels -= np.float32(meaning.offset)
    if holes:
        pixels[~np.isfinite(pixels)] = lowest
    return np.clip(pixels, np.float32(lowest), np.float32(highest), out=pixels)
