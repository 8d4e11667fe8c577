"""Codecs: one compressed frame to stored values, by transfer syntax.

imagecodecs decodes them all: its libjpeg-turbo reads a lossless JPEG of 512 x 512 in 2 ms and leaves the
interpreter free meanwhile, where other decoders take 10 ms and hold it.
"""

import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from groundglass.scan.dicom.frame import Encoding

Stored = NDArray[np.integer[Any]]

NATIVE = frozenset(
    map(
        str,
        (
            uid.ImplicitVRLittleEndian,
            uid.ExplicitVRLittleEndian,
            uid.ExplicitVRBigEndian,
            uid.DeflatedExplicitVRLittleEndian,
        ),
    )
)

LOSSY = frozenset(map(str, (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless)))
"""That change pixels, whatever the header says; JPEG 2000 may or may not."""


class DecodingError(ValueError):
    """What a codec met, in words for the user."""


def decode(data: bytes, encoding: Encoding) -> Stored:
    """Decode one frame.

    Parameters
    ----------
    data
        The frame as it is encoded.
    encoding
        Whose syntax, rows, columns and bits the frame must keep to.

    Returns
    -------
    Integers, shape (rows, columns), in the type that the codec stores them in.

    Raises
    ------
    DecodingError
        If the frame is cut short, damaged or of another size.
    """
    expected = (encoding.rows, encoding.columns)
    check, codec = _CODECS[encoding.syntax]
    size = expected if check is None else check(data)
    if size != expected:
        raise DecodingError(f"its pixels are {_by(size)}, its header says {_by(expected)}")
    try:
        pixels = codec(data, encoding)
    except Exception as error:  # each codec has errors of its own
        raise DecodingError("its pixels are damaged") from error
    if pixels.shape != expected:
        raise DecodingError(f"its pixels are {_by(pixels.shape)}, its header says {_by(expected)}")
    return pixels


def supported(syntax: str) -> bool:
    """Whether pixels of this transfer syntax can be read."""
    return syntax in NATIVE or syntax in _CODECS


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size[::-1]))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(rows, columns) of a JPEG or JPEG-LS stream, by its start of frame (ISO 10918-1 B.2.2); checks its end."""
    if not data.startswith(b"\xff\xd8"):
        raise DecodingError("its pixels are no JPEG stream, as its transfer syntax says")
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
    """Refuse a stream without its end marker, of which a decoder would make up the rest; padding may follow."""
    if b"\xff\xd9" not in data[-16:]:
        raise DecodingError("its pixels are cut short")


_STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    """(rows, columns) of a JPEG 2000 codestream, by its SIZ marker (ISO 15444-1 A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 1024)
    if at < 0 or len(data) < at + 24:
        raise DecodingError("its pixels are no JPEG 2000 stream, as its transfer syntax says")
    _check_end(data)
    right, bottom, left, top = struct.unpack(">4L", data[at + 8 : at + 24])
    return bottom - top, right - left


def _jpeg(data: bytes, encoding: Encoding) -> Stored:
    return imagecodecs.jpeg8_decode(data)


def _jpegls(data: bytes, encoding: Encoding) -> Stored:
    return imagecodecs.jpegls_decode(data)


def _jpeg2000(data: bytes, encoding: Encoding) -> Stored:
    return imagecodecs.jpeg2k_decode(data, numthreads=1)


def _rle(data: bytes, encoding: Encoding) -> Stored:
    dtype = np.dtype(f"u{encoding.allocated // 8}")
    pixels = imagecodecs.dicomrle_decode(data, dtype, out=encoding.rows * encoding.columns * dtype.itemsize)
    return np.frombuffer(pixels, dtype).reshape(encoding.rows, encoding.columns)


Codec = tuple[Callable[[bytes], tuple[int, int]] | None, Callable[[bytes, Encoding], Stored]]
_CODECS: dict[str, Codec] = {
    **dict.fromkeys(
        map(str, (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)),
        (_jpeg_size, _jpeg),
    ),
    **dict.fromkeys(map(str, (uid.JPEGLSLossless, uid.JPEGLSNearLossless)), (_jpeg_size, _jpegls)),
    **dict.fromkeys(
        map(str, (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)),
        (_jpeg2000_size, _jpeg2000),
    ),
    str(uid.RLELossless): (None, _rle),
}
