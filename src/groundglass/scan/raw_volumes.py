"""MetaImage, NRRD and Analyze: convert their headers to NIfTI headers, so that one reader serves all volumes.

MetaImage (``.mha``, ``.mhd``) is described at itk.org/Wiki/ITK/MetaIO, NRRD (``.nrrd``, ``.nhdr``) at
teem.sourceforge.net/nrrd/format.html. Analyze 7.5 and NIfTI in two files have a ``.hdr`` beside their ``.img``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from groundglass.errors import ScanError
from groundglass.scan.volume import Member

HEAD_BYTES = 1 << 16
CONVERT = "convert it to .nii.gz, for example with SimpleITK or 3D Slicer"
DAMAGED = f"get a new copy, or {CONVERT}"
LONGEST_NAME = 255
"""Longest file name, in characters."""
_TYPES = {
    "int8": ("met_char", "signed char", "int8_t"),
    "uint8": ("met_uchar", "uchar", "unsigned char", "uint8_t"),
    "int16": ("met_short", "short", "short int", "signed short", "signed short int", "int16_t"),
    "uint16": ("met_ushort", "ushort", "unsigned short", "unsigned short int", "uint16_t"),
    "int32": ("met_int", "int", "signed int", "int32_t"),
    "uint32": ("met_uint", "uint", "unsigned int", "uint32_t"),
    "int64": ("met_long_long", "longlong", "long long", "long long int", "signed long long", "int64_t"),
    "uint64": ("met_ulong_long", "ulonglong", "unsigned long long", "unsigned long long int", "uint64_t"),
    "float32": ("met_float", "float"),
    "float64": ("met_double", "double"),
}
_TYPE_OF = {name: code for code, names in _TYPES.items() for name in (*names, code)}
_SPACES = {
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
}  # fmt: skip
"""Signs that convert NRRD's spaces to RAS."""


@dataclass(frozen=True)
class Layout:
    """The storage of a volume's array.

    Attributes
    ----------
    header
        A NIfTI header of nibabel, in the array's byte order.
    data
        The file that holds the array.
    offset
        Its offset in bytes; None if ``header`` states it.
    packed
        Whether it is compressed with zlib or gzip, from ``offset`` on.
    """

    header: Any
    data: Member
    offset: int | None = None
    packed: bool = False


def raw_layout(member: Member, head: bytes) -> Layout | None:
    """The layout of a MetaImage, NRRD or Analyze file, or of a pair of NIfTI files, from its first bytes.

    Returns
    -------
    None for a file of another format.

    Raises
    ------
    ScanError
        If the header is damaged, or the array is stored in an unsupported way.
    """
    try:
        if head.startswith(b"NRRD000"):
            return _nrrd(member, head)
        if b"ElementDataFile" in head and b"NDims" in head:
            return _metaimage(member, head)
    except (ValueError, KeyError, IndexError, OverflowError, nib.spatialimages.HeaderDataError) as error:
        raise ScanError(str(member), "its header cannot be read", DAMAGED) from error
    return next((_pair(member, head, order) for order in "<>" if _is_pair(head, order)), None)


def _is_pair(head: bytes, order: str) -> bool:
    size = int.from_bytes(head[:4], "little" if order == "<" else "big")
    return size == 348 and len(head) >= 348 and head[344:348] != b"n+1\0"


def _pair(member: Member, head: bytes, order: str) -> Layout:
    """NIfTI in two files; Analyze, whose header does not say which way the axes point."""
    header = nib.Nifti1Header(head[:348], endianness=order, check=False)
    if head[344:348] != b"ni1\0":
        header["sform_code"] = header["qform_code"] = header["intent_code"] = 0
        header["scl_slope"], header["scl_inter"], header["xyzt_units"] = 1, 0, 2
    offset = float(header["vox_offset"])
    if not 0 <= offset < 1 << 30:
        raise ScanError(str(member), "its header does not say where the voxels begin", CONVERT)
    name = PurePosixPath(member.inside or member.path.name).stem
    endings = (".img", ".img.gz", ".IMG")
    there = next((one for one in endings if _there(member.path.parent / (name + one))), ".img")
    return Layout(header, _beside(member, name + there), int(offset))


