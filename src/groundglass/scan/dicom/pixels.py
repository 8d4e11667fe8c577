"""Pixels: decode a frame to stored values according to its transfer syntax, and convert these to Hounsfield units.

imagecodecs decodes every compressed syntax, instead of pydicom's plugins. It reads a lossless JPEG of 512 x
512 pixels in 2 ms without holding the interpreter lock, while the plugins take 10 ms and hold the lock; and
it does not crash on damaged RLE.
"""

import io
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut

from groundglass.errors import ScanError
from groundglass.scan.dicom.frame import DicomFrame, Encoding
from groundglass.scan.dicom.headers import open_dicom, whole_file
from groundglass.scan.members import found
from groundglass.scan.units import AIR_HU, OFFSETS, refuse_wrapped
from groundglass.scan.volume import Origin

Stored = NDArray[np.integer[Any]]

NATIVE = frozenset(uid.UncompressedTransferSyntaxes)
LOSSY = frozenset((uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless))
"""Lossy syntaxes, whatever the header says; JPEG 2000 can be either."""


class DecodingError(ValueError):
    """A problem with encoded pixels, worded for the user."""


def decode(data: bytes, encoding: Encoding) -> Stored:
    """Decode one frame.

    Parameters
    ----------
    data
        The encoded frame.
    encoding
        The expected syntax, rows, columns and bits.

    Returns
    -------
    Integers, shape (rows, columns), in the codec's type.

    Raises
    ------
    DecodingError
        If the frame is cut short, damaged or of the wrong size.
    """
    expected = (encoding.rows, encoding.columns)
    check, codec = _CODECS[encoding.syntax]
    size = expected if check is None else check(data)
    if size != expected:
        raise DecodingError(f"its pixels are {_by(size)}, but its header says {_by(expected)}")
    try:
        pixels = codec(data, encoding)
    except Exception as error:  # codecs raise errors of their own types
        raise DecodingError("its pixels are damaged") from error
    if pixels.shape != expected:
        raise DecodingError(f"its pixels are {_by(pixels.shape)}, but its header says {_by(expected)}")
    return pixels


def syntaxes() -> list[str]:
    """The transfer syntaxes that can be read, the best first.

    Lossless compression comes first, because a sender may be unable to decompress its images. Lossy
    compression comes last, so that no sender chooses it for images that are not yet compressed.
    """
    perhaps_lossy = LOSSY | {uid.JPEG2000, uid.HTJ2K}
    lossless = [syntax for syntax in _CODECS if syntax not in perhaps_lossy]
    return [*lossless, *uid.UncompressedTransferSyntaxes, *(one for one in _CODECS if one in perhaps_lossy)]


def supported(syntax: str) -> bool:
    """Whether pixels of this transfer syntax can be read."""
    return syntax in NATIVE or syntax in _CODECS


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size[::-1]))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(rows, columns) of a JPEG or JPEG-LS stream from its frame header (ISO 10918-1 B.2.2); also checks its
    end."""
    if not data.startswith(b"\xff\xd8"):
        raise DecodingError("its pixels are not a JPEG stream, although its transfer syntax says so")
    _check_end(data)
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
        elif marker in _STARTS_OF_FRAME:
            rows, columns = struct.unpack(">HH", data[at + 5 : at + 9])
            return rows, columns
        else:
            at += 2 + length
    raise DecodingError("its pixels are damaged")


def _check_end(data: bytes) -> None:
    """Refuse a stream without an end marker, because a decoder would invent the rest; padding may follow the
    marker."""
    if b"\xff\xd9" not in data[-16:]:
        raise DecodingError("its pixels are cut short")


_STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    """(rows, columns) of a JPEG 2000 codestream, by its SIZ marker (ISO 15444-1 A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 1024)
    if at < 0 or len(data) < at + 24:
        raise DecodingError("its pixels are not a JPEG 2000 stream, although its transfer syntax says so")
    _check_end(data)
    right, bottom, left, top = struct.unpack(">4L", data[at + 8 : at + 24])
    return bottom - top, right - left


def _rle(data: bytes, encoding: Encoding) -> Stored:
    dtype = np.dtype(f"u{encoding.allocated // 8}")
    pixels = imagecodecs.dicomrle_decode(data, dtype, out=encoding.rows * encoding.columns * dtype.itemsize)
    return np.frombuffer(pixels, dtype).reshape(encoding.rows, encoding.columns)


