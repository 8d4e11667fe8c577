"""Faults of the files: cut short, empty, damaged, or mislabelled."""

from collections.abc import Callable
from io import BytesIO
from struct import unpack_from

from pydicom.filereader import dcmread
from pydicom.filewriter import write_file_meta_info

Files = dict[str, bytes]
Change = Callable[[Files], Files]

PREAMBLE = 132
"""Bytes before the file meta information, with the letters DICM (PS3.10 section 7.1)."""
META_LENGTH_END = PREAMBLE + 12


def in_middle(change: Callable[[bytes], bytes]) -> Change:
    """Change only the middle file."""

    def apply(files: Files) -> Files:
        name = sorted(files)[len(files) // 2]
        return {**files, name: change(files[name])}

    return apply


def in_all(change: Callable[[bytes], bytes]) -> Change:
    """Change every file."""

    def apply(files: Files) -> Files:
        return {name: change(content) for name, content in files.items()}

    return apply


def half_pixels(content: bytes) -> bytes:
    """Cut off the second half of the pixel data."""
    return content[: -len(dcmread(BytesIO(content)).PixelData) // 2]


def half_header(content: bytes) -> bytes:
    """Cut off in the middle of the header, after the file meta information."""
    return content[: _meta_end(content) + 301]


def empty(content: bytes) -> bytes:
    """Nothing at all."""
    return b""


def text(content: bytes) -> bytes:
    """A text file named .dcm."""
    return b"These are the notes of the synthetic study; the images are elsewhere.\n" * 20


def without_preamble(content: bytes) -> bytes:
    """Begin with the file meta information."""
    return content[PREAMBLE:]


def without_meta(content: bytes) -> bytes:
    """Begin with the dataset, as before DICOM's part 10."""
    return content[_meta_end(content) :]


def with_syntax(uid: str) -> Callable[[bytes], bytes]:
    """Name another transfer syntax."""

    def change(content: bytes) -> bytes:
        meta = dcmread(BytesIO(content), stop_before_pixels=True).file_meta
        meta.TransferSyntaxUID = uid
        written = BytesIO()
        write_file_meta_info(written, meta)
        return content[:PREAMBLE] + written.getvalue() + content[_meta_end(content) :]

    return change


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Replace bytes with as many that pydicom would not write."""

    def change(content: bytes) -> bytes:
        return content.replace(old, new.ljust(len(old), b" "))

    return change


def scrambled(content: bytes) -> bytes:
    """Overwrite most of the compressed stream except its ends."""
    size = len(dcmread(BytesIO(content)).PixelData)
    start, stop = len(content) - size * 9 // 10, len(content) - size // 10
    return (
        content[:start]
        + bytes(range(256)) * ((stop - start) // 256)
        + content[start + (stop - start) // 256 * 256 :]
    )


def _meta_end(content: bytes) -> int:
    return META_LENGTH_END + int(unpack_from("<I", content, PREAMBLE + 8)[0])
