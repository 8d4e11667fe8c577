"""Pixels: one frame of a DICOM file, from its bytes to Hounsfield units."""

import io
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame

from groundglass.errors import ScanError
from groundglass.scan.dicom.codecs import NATIVE, DecodingError, Stored, decode
from groundglass.scan.dicom.frame import Encoding, Frame
from groundglass.scan.dicom.headers import kept, open_dicom
from groundglass.scan.members import found
from groundglass.scan.volume import Origin

AIR_HU = -1024
MAX_HU = 32767
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True)
class SliceReader:
    """Reads one slice of a stack at a time; safe to call from several threads.

    Attributes
    ----------
    frames
        In the volume's order.
    origin
        How a slice is turned upright.
    intercept
        To HU, where the headers' rescale is not to be used; None where it is.
    """

    frames: tuple[Frame, ...] = field(repr=False)
    origin: Origin
    intercept: float | None = None

    def __call__(self, number: int) -> NDArray[np.float32]:
        """Slice ``number`` in HU, as Volume.read gives it."""
        return np.ascontiguousarray(self.origin.upright(frame_hu(self.frames[number], self.intercept)))


def frame_hu(frame: Frame, intercept: float | None = None) -> NDArray[np.float32]:
    """Read one frame in HU.

    Stored values are rescaled (PS3.3 C.11.1.1.2). Padding (PS3.3 C.7.5.1.1.2) and everything under -1024 HU
    becomes -1024, air.

    Parameters
    ----------
    frame
        The frame.
    intercept
        To HU, where the header's rescale is not to be used; None where it is.

    Returns
    -------
    float32, shape (rows, columns), in [-1024, 32767].

    Raises
    ------
    ScanError
        If the frame's pixels are missing, cut short, damaged or not of the size that its header states.
    """
    container = _container(frame)
    encoding = frame.header.encoding
    stored = _stored(container, encoding)
    slope, shift = (frame.slope, frame.intercept) if intercept is None else (1.0, intercept)
    pixels = stored.astype(np.float32)
    if slope is not None and slope != 1:
        pixels *= np.float32(slope)
    pixels += np.float32(shift or 0.0)
    np.clip(pixels, AIR_HU, MAX_HU, out=pixels)
    if encoding.padding is not None:
        pixels[_padded(container, stored, encoding)] = AIR_HU
    return pixels


def stored_values(frame: Frame) -> Stored:
    """One frame's stored values before any rescale, shape (rows, columns); raises ScanError as frame_hu does."""
    return _stored(_container(frame), frame.header.encoding)


def _container(frame: Frame) -> Stored:
    """The values as they are stored, unused bits and all, as unsigned numbers; shape (rows, columns)."""
    member = frame.header.found.member
    try:
        data = _frame_bytes(frame)
        encoding = frame.header.encoding
        pixels = _native(data, encoding) if encoding.syntax in NATIVE else decode(data, encoding)
    except ScanError:
        raise
    except DecodingError as error:
        raise ScanError(str(member), f"{_which(frame)}{error}", "get it anew") from error
    except Exception as error:  # on damaged bytes pydicom raises nearly any kind
        raise ScanError(
            str(member), f"{_which(frame)}its pixels are cut short or damaged", "get it anew"
        ) from error
    if pixels.dtype.kind == "i":
        return pixels.astype(np.int32).view(np.uint32)
    return pixels


def _which(frame: Frame) -> str:
    return f"in frame {frame.index + 1} " if frame.header.encoding.frames > 1 else ""


def _frame_bytes(frame: Frame) -> bytes:
    encoding = frame.header.encoding
    if encoding.extent is None:
        raise DecodingError("it holds no pixels")
    with _stream(frame) as stream:
        if not encoding.extent.encapsulated:
            size = encoding.rows * encoding.columns * encoding.allocated // 8
            stream.seek(encoding.extent.start + size * frame.index)
            return stream.read(size)
        stream.seek(encoding.extent.start)
        table = (encoding.offsets, encoding.lengths) if encoding.offsets and encoding.lengths else None
        return get_frame(stream, frame.index, extended_offsets=table, number_of_frames=encoding.frames)


def _stream(frame: Frame) -> BinaryIO:
    listed, encoding = frame.header.found, frame.header.encoding
    now = found(listed.member.path)
    if now.changed != listed.changed:
        raise ScanError(str(listed.member), "has changed since it was listed", "start anew")
    if encoding.frames > 1 and (listed.member.inside or encoding.syntax == _DEFLATED):
        return io.BytesIO(kept(listed))
    return open_dicom(listed)[0]


def _native(data: bytes, encoding: Encoding) -> Stored:
    if encoding.extent is not None and encoding.extent.encapsulated:
        raise DecodingError("its pixels are not stored as its transfer syntax says")
    width = encoding.allocated // 8
    if len(data) != encoding.rows * encoding.columns * width:
        raise DecodingError("its pixels are cut short")
    order = ">" if encoding.syntax == _BIG_ENDIAN else "<"
    values = np.frombuffer(data, f"{order}u{width}").astype(f"u{width}", copy=False)
    return values.reshape(encoding.rows, encoding.columns)


def _stored(container: Stored, encoding: Encoding) -> Stored:
    """The bits of the container that hold the value; the others may hold anything (PS3.5 8.1.1)."""
    unused = encoding.high_bit + 1 - encoding.stored
    shifted = container >> unused if unused and encoding.syntax in NATIVE else container
    return _number(shifted, encoding.stored, encoding.signed)


def _number(container: Stored, bits: int, signed: bool) -> Stored:
    """The number that the lowest ``bits`` of unsigned values stand for."""
    width = container.dtype.itemsize * 8
    if bits >= width:
        return container.view(f"i{width // 8}") if signed else container
    lowest = container & container.dtype.type((1 << bits) - 1)
    if not signed:
        return lowest
    return (lowest << (width - bits)).view(f"i{width // 8}") >> (width - bits)


def _padded(container: Stored, stored: Stored, encoding: Encoding) -> NDArray[np.bool_]:
    """Where the pixels are padding, whose value may use bits that values do not."""
    low, high = padding_range(encoding)
    wide = _number(container, encoding.allocated, encoding.signed)
    return ((wide >= low) & (wide <= high)) | ((stored >= low) & (stored <= high))


def padding_range(encoding: Encoding) -> tuple[int, int]:
    """The lowest and highest stored value that is padding, whatever sign its header stored it with."""
    first = encoding.padding or 0
    ends = (first, first if encoding.padding_limit is None else encoding.padding_limit)
    low, high = sorted(_signed(end, encoding) for end in ends)
    return low, high


def _signed(value: int, encoding: Encoding) -> int:
    value %= 1 << encoding.allocated
    negative = encoding.signed and value >> (encoding.allocated - 1)
    return value - (1 << encoding.allocated) if negative else value
