"""Damage files on purpose, for fuzz_readers.py: any byte, or the fields that a reader trusts."""

import struct
import zlib
from collections.abc import Callable

import nibabel as nib
import numpy as np
from numpy.random import Generator
from pydicom.datadict import tag_for_keyword

from fuzz_seeds import Seed, packed

Mutation = Callable[[bytes, Generator, bytes], bytes]
"""Maps a file's bytes, a generator and another file's bytes to the damaged file."""

HEAD = 2048
INTEGERS = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FLOATS = (0.0, -0.0, -1.0, 1e-45, 1e-10, 1e10, 1e30, -1e30, 3.4e38, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    *(
        "0",
        "-1",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "99999999999999",
        "2147483648",
        "abc",
        " ",
        "1\\2\\3\\4\\5\\6\\7",
    ),
    *("0\\0", "0\\0\\0", "1e30\\1e30\\1e30", "-0", "\x1b[31m", "\\\\\\\\", "00000000000000000001", "1,5"),
)
TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *(
        "SamplesPerPixel",
        "PlanarConfiguration",
        "PhotometricInterpretation",
        "RescaleSlope",
        "RescaleIntercept",
    ),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SliceLocation"),
    *("InstanceNumber", "PixelData", "PixelPaddingValue", "TransferSyntaxUID", "SpecificCharacterSet"),
    *("SOPClassUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "ImageType", "StudyInstanceUID"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "PlanePositionSequence"),
    *("PixelMeasuresSequence", "PixelValueTransformationSequence", "FileMetaInformationGroupLength"),
    *(
        "DimensionIndexValues",
        "StackID",
        "PatientName",
        "SeriesNumber",
        "AcquisitionNumber",
        "PatientPosition",
    ),
    *("ReferencedFileID", "DirectoryRecordSequence", "DirectoryRecordType"),
)


def flip_bits(content: bytes, rng: Generator, other: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 20))):
        changed[_place(changed, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite_run(content: bytes, rng: Generator, other: bytes) -> bytes:
    start, length = _place(content, rng), int(rng.integers(1, 200))
    run = (
        rng.bytes(length) if rng.random() < 0.5 else bytes([int(rng.choice([0, 0xFF, 0x20, 0x80]))]) * length
    )
    return content[:start] + run + content[start + length :]


def truncate(content: bytes, rng: Generator, other: bytes) -> bytes:
    return content[: _place(content, rng)]


def insert(content: bytes, rng: Generator, other: bytes) -> bytes:
    start = _place(content, rng)
    return content[:start] + rng.bytes(int(rng.integers(1, 64))) + content[start:]


def delete(content: bytes, rng: Generator, other: bytes) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 64)) :]


def splice(content: bytes, rng: Generator, other: bytes) -> bytes:
    return content[: _place(content, rng)] + other[_place(other, rng) :]


def repeat(content: bytes, rng: Generator, other: bytes) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start : start + 400] * int(rng.integers(2, 40)) + content[start + 400 :]


def extreme_integer(content: bytes, rng: Generator, other: bytes) -> bytes:
    value = int(rng.choice(INTEGERS))
    size = 2 if value <= 0xFFFF and rng.random() < 0.5 else 4
    return _put(content, _place(content, rng), value.to_bytes(size, str(rng.choice(["little", "big"]))))  # type: ignore[arg-type]


def dicom_value(content: bytes, rng: Generator, other: bytes) -> bytes:
    """Set the value of an element to an extreme, regardless of its length."""
    start, order = _element(content, rng)
    if start < 0:
        return extreme_integer(content, rng, other)
    explicit = content[start + 4 : start + 6].isalpha()
    size = struct.unpack_from(f"{order}{'H' if explicit else 'I'}", content, start + (6 if explicit else 4))[
        0
    ]
    if size > 256:
        return _put(content, start + 8, rng.bytes(4))
    if size in (2, 4) and rng.random() < 0.7:
        value = int(rng.choice(INTEGERS)) & (0xFFFF if size == 2 else 0xFFFFFFFF)
        return _put(content, start + 8, struct.pack(f"{order}{'H' if size == 2 else 'I'}", value))
    text = str(rng.choice(TEXTS)).encode()
    text += b" " * (len(text) % 2)
    length = struct.pack(f"{order}{'H' if explicit else 'I'}", len(text))
    head = content[: start + (6 if explicit else 4)] + length
    return head + text + content[start + 8 + size :]


