"""A phantom's CT series as other scanners and archives write it: other storage of HU, names, patients and UIDs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from groundglass.files import write_bytes
from groundglass.phantom.dicom_syntax import encode


@dataclass(frozen=True)
class Storage:
    """How HU are stored: as ``(HU - intercept) / slope``, in ``bits`` of 16 bits."""

    bits: int
    signed: bool
    intercept: int
    slope: float = 1.0

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and largest stored value."""
        if self.signed:
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1


STORAGES = {
    "unsigned": Storage(12, False, -1024),
    "unsigned-16": Storage(16, False, -1024),
    "unsigned-8192": Storage(16, False, -8192),
    "signed": Storage(16, True, 0),
    "signed-1024": Storage(16, True, -1024),
    "half-hu": Storage(16, False, -1024, 0.5),
}
"""The kinds that scanners use: 12 bits from -1024 HU; 16 bits; the extended scale; signed HU; signed with an
intercept, which leaves room for padding; steps of half a HU."""


def store(image: Dataset, storage: str, padding: int | None = None) -> None:
    """Store an image's HU in another way, with a padding value, as stored, outside a round field of view."""
    kind = STORAGES[storage]
    low, high = kind.limits
    stored = np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns)
    hu = stored * float(image.RescaleSlope) + float(image.RescaleIntercept)
    values = np.rint((hu - kind.intercept) / kind.slope).clip(low, high)
    if padding is not None:
        assert low <= padding <= high
        values[outside_view(*hu.shape)] = padding
        image.add_new("PixelPaddingValue", "SS" if kind.signed else "US", padding)
    image.PixelData = values.astype("<i2" if kind.signed else "<u2").tobytes()
    image.BitsStored, image.HighBit = kind.bits, kind.bits - 1
    image.PixelRepresentation = int(kind.signed)
    image.RescaleIntercept, image.RescaleSlope = str(kind.intercept), str(kind.slope)


def outside_view(rows: int, columns: int) -> NDArray[np.bool_]:
    """Where a slice is outside the circle that touches its edges; bool, shape (rows, columns)."""
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.asarray(y * y + x * x > 1)


def renew(image: Dataset, word: object, *keywords: str) -> None:
    """Give an image other UIDs, derived from its own and a word."""
    for keyword in keywords:
        setattr(image, keyword, generate_uid(entropy_srcs=[image[keyword].value, str(word)]))


def encoded(images: list[Dataset], syntax: str, names: str = "ordered", series: int = 1) -> dict[str, bytes]:
    """The files of images from the feet to the head by name; ``names`` are ordered, reversed or shuffled."""
    numbers = np.arange(len(images), 0, -1)
    if names != "ordered":
        numbers = numbers[::-1] if names == "reversed" else np.random.default_rng(0).permutation(numbers)
    return {
        f"{series:03d}-{number:04d}.dcm": encode(image, syntax)
        for number, image in zip(numbers, images, strict=True)
    }


def write_files(folder: Path, files: dict[str, bytes]) -> list[Path]:
    """Write files by name, and return their paths."""
    for name, content in files.items():
        write_bytes(folder / name, content)
    return [folder / name for name in files]
