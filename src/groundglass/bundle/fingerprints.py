"""Recognise the slices of a bundle's own data, and their part of the split, without storing or naming them.

A bundle keeps two fingerprints of each slice: one of the file, which identifies the same bytes, and one of
the picture, which identifies it at another size, recompressed or with another contrast. It stores no names,
labels or order, and 255 signs are too few to reconstruct a picture. Anyone who has a slice can find out
whether it is among them, and in which part; that is the purpose.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundglass.errors import BundleError
from groundglass.files import sha256
from groundglass.preprocess import Preprocessing
from groundglass.scan.read import read_scan

Prints = NDArray[np.uint8]

FINGERPRINTS = "fingerprints.bin"
"""Name of the file in a bundle."""
MAGIC = b"GGFP0002"
FILE_BYTES, PICTURE_BYTES, CHECK_BYTES, DATA_BYTES = 16, 32, 8, 32
PARTS = ("train", "val", "test")
"""The parts of a split, in the order of their codes."""
RECORD = np.dtype(
    [("file", "u1", (FILE_BYTES,)), ("picture", "u1", (PICTURE_BYTES,)), ("part", "u1")], align=False
)
"""What is stored of a slice: 49 bytes."""
SIDE, FREQUENCIES = 32, 16
BRIGHTEST = 1.5
"""Grey further from the mean than this many standard deviations is clipped: gamma and window change it most."""
READERS = 2
ALIKE = 20
"""Pictures whose fingerprints differ in at most this many of 256 bits count as the same.

Measured on covid-ct (746 slices), sarscov2-ct (2481) and slices of 30 phantoms (540), bits that differ:

- Copies of 400 slices each: at most 8 at half the size, 10 as JPEG of quality 30, 16 with gamma 0.7, 20 with
  gamma 1.4, 2 with the contrast lowered to 0.7, 0 if mirrored, and 14 if made smaller, mirrored, made brighter
  and saved as JPEG of quality 30. With the contrast raised by 1.3, so that black and white are cut off, 5 to 8
  in the median and 48 at most; 0.3 to 2.3% are missed.
- Slices of different patients: 109 to 123 in the median. Of 276990 pairs in covid-ct two are under 36, with 15 and
  20: pictures of one paper listed under two patients. Of 2.9 million in sarscov2-ct, where patients are a
  guess, one is under 21, with 15, and shows the same chest. Of 140928 pairs of phantoms the least is 22.
- Neighbouring slices of one patient: 49 to 100 in the median; 0.2 to 0.7% are under 21 and look the same.
"""


def file_print(path: Path) -> Prints:
    """The first 16 bytes of a file's SHA-256: uint8, shape (16,)."""
    return np.frombuffer(bytes.fromhex(sha256(path))[:FILE_BYTES], dtype=np.uint8)


def picture_print(grey: Prints) -> Prints:
    """A perceptual hash of a slice: the signs of its cosine transform at the lowest frequencies, 256 bits.

    After Zauner 2010, Implementation and benchmarking of perceptual image hash functions (pHash), but with the
    contrast normalised first, and with signs instead of a comparison with the median. The slice is stretched to
    32 x 32, and its grey is clipped 1.5 standard deviations from the mean. Of the 32 x 32 coefficients, the
    lowest 16 x 16 are used; the first, the mean, carries no information and is 0.

    Parameters
    ----------
    grey
        uint8, shape (height, width).

    Returns
    -------
    uint8, shape (32,), 8 bits per byte.
    """
    way = cv2.INTER_AREA if min(grey.shape) >= SIDE else cv2.INTER_LINEAR
    small = cv2.resize(grey.astype(np.float64), (SIDE, SIDE), interpolation=way)
    spread = max(float(small.std()), 1e-6)
    waves = cv2.dct(np.clip((small - small.mean()) / spread, -BRIGHTEST, BRIGHTEST))
    signs = waves[:FREQUENCIES, :FREQUENCIES] > 0
    signs[0, 0] = False
    return np.packbits(signs)


def mirrored(prints: ArrayLike) -> Prints:
    """The fingerprints of the same pictures mirrored left to right, shape (..., 32) as given.

    Mirroring changes the sign of every wave that is odd along the rows, so the pictures are not needed.
    """
    return np.asarray(prints, dtype=np.uint8) ^ _ODD


_ODD = np.packbits(np.arange(FREQUENCIES * FREQUENCIES) % 2 == 1)


