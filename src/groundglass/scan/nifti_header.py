"""The header of a NIfTI file: its contents, and the location of the voxels in the patient."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from groundglass.errors import ScanError
from groundglass.scan.members import open_member
from groundglass.scan.raw_volumes import HEAD_BYTES, Layout, raw_layout
from groundglass.scan.volume import ORIENTATION, Geometry, Grid, Member, Vector, spacing_warnings

GZIP_MAGIC = b"\x1f\x8b"
MAX_RATIO = 1032
"""Largest number of bytes that deflate can expand one byte to."""
MAX_EXTENSIONS = 1 << 26
PLACE_FIELDS = (
    *("xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
"""The fields that, with pixdim[0] to [3], locate the grid in both versions of NIfTI."""
UNITS_MM = {1: 1000.0, 3: 0.001}
SPACING_MM = (0.05, 50.0)
MAX_TILT = 25.0
"""Degrees from the axial plane; no gantry tilts this far."""
GET_NEW_COPY = "the file is truncated or damaged: get a new copy"
ASSUMED_SIDES = (
    "it does not say which way its axes point: the first was assumed to run from the patient's right to the left, "
    "the second from back to front, the third from the feet to the head"
)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
IDENTITY = (
    "its affine is the identity, which programs write if they do not know an array's position: neither the "
    "patient's right side nor the voxel size is known"
)
NUMPY_ORDER = "its first axis was read as the slices, as in NumPy order, since the other two are equally long"
NO_ORIGIN = "its affine has no origin, so its axes may be wrong as well: right and left may be exchanged"

Affine = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placing:
    """The location of the voxels according to a header.

    Attributes
    ----------
    shape
        (slices, height, width) of the volume.
    grid
        How the volume is stored.
    geometry
        The location of the volume; None if the header gives no usable spacing.
    tilt
        Angle in degrees between the slices and the axial plane; None if not stated.
    oriented
        Whether the header states unambiguously which way the axes point.
    warnings
        The assumptions that were made.
    """

    shape: tuple[int, int, int]
    grid: Grid
    geometry: Geometry | None
    tilt: float | None
    oriented: bool
    warnings: tuple[str, ...]


@contextmanager
def opened(member: Member, start: int = 0, unpacked: int = 0) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file, or one within a ZIP; gzip content is decompressed as it is read.

    Parameters
    ----------
    member
        The file.
    start, unpacked
        Offset of compressed data within the file, and their unpacked size in bytes; 0 if there are none.

    Yields
    ------
    The file, or the unpacked data, and its largest possible size in bytes.

    Raises
    ------
    ScanError
        If it cannot be opened, or if reading fails in the block because the file is damaged.
    """
    with open_member(member) as raw:
        packed = raw.read(2) == GZIP_MAGIC
        size = raw.seek(0, 2)
        raw.seek(start)
        try:
            if unpacked and (size - start) * MAX_RATIO >= unpacked:
                data = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw.read(), unpacked)
                yield io.BytesIO(data), len(data)
            elif packed:
                with gzip.GzipFile(fileobj=raw) as handle:
                    yield handle, size * MAX_RATIO  # type: ignore[misc]
            else:
                yield raw, size
        except (OSError, EOFError, zlib.error) as error:
            raise ScanError(str(member), f"cannot be read ({error})", GET_NEW_COPY) from error


def read_header(member: Member) -> Layout:
    """Read the header of a volume file: NIfTI, which nibabel does not check, or another format.

    Raises
    ------
    ScanError
        If the format of the header is unknown.
    """
    with opened(member) as (handle, _):
        head = handle.read(HEAD_BYTES)
    if not head:
        raise ScanError(str(member), "the file is empty", "get a new copy")
    for order in ("<", ">"):
        size = int.from_bytes(head[:4], "little" if order == "<" else "big")
        if size == 348 and head[344:348] == b"n+1\0":
            return Layout(nib.Nifti1Header(head[:348], endianness=order, check=False), member)
        if size == 540 and len(head) >= 540 and head[4:12] == b"n+2\0\r\n\x1a\n":
            return Layout(nib.Nifti2Header(head[:540], endianness=order, check=False), member)
    layout = raw_layout(member, head)
    if layout is None:
        name = (member.inside or member.path.name).lower()
        kind = "a NIfTI" if name.endswith((".nii", ".nii.gz")) else "a known volume"
        raise ScanError(
            str(member), f"is not {kind} file", "give a complete, unmodified .nii or .nii.gz file"
        )
    return layout


def stored_shape(path: Path, header: Any) -> tuple[int, ...]:
    """The lengths of the array's axes, without trailing axes of length 1 after the third.

    Raises
    ------
    ScanError
        If the lengths in the header are not possible.
    """
    count = int(header["dim"][0])
    shape = [int(length) for length in header["dim"][1 : 1 + max(0, count)]]
    if not 1 <= count <= 7 or min(shape) < 1:
        raise ScanError(path, "the size in its header is not possible", GET_NEW_COPY)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    return tuple(shape + [1] * (3 - len(shape)))


def data_offset(path: Path, header: Any) -> int:
    """The offset of the voxels in bytes; raises ScanError if it is impossible."""
    stated = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + 4
    if stated == 0:
        return least
    if not least <= stated <= MAX_EXTENSIONS:
        raise ScanError(path, "its header does not say where the voxels begin", GET_NEW_COPY)
    return int(stated)