def _metaimage(member: Member, head: bytes) -> Layout:
    fields: dict[str, str] = {}
    end = 0
    for line in head.split(b"\n"):
        end += len(line) + 1
        key, _, value = line.decode("latin-1").partition("=")
        fields[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    count = int(fields["NDims"])
    _refuse(member, int(fields.get("ElementNumberOfChannels", 1)) > 1, "holds colours or vectors")
    shape = [int(one) for one in fields["DimSize"].split()]
    spacing = _floats(fields.get("ElementSpacing") or fields.get("ElementSize", ""))
    matrix = next(
        (fields[key] for key in ("TransformMatrix", "Rotation", "Orientation") if key in fields), ""
    )
    origin = next((fields[key] for key in ("Offset", "Position", "Origin") if key in fields), "")
    affine = None
    if matrix and origin and count == 3:
        directions = np.array(_floats(matrix)).reshape(3, 3).T
        affine = _affine(directions * (spacing or [1.0] * 3), _floats(origin), (-1, -1, 1))
    big = (fields.get("BinaryDataByteOrderMSB") or fields.get("ElementByteOrderMSB", "")).lower() in (
        "true",
        "1",
    )
    header = _header(fields["ElementType"], shape, ">" if big else "<", affine, spacing)
    packed = fields.get("CompressedData", "").lower() in ("true", "1")
    name, skip = fields["ElementDataFile"], int(fields.get("HeaderSize", 0))
    _refuse(member, skip < 0 or " " in name or "%" in name or name == "LIST", "is spread over several files")
    if name.upper() == "LOCAL":
        return Layout(header, member, end, packed)
    return Layout(header, _beside(member, name), skip, packed)


def _nrrd(member: Member, head: bytes) -> Layout:
    text, found, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    ended = (head.find(b"\n\n") + 2) if b"\r\n" not in head[: len(text)] else head.find(b"\r\n\r\n") + 4
    lines = [
        line.partition(": ") for line in text.decode("latin-1").split("\n")[1:] if not line.startswith("#")
    ]
    fields = {key.strip().lower(): value.strip() for key, colon, value in lines if colon}
    name = fields.get("data file") or fields.get("datafile") or ""
    _refuse(member, not found and not name, "has a header that does not end")
    shape = [int(one) for one in fields["sizes"].split()]
    encoding = fields["encoding"].lower()
    _refuse(member, encoding not in ("raw", "gzip", "gz"), "is not stored as raw or gzip")
    _refuse(
        member, "line skip" in fields or name.startswith("LIST") or " " in name, "is spread or skips lines"
    )
    vectors = [
        one for one in fields.get("space directions", "").replace(",", " ").split(")") if one.strip(" (")
    ]
    _refuse(member, any("none" in one for one in vectors), "holds several values per voxel")
    directions = [_floats(one.strip(" (")) for one in vectors]
    spacing = _floats(fields.get("spacings", "")) or [float(np.linalg.norm(one)) for one in directions]
    signs = _SPACES.get(fields.get("space", "").lower())
    affine = None
    if signs and len(directions) == 3 and "space origin" in fields:
        origin = _floats(fields["space origin"].strip("() ").replace(",", " "))
        affine = _affine(np.array(directions).T, origin, signs)
    order = ">" if fields.get("endian", "").lower() == "big" else "<"
    header = _header(fields["type"], shape, order, affine, spacing)
    skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
    packed = encoding != "raw"
    _refuse(member, skip < 0 or (packed and skip > 0), "skips bytes from its end")
    return Layout(header, _beside(member, name) if name else member, skip + (0 if name else ended), packed)


def _refuse(member: Member, true: bool, problem: str) -> None:
    if true:
        raise ScanError(str(member), problem, CONVERT)


def _floats(text: str) -> list[float]:
    return [float(one) for one in text.split()]


def _affine(steps: NDArray[np.float64], origin: Sequence[float], signs: Sequence[int]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, origin
    return np.diag([*signs, 1.0]) @ affine


def _header(
    kind: str, shape: Sequence[int], order: str, affine: NDArray[np.float64] | None, spacing: Sequence[float]
) -> Any:
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(_TYPE_OF[kind.strip().lower()]))
    header.set_data_shape(shape)
    header.set_xyzt_units(2)
    header["pixdim"][1:4] = [abs(one) for one in (*spacing, 0, 0, 0)[:3]]
    if affine is not None:
        header.set_sform(affine, code=1)
    return header


def _beside(member: Member, name: str) -> Member:
    """A file in the same folder, or in the same folder of a ZIP; a name that leads elsewhere is refused."""
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise ScanError(str(member), "names a file outside its folder as its data", CONVERT)
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise ScanError(str(member), "names as its data a file that cannot exist", DAMAGED)
    if member.inside:
        return replace(member, inside=str(PurePosixPath(member.inside).parent / name).removeprefix("./"))
    data = member.path.parent / name
    if not _there(data):
        raise ScanError(
            str(member), f"its voxels, {name}, are not beside it", "put both files into one folder"
        )
    return Member(data)


def _there(path: Path) -> bool:
    """Whether a file exists; unlike Path.is_file, False for a name that is too long for the file system."""
    return os.path.isfile(path)  # noqa: PTH113
