"""Extent: where the pixels lie in a DICOM file, and whether all of them are there."""

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

UNDEFINED = 0xFFFFFFFF
_ITEM = (0xFFFE, 0xE000)
_PIXELS = {0x0008: "float", 0x0009: "double", 0x0010: "integer"}
_LONG_VR = {b"OB", b"OW", b"OF", b"OD", b"UN"}
MAX_FRAGMENTS = 100_000


@dataclass(frozen=True)
class Extent:
    """The value of PixelData.

    Attributes
    ----------
    start
        Where it starts, in bytes from the start of the file (of the inflated dataset of a deflated one).
    length
        In bytes; for encapsulated pixels the items that are there.
    encapsulated
        Whether the pixels lie in items (PS3.5 A.4).
    complete
        False where the file ends before the last item does.
    integer
        False for FloatPixelData and DoubleFloatPixelData.
    """

    start: int
    length: int
    encapsulated: bool
    complete: bool
    integer: bool


def measure(stream: BinaryIO, implicit: bool, little: bool) -> Extent | None:
    """Find the pixels in ``stream``, which stands where PixelData or the end of the file comes next.

    ``implicit`` and ``little`` say how its elements are written: without VRs, and with the lowest byte first.
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
        return Extent(value, min(length, there), False, length <= there, integer)
    stream.seek(value)
    complete = _walk(stream, value + there)
    return Extent(value, there, True, complete, integer)


def _walk(stream: BinaryIO, end: int) -> bool:
    """Whether every item of encapsulated pixels lies before ``end``, and at least one with content does."""
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