def nearest(prints: Prints, among: Prints) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each picture, the most similar one among others.

    Parameters
    ----------
    prints, among
        Fingerprints of pictures, uint8, shapes (slices, 32) and (others, 32), others at least one.

    Returns
    -------
    The number of bits that differ (Hamming distance), and the index in ``among``, both shape (slices,).
    """
    from groundglass.similarity import NeighbourIndex  # detection does not search

    signs, others = (2 * np.unpackbits(one, axis=1).astype(np.float32) - 1 for one in (prints, among))
    agreement, places = NeighbourIndex(others, exact=True).search(signs, 1)
    return ((signs.shape[1] - agreement[:, 0]) / 2).astype(np.intp), places[:, 0]


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Fingerprints of every slice of a bundle's data, sorted, so that their order reveals nothing.

    Attributes
    ----------
    data
        The fingerprint of the whole data (groundglass.data.manifest.fingerprint), as in the bundle's facts.
    files
        uint8, shape (slices, 16); see :func:`file_print`.
    pictures
        uint8, shape (slices, 32); see :func:`picture_print`.
    parts
        uint8, shape (slices,): each slice's part of the split, as an index into :data:`PARTS`.
    """

    data: str
    files: Prints
    pictures: Prints
    parts: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.files)

    @classmethod
    def of(cls, paths: Sequence[Path | str], parts: Sequence[str], data: str) -> Self:
        """Take the fingerprints of slices.

        Parameters
        ----------
        paths, parts
            The slices' files, and the part of each; slices outside :data:`PARTS` are left out.
        data
            The fingerprint of the whole data.

        Raises
        ------
        ScanError
            If a file cannot be read as a slice.
        """
        wanted = [(Path(path), part) for path, part in zip(paths, parts, strict=True) if part in PARTS]
        with ThreadPoolExecutor(READERS) as pool:
            pictures = list(pool.map(_read_print, [path for path, _ in wanted]))
        records = np.zeros(len(wanted), dtype=RECORD)
        for record, (path, part), picture in zip(records, wanted, pictures, strict=True):
            record["file"], record["picture"], record["part"] = file_print(path), picture, PARTS.index(part)
        order = sorted(range(len(records)), key=lambda row: records[row].tobytes())
        return cls._of_records(records[order], data)

    @classmethod
    def _of_records(cls, records: NDArray[np.void], data: str) -> Self:
        return cls(data, records["file"], records["picture"], records["part"])

    def trained(self) -> "Fingerprints":
        """The fingerprints of the training and validation sets."""
        used = self.parts != PARTS.index("test")
        return Fingerprints(self.data, self.files[used], self.pictures[used], self.parts[used])

    def parts_of(self, paths: Iterable[Path | str]) -> list[str]:
        """The part of the split that each file belongs to; "" for a file that the bundle does not know.

        Files with the same content as a training slice belong to the training set, wherever else they appear.
        """
        known: dict[bytes, int] = {}
        for print_of_file, part in zip(self.files, self.parts.tolist(), strict=True):
            known[print_of_file.tobytes()] = min(part, known.get(print_of_file.tobytes(), len(PARTS)))
        found = (known.get(file_print(Path(path)).tobytes()) for path in paths)
        return ["" if part is None else PARTS[part] for part in found]

    def to_bytes(self) -> bytes:
        """The content of ``fingerprints.bin``, the same for the same slices in any order."""
        records = np.zeros(len(self), dtype=RECORD)
        records["file"], records["picture"], records["part"] = self.files, self.pictures, self.parts
        content = MAGIC + bytes.fromhex(self.data) + records.tobytes()
        return content + hashlib.sha256(content).digest()[:CHECK_BYTES]

    @classmethod
    def from_bytes(cls, content: bytes, source: Path) -> Self:
        """Read what :meth:`to_bytes` gives; ``source`` is the bundle that errors name.

        Raises
        ------
        BundleError
            If it is damaged or of another version.
        """
        body, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
        start = len(MAGIC) + DATA_BYTES
        whole = len(body) > start and not (len(body) - start) % RECORD.itemsize
        if not whole or hashlib.sha256(body).digest()[:CHECK_BYTES] != check or not body.startswith(MAGIC):
            raise BundleError(
                f"{source}: {FINGERPRINTS} is damaged or has another version; get a new copy of the bundle, or "
                "delete the file"
            )
        records = np.frombuffer(body, dtype=RECORD, offset=start)
        return cls._of_records(records, body[len(MAGIC) : start].hex())


def _read_print(path: Path) -> Prints:
    return picture_print(Preprocessing().picture(read_scan(path)))