Codec = tuple[Callable[[bytes], tuple[int, int]] | None, Callable[[bytes, Encoding], Stored]]
_CODECS: dict[str, Codec] = {
    **dict.fromkeys(uid.JPEGTransferSyntaxes, (_jpeg_size, lambda data, _: imagecodecs.jpeg8_decode(data))),
    **dict.fromkeys(
        uid.JPEGLSTransferSyntaxes, (_jpeg_size, lambda data, _: imagecodecs.jpegls_decode(data))
    ),
    **dict.fromkeys(
        (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K),
        (_jpeg2000_size, lambda data, _: imagecodecs.jpeg2k_decode(data, numthreads=1)),
    ),
    uid.RLELossless: (None, _rle),
}


MAX_HU = 32767


def slice_hu(
    frames: Sequence[DicomFrame], origin: Origin, intercept: float | None, number: int
) -> NDArray[np.float32]:
    """Frame ``number`` in HU and upright, read by :func:`frame_hu`; safe to call from several threads."""
    return np.ascontiguousarray(origin.upright(frame_hu(frames[number], intercept)))


def frame_hu(frame: DicomFrame, intercept: float | None = None) -> NDArray[np.float32]:
    """Read one frame in HU.

    Stored values are rescaled (PS3.3 C.11.1.1.2). Padding (PS3.3 C.7.5.1.1.2) and everything under -1024 HU
    becomes -1024, air.

    Parameters
    ----------
    frame
        The frame.
    intercept
        Intercept to HU if the header's rescale is not to be used, else None.

    Returns
    -------
    float32, shape (rows, columns), in [-1024, 32767].

    Raises
    ------
    ScanError
        If the frame's pixels are missing, cut short, damaged or of a size other than stated in the header.
    """
    pixels, padded = _rescaled(frame, intercept)
    np.clip(pixels, AIR_HU, MAX_HU, out=pixels)
    if padded is not None:
        pixels[padded] = AIR_HU
    return pixels


