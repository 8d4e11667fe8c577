"""The values of a DICOM dataset as plain Python; None or "" if a value is missing or damaged."""

import io
import math
import re
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from pydicom import Dataset
from pydicom.sequence import Sequence

from groundglass.scan.members import Found

_AGE = re.compile(r"(\d{1,3})([DWMY])")
_OF_A_YEAR = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}


def text(dataset: Dataset, keyword: str) -> str:
    """One value as text without padding, several joined by a backslash; "" if it is missing or damaged."""
    return "\\".join(texts(dataset, keyword))


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Every value as text, its case unchanged; () if there is none."""
    value = _value(dataset, keyword)
    if value is None or isinstance(value, (bytes, Dataset)):
        return ()
    several = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    found = tuple("".join(filter(str.isprintable, str(one))).strip() for one in several)
    return found if any(found) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """One finite number; None if it is missing, damaged or not finite."""
    values = numbers(dataset, keyword)
    return values[0] if values else None


def years(dataset: Dataset, keyword: str) -> float | None:
    """An age (AS), such as ``018M``, in years; None if there is none."""
    age = _AGE.fullmatch(text(dataset, keyword).upper())
    return None if age is None else int(age[1]) / _OF_A_YEAR[age[2]]


def rescale(dataset: Dataset, keyword: str) -> float | None:
    """A rescale value: None if it is missing, NaN if it is present but not a finite number."""
    stated = number(dataset, keyword)
    return math.nan if stated is None and text(dataset, keyword) else stated


def numbers(dataset: Dataset, keyword: str, count: int | None = None) -> tuple[float, ...] | None:
    """Finite numbers, ``count`` of them if given; None if they are missing, damaged or of a different count."""
    try:
        values = tuple(float(one.replace(",", ".")) for one in texts(dataset, keyword))
    except ValueError:
        return None
    if not values or (count is not None and len(values) != count) or not all(map(math.isfinite, values)):
        return None
    return values


def whole(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """One whole number; ``default`` if it is missing or damaged."""
    value = number(dataset, keyword)
    return default if value is None else int(value)


def seconds(dataset: Dataset, keyword: str) -> float | None:
    """The time of day of a DICOM time or date with time, in seconds; None if there is none."""
    stated = text(dataset, keyword)
    clock = stated[8:] if keyword.endswith("DateTime") else stated.replace(":", "")
    found = re.match(r"(\d\d)(\d\d)(\d\d(?:\.\d+)?)", clock)
    return (
        None
        if found is None
        else sum(w * float(v) for w, v in zip((3600, 60, 1), found.groups(), strict=True))
    )


def stored_value(dataset: Dataset, keyword: str) -> int | None:
    """A value of type "US or SS", whose sign is not stated in implicit syntaxes; None if it is missing."""
    value = _value(dataset, keyword)
    if isinstance(value, bytes) and len(value) in (2, 4):
        return int.from_bytes(value, "little", signed=False)
    return value if isinstance(value, int) else None


def item(dataset: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty dataset if there is none."""
    several = items(dataset, keyword)
    return several[0] if several else Dataset()


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Every item of a sequence; [] if there is none."""
    value = _value(dataset, keyword)
    return list(value) if isinstance(value, Sequence) else []


def raw_bytes(dataset: Dataset, keyword: str) -> bytes:
    """The bytes of a value; b"" if it is missing."""
    value = _value(dataset, keyword)
    return value if isinstance(value, bytes) else b""


def _value(dataset: Dataset, keyword: str) -> object:
    try:
        return dataset.get(keyword)
    except Exception:  # pydicom's converters raise almost any exception on damaged bytes
        return None


UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_PIXELS = {0x0008: "float", 0x0009: "double", 0x0010: "integer"}
_LONG_VR = {b"OB", b"OW", b"OF", b"OD", b"UN"}
MAX_FRAGMENTS = 100_000


@dataclass(frozen=True)
class PixelExtent:
    """The value of PixelData.

    Attributes
    ----------
    start
        Where it starts, in bytes from the start of the file (of the inflated dataset of a deflated one).
    length
        Length in bytes; for encapsulated pixels, the length of the items present.
    encapsulated
        Whether the pixels are stored in items (PS3.5 A.4).
    complete
        False if the file ends before the last item does.
    integer
        False for FloatPixelData and DoubleFloatPixelData.
    """

    start: int
    length: int
    encapsulated: bool
    complete: bool
    integer: bool


def measure(stream: BinaryIO, implicit: bool, little: bool) -> PixelExtent | None:
    """Find the pixels in ``stream``, which must be positioned just before PixelData or the end of the file.

    ``implicit`` and ``little`` state how elements are written: without VRs, and with the lowest byte first.
    """
    order = "<" if little else ">"
    start = stream.read(8)
    if len(start) < 8:
        return None
    group, element, length = struct.unpack(f"{order}HHL", start)
    if group != 0x7FE0 or element not in _PIXELS:
        return None
    if not implicit:
        length = int.from_bytes(start[6:], "little" if little else "big")
        if start[4:6] in _LONG_VR:
            rest = stream.read(4)
            if len(rest) < 4:
                return None
            (length,) = struct.unpack(f"{order}L", rest)
    value = stream.tell()
    there = stream.seek(0, io.SEEK_END) - value
    integer = _PIXELS[element] == "integer"
    if length != UNDEFINED:
        return PixelExtent(value, min(length, there), False, length <= there, integer)
    stream.seek(value)
    complete = _walk(stream, value + there)
    return PixelExtent(value, there, True, complete, integer)


def _walk(stream: BinaryIO, end: int) -> bool:
    """Whether every item of encapsulated pixels ends before ``end``, and at least one has content."""
    filled = 0
    for number in range(MAX_FRAGMENTS):
        start = stream.read(8)
        if len(start) < 8:
            return False
        group, element, length = struct.unpack("<HHL", start)
        if (group, element) != _ITEM:
            return filled > 0 and group == 0xFFFE
        if stream.seek(length, io.SEEK_CUR) > end:
            return False
        filled += number > 0 and length > 0
    return False


@dataclass(frozen=True)
class Encoding:
    """How a file's pixels are stored (PS3.3 C.7.6.3, PS3.5 8 and A).

    Attributes
    ----------
    syntax
        The transfer syntax UID.
    rows, columns, frames, samples
        The size of the image; ``samples`` is the number of values per pixel.
    allocated, stored, high_bit, signed
        Format of each pixel, in bits.
    photometric
        PhotometricInterpretation.
    padding, padding_limit
        Stored values that are not measurements; None if there are none.
    extent
        Location of the pixels in the file; None if there are none.
    offsets, lengths
        The extended offset table of PS3.3 C.7.6.3.1.8, b"" if there is none.
    """

    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    padding: int | None
    padding_limit: int | None
    extent: PixelExtent | None
    offsets: bytes = field(default=b"", repr=False)
    lengths: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class ImageHeader:
    """What a file states about all of its frames; unstated texts are "".

    Attributes
    ----------
    image_type
        The values of ImageType.
    rescale_type
        Unit of the rescaled values: ``HU`` or nothing for CT.
    lut
        The item of ModalityLUTSequence, which replaces the rescale; empty if there is none.
    lossy
        Whether LossyImageCompression says that pixels were changed.
    age_years
        PatientAge in years; None if it is not stated.
    """

    found: Found
    encoding: Encoding
    sop_class: str
    sop_instance: str = field(repr=False)
    modality: str
    body_part: str
    patient_position: str
    image_type: tuple[str, ...]
    number: str
    rescale_type: str
    lut: Dataset = field(repr=False)
    lossy: bool
    patient: str = field(repr=False)
    age_years: float | None = field(repr=False)
    study: str = field(repr=False)
    series: str = field(repr=False)


@dataclass(frozen=True)
class DicomFrame:
    """One image of a file and its position; values that the header does not state are None.

    Attributes
    ----------
    index
        Its number within the file, from 0.
    position, orientation, spacing
        ImagePositionPatient (3), ImageOrientationPatient (6) and PixelSpacing (2), mm.
    slope, intercept
        Rescale to HU; NaN if the header has a value that is not a finite number.
    location, instance, gap, thickness
        SliceLocation, InstanceNumber, SpacingBetweenSlices and SliceThickness.
    stack
        StackID of an enhanced image.
    kernel
        ConvolutionKernel.
    marks
        Other values that distinguish stacks of a series that cover the same range.
    times
        Time of acquisition or creation, in seconds of the day.
    """

    header: ImageHeader
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    location: float | None
    instance: float | None
    gap: float | None
    thickness: float | None
    stack: str
    kernel: str
    marks: tuple[str, ...] = field(repr=False)
    times: tuple[float | None, ...]