def dicom_length(content: bytes, rng: Generator, other: bytes) -> bytes:
    """Set the length of an element, or its VR, to an extreme."""
    start, order = _element(content, rng)
    if start < 0:
        return flip_bits(content, rng, other)
    if rng.random() < 0.3:
        vr = rng.choice([b"SQ", b"UN", b"OB", b"OW", b"DS", b"US", b"FD", b"UT", b"PN", b"AT", b"??"])
        return _put(content, start + 4, bytes(vr))
    value = int(rng.choice(INTEGERS))
    return _put(content, start + int(rng.choice([4, 6, 8])), struct.pack(f"{order}I", value))


def dicom_removed(content: bytes, rng: Generator, other: bytes) -> bytes:
    """Give an element another tag, so that it is missing."""
    start, _ = _element(content, rng)
    return flip_bits(content, rng, other) if start < 0 else _put(content, start, rng.bytes(4))


def nifti_field(content: bytes, rng: Generator, other: bytes) -> bytes:
    fields = nib.Nifti1Header().template_dtype.fields
    changed = content
    for _ in range(int(rng.integers(1, 4))):
        dtype, offset = fields[str(rng.choice(list(fields)))][:2]
        element = dtype.base
        offset += int(rng.integers(dtype.itemsize // element.itemsize)) * element.itemsize
        value: bytes = rng.bytes(element.itemsize)
        if element.kind == "f" and rng.random() < 0.9:
            value = np.array(rng.choice(FLOATS), dtype=element).tobytes()
        elif element.kind in "iu" and rng.random() < 0.9:
            value = int(rng.choice(INTEGERS)).to_bytes(8, "little")[: element.itemsize]
        changed = _put(changed, offset, value)
    return changed


def png_chunk(content: bytes, rng: Generator, other: bytes) -> bytes:
    """Change the content of a chunk and correct its checksum, so that it is accepted."""
    starts, start = [], 8
    while start + 12 <= len(content):
        starts.append(start)
        start += 12 + int.from_bytes(content[start : start + 4], "big")
    if not content.startswith(b"\x89PNG") or not starts:
        return flip_bits(content, rng, other)
    start = int(rng.choice(starts))
    size = int.from_bytes(content[start : start + 4], "big")
    body = bytearray(content[start + 4 : start + 8 + size])
    for _ in range(int(rng.integers(1, 4))):
        body[int(rng.integers(4 if size else 0, len(body)))] = int(rng.integers(256))
    checksum = zlib.crc32(body).to_bytes(4, "big")
    return content[: start + 4] + bytes(body) + checksum + content[start + 12 + size :]


ANYWHERE: tuple[Mutation, ...] = (
    *(flip_bits, overwrite_run, truncate, insert, delete, splice, repeat, extreme_integer),
)
AIMED: dict[str, tuple[Mutation, ...]] = {
    "dicom": (dicom_value, dicom_value, dicom_length, dicom_removed),
    "zip": (dicom_value, dicom_length),
    "nifti": (nifti_field,),
    "picture": (png_chunk, extreme_integer),
}


def damage(seeds: list[Seed], seed: int, number: int) -> tuple[Seed, str, dict[str, bytes]]:
    """The ``number``-th damaged input: its seed, the mutation, and the files; reproducible from the arguments."""
    rng = np.random.default_rng((seed, number))
    chosen = seeds[int(rng.integers(len(seeds)))]
    other = seeds[int(rng.integers(len(seeds)))]
    donor = other.files[str(rng.choice(list(other.files)))]
    after = bool(chosen.packing) and rng.random() < 0.35
    files = dict(packed(chosen.files, chosen.packing) if after else chosen.files)
    options = ANYWHERE if after or rng.random() < 0.45 else AIMED[chosen.reader]
    steps: list[str] = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        change = options[int(rng.integers(len(options)))]
        state = int(rng.integers(2**32))
        names = list(files) if rng.random() < 0.25 else [str(rng.choice(list(files)))]
        for name in names:  # with the same random numbers, so that a whole series is damaged in the same way
            if files[name]:
                files[name] = change(files[name], np.random.default_rng(state), donor)
        steps.append(f"{change.__name__} of {len(names)}")
    return chosen, ", ".join(steps), files if after else packed(files, chosen.packing)


def _place(content: bytes | bytearray, rng: Generator) -> int:
    """Where to damage: half of the time within the header."""
    return int(rng.integers(max(1, min(len(content), HEAD) if rng.random() < 0.5 else len(content))))


def _put(content: bytes, start: int, value: bytes) -> bytes:
    return content[:start] + value + content[start + len(value) :]


def _element(content: bytes, rng: Generator) -> tuple[int, str]:
    """Where an element of a chosen tag begins, -1 if it has none, and the byte order of struct."""
    tag = tag_for_keyword(str(rng.choice(TAGS))) or 0
    for order in "<>":
        start = content.find(struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF), 128)
        if 0 <= start <= len(content) - 12:
            return start, order
    return -1, "<"