def _rescaled(
    frame: DicomFrame, intercept: float | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """A frame's values in HU, even impossible ones, and a mask of the padding; None if there is no padding."""
    container, encoding = _container(frame), frame.header.encoding
    stored = _stored(container, encoding)
    slope, shift = (frame.slope, frame.intercept) if intercept is None else (1.0, intercept)
    pixels = _looked_up(stored, frame).astype(np.float32)
    if slope is not None and slope != 1:
        pixels *= np.float32(slope)
    pixels += np.float32(shift or 0.0)
    return pixels, None if encoding.padding is None else _padded(container, stored, encoding)


def sample_hu(frames: Sequence[DicomFrame], intercept: float | None) -> NDArray[np.float32]:
    """Every 16th pixel of a few frames, in HU and without padding; damaged frames are left out."""
    found = [np.empty(0, np.float32)]
    for number in np.unique(np.linspace(0, len(frames) - 1, _SLICES).round().astype(int)):
        with suppress(ScanError):
            pixels, padded = _rescaled(frames[number], intercept)
            few = pixels[::4, ::4]
            found.append(few.ravel() if padded is None else few[~padded[::4, ::4]])
    return np.concatenate(found)


def _looked_up(stored: Stored, frame: DicomFrame) -> Stored:
    """Stored values after the modality LUT (PS3.3 C.11.1), if the header holds one."""
    if not frame.header.lut:
        return stored
    dataset = Dataset()
    dataset.set_original_encoding(False, frame.header.encoding.syntax != uid.ExplicitVRBigEndian)
    dataset.ModalityLUTSequence = [frame.header.lut]
    try:
        return apply_modality_lut(stored, dataset)
    except Exception as error:  # pydicom raises almost any exception on damaged values
        path = str(frame.header.found.member)
        raise ScanError(
            path, "its ModalityLUTSequence cannot be applied", "export it with a rescale"
        ) from error


def stored_values(frame: DicomFrame) -> Stored:
    """One frame's stored values before any rescale, shape (rows, columns); raises ScanError as frame_hu does."""
    return _stored(_container(frame), frame.header.encoding)


def _container(frame: DicomFrame) -> Stored:
    """The values as stored, including unused bits, as unsigned numbers; shape (rows, columns)."""
    member, encoding = frame.header.found.member, frame.header.encoding
    which = f"in frame {frame.index + 1} " if encoding.frames > 1 else ""
    try:
        data = _frame_bytes(frame)
        pixels = _native(data, encoding) if encoding.syntax in NATIVE else decode(data, encoding)
    except ScanError:
        raise
    except DecodingError as error:
        raise ScanError(str(member), f"{which}{error}", "get a new copy") from error
    except Exception as error:  # pydicom raises almost any exception on damaged bytes
        raise ScanError(
            str(member), f"{which}its pixels are cut short or damaged", "get a new copy"
        ) from error
    if pixels.dtype.kind == "i":
        return pixels.astype(np.int32).view(np.uint32)
    return pixels


def _frame_bytes(frame: DicomFrame) -> bytes:
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


def _stream(frame: DicomFrame) -> BinaryIO:
    listed, encoding = frame.header.found, frame.header.encoding
    now = found(listed.member)
    if now.changed != listed.changed:
        raise ScanError(str(listed.member), "has changed since it was listed", "run the command again")
    if encoding.frames > 1 and (
        listed.member.inside or encoding.syntax == uid.DeflatedExplicitVRLittleEndian
    ):
        return io.BytesIO(whole_file(listed))
    return open_dicom(listed)[0]


def _native(data: bytes, encoding: Encoding) -> Stored:
    if encoding.extent is not None and encoding.extent.encapsulated:
        raise DecodingError("its pixels are not stored as its transfer syntax says")
    width = encoding.allocated // 8
    if len(data) != encoding.rows * encoding.columns * width:
        raise DecodingError("its pixels are cut short")
    order = ">" if encoding.syntax == uid.ExplicitVRBigEndian else "<"
    values = np.frombuffer(data, f"{order}u{width}").astype(f"u{width}", copy=False)
    return values.reshape(encoding.rows, encoding.columns)


def _stored(container: Stored, encoding: Encoding) -> Stored:
    """The bits of the container that hold the value; the other bits may have any content (PS3.5 8.1.1)."""
    unused = encoding.high_bit + 1 - encoding.stored
    shifted = container >> unused if unused and encoding.syntax in NATIVE else container
    return _number(shifted, encoding.stored, encoding.signed)


def _number(container: Stored, bits: int, signed: bool) -> Stored:
    """The number that the lowest ``bits`` of unsigned values represent."""
    width = container.dtype.itemsize * 8
    if bits >= width:
        return container.view(f"i{width // 8}") if signed else container
    lowest = container & container.dtype.type((1 << bits) - 1)
    if not signed:
        return lowest
    return (lowest << (width - bits)).view(f"i{width // 8}") >> (width - bits)


def _padded(container: Stored, stored: Stored, encoding: Encoding) -> NDArray[np.bool_]:
    """Where the pixels are padding, which may use bits that other values do not."""
    low, high = padding_range(encoding)
    wide = _number(container, encoding.allocated, encoding.signed)
    return ((wide >= low) & (wide <= high)) | ((stored >= low) & (stored <= high))


def padding_range(encoding: Encoding) -> tuple[int, int]:
    """The lowest and highest stored value that is padding, regardless of the sign in the header."""
    first = encoding.padding or 0
    ends = (first, first if encoding.padding_limit is None else encoding.padding_limit)
    low, high = sorted(_signed(end, encoding) for end in ends)
    return low, high


def _signed(value: int, encoding: Encoding) -> int:
    value %= 1 << encoding.allocated
    negative = encoding.signed and value >> (encoding.allocated - 1)
    return value - (1 << encoding.allocated) if negative else value


_SLICES = 5
_AIR_HU = (-1100, -850)
_SOFT_HU = (-150, 150)
_LEAST_SHARE = 0.02


def guess_intercept(frames: Sequence[DicomFrame]) -> int:
    """0 if stored values are HU, -1024 if they are HU + 1024, and so on for other common offsets.

    A chest shows air or lung near -1000 HU and soft tissue near 0; with one of the intercepts, the values of
    a few slices must show both.

    Raises
    ------
    ScanError
        If no intercept gives both.
    """
    values = sample_hu(frames, 0.0)
    fits = {-offset: _fit(values - offset) for offset in (0, *OFFSETS)}
    best = max(fits, key=lambda intercept: fits[intercept])
    if fits[best] < _LEAST_SHARE:
        path = Path(str(frames[0].header.found.member))
        refuse_wrapped(path, values)
        span = f", {values.min():g} to {values.max():g}," if values.size else ""
        raise ScanError(
            path,
            f"its values{span} are not known to be Hounsfield units",
            "export the series with RescaleSlope and RescaleIntercept",
        )
    return best


def _fit(hu: NDArray[np.float32]) -> float:
    """The smaller of the shares of pixels that are air and soft tissue."""
    if not hu.size:
        return 0.0
    return min(float(((hu >= low) & (hu <= high)).mean()) for low, high in (_AIR_HU, _SOFT_HU))