def scaling(path: Path, header: Any) -> tuple[float, float]:
    """The slope and intercept; raises ScanError if the intercept is not a number."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise ScanError(path, "its scale (scl_slope, scl_inter) is not a number", GET_NEW_COPY) from error
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0))


def place_voxels(header: Any, stored: tuple[int, int, int]) -> Placing:
    """Determine how to permute and flip the stored axes to obtain SPL, and the resulting location.

    This uses the sform, else the qform, else the spacing alone (NIfTI-1 standard, methods 3, 2 and 1). The
    planes nearest to axial become the slices; nothing is interpolated.

    Parameters
    ----------
    header
        nibabel's header.
    stored
        The array's shape in the file.
    """
    affine, known, warnings = _affine(header, stored)
    if known != "place" and stored[1] == stored[2] != stored[0]:
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        affine = np.diag([0.0, 0.0, 0.0, 1.0])
        affine[[2, 1, 0], [0, 1, 2]] = lengths * (1, -1, -1)
        warnings = (*warnings, NUMPY_ORDER)
    change = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(ORIENTATION)
    )
    axes = np.argsort(change[:, 0])
    place = {name: np.array(header[name]) for name in PLACE_FIELDS} | {
        "pixdim": np.array(header["pixdim"][:4])
    }
    first, second, third = (int(axis) for axis in axes)
    flipped = tuple(bool(change[axis, 1] < 0) for axis in axes)
    grid = Grid((first, second, third), (flipped[0], flipped[1], flipped[2]), place)
    shape = (stored[first], stored[second], stored[third])
    upright = RAS_TO_LPS @ affine @ nib.orientations.inv_ornt_aff(change, stored)
    tilt = _tilt(upright) if known == "place" else None
    if tilt is not None and tilt > MAX_TILT:
        warnings += (f"its slices are tilted by {tilt:.0f} degrees from axial",)
    geometry = None if known == "nothing" else _geometry(upright, shape[0])
    if geometry is not None:
        warnings += _coarse(upright)
    oriented = known == "place" and NO_ORIGIN not in warnings
    return Placing(shape, grid, geometry, tilt, oriented, (*warnings, *spacing_warnings(shape[0], geometry)))


Known = Literal["place", "spacing", "nothing"]


def _affine(header: Any, stored: tuple[int, int, int]) -> tuple[Affine, Known, tuple[str, ...]]:
    """The affine in RAS mm, which parts of it the header states, and the assumptions made."""
    scale = UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    warnings: tuple[str, ...] = ()
    for name, get in (("sform", header.get_sform), ("qform", header.get_qform)):
        if int(header[f"{name}_code"]) <= 0:
            continue
        affine = _usable(get, scale)
        if affine is None:
            warnings += (f"its {name} is not usable and was ignored",)
        elif not _identity(affine):
            unplaced = (NO_ORIGIN,) if not affine[:3, 3].any() and _aligned(affine) else ()
            return affine, "place", warnings + unplaced
        else:
            affine[0, 0] = -1.0
            return affine, "nothing", (*warnings, IDENTITY)
    with np.errstate(all="ignore"):
        spacing = tuple(float(length) * scale for length in np.abs(header["pixdim"][1:4]))
    sized = all(SPACING_MM[0] <= length <= SPACING_MM[1] for length in spacing)
    affine = nib.volumeutils.shape_zoom_affine(stored, spacing if sized else (1.0, 1.0, 1.0), x_flip=True)
    if not sized:
        return affine, "nothing", (*warnings, ASSUMED_SIDES, "its voxel size is unknown")
    return affine, "spacing", (*warnings, ASSUMED_SIDES)


def _aligned(affine: Affine) -> bool:
    """Whether the axes are those of the patient in the same order, in either direction."""
    return not (affine[:3, :3] - np.diag(np.diag(affine[:3, :3]))).any()


def _identity(affine: Affine) -> bool:
    """Whether the affine is the identity, which means that the location is unknown; ITK flips two signs."""
    signs = np.diag(affine)
    return not affine[:3, 3].any() and _aligned(affine) and bool((np.abs(signs) == 1).all() and signs[2] > 0)


def _usable(get: Any, scale: float) -> Affine | None:
    """The affine from ``get``, in mm, if it is plausible; else None."""
    try:
        with np.errstate(all="ignore"):
            affine = np.array(get(), dtype=np.float64)
            affine[:3] *= scale
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
            sound = bool(
                np.isfinite(affine).all()
                and np.abs(affine[:3, 3]).max() < 1e5
                and ((lengths >= SPACING_MM[0]) & (lengths <= SPACING_MM[1])).all()
                and abs(np.linalg.det(affine[:3, :3] / lengths)) > 0.2
            )
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return None
    return affine if sound else None


def _geometry(upright: Affine, slices: int) -> Geometry:
    positions = upright[:3, 3] + np.arange(slices)[:, None] * upright[:3, 0]
    return Geometry(positions, row_step=upright[:3, 1].copy(), column_step=upright[:3, 2].copy())


def _tilt(upright: Affine) -> float:
    normal: Vector = np.cross(upright[:3, 1], upright[:3, 2])
    return float(np.degrees(np.arccos(min(1.0, abs(normal[2]) / np.linalg.norm(normal)))))


def _coarse(upright: Affine) -> tuple[str, ...]:
    across, *within = np.linalg.norm(upright[:3, :3], axis=0)
    if max(within) <= 3 or max(within) <= across:
        return ()
    problem = f"a pixel of its axial slices is {within[0]:.1f} x {within[1]:.1f} mm, as in a volume made of"
    return (f"{problem} coronal or sagittal slices: findings will be uncertain",)
