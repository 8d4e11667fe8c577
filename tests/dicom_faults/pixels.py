"""Faults and oddities of the pixels and their layout."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_faults.headers import Images
from dicom_faults.series import outside_view
from groundglass.phantom.dicom import dataset

PADDING_HU = (-3024, -2500, -2000)
EIGHT_BIT_STEP_HU = 16
WINDOW_HU = (-1350, 150)


def hounsfield(image: Dataset) -> NDArray[np.float64]:
    """An image's pixels in HU, shape (rows, columns)."""
    dtype = "<i2" if image.PixelRepresentation else "<u2"
    stored = np.frombuffer(image.PixelData, dtype).reshape(image.Rows, image.Columns)
    return stored * float(image.RescaleSlope) + float(image.RescaleIntercept)


def put_pixels(image: Dataset, pixels: NDArray[np.generic]) -> None:
    """Store pixels, shape (rows, columns), of uint8, uint16 or int16, and describe their layout."""
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated = image.BitsStored = 8 * pixels.itemsize
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = int(pixels.dtype.kind == "i")
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"


def each(change: Callable[[Dataset], None]) -> Callable[[Images], Images]:
    """Change every image."""

    def apply(images: Images) -> Images:
        for image in images:
            change(image)
        return images

    return apply


def eight_bits(image: Dataset) -> None:
    """Eight bits for the whole range of HU, in steps of 16 HU."""
    coarse = (hounsfield(image) + 1024) / EIGHT_BIT_STEP_HU
    put_pixels(image, coarse.round().clip(0, 255).astype(np.uint8))
    image.RescaleIntercept, image.RescaleSlope = "-1024", str(EIGHT_BIT_STEP_HU)


def eight_bit_window(image: Dataset) -> None:
    """The grey levels of a lung window, which are not HU, without a rescale."""
    low, high = WINDOW_HU
    grey = ((hounsfield(image) - low) / (high - low)).clip(0, 1) * 255
    put_pixels(image, grey.round().astype(np.uint8))
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    del image.RescaleIntercept, image.RescaleSlope, image.RescaleType


def float_pixels(image: Dataset) -> None:
    """HU as floating-point numbers (FloatPixelData)."""
    image.FloatPixelData = hounsfield(image).astype("<f4").tobytes()
    image.BitsAllocated = 32
    image.RescaleIntercept, image.RescaleSlope = "0", "1"
    del image.PixelData, image.BitsStored, image.HighBit, image.PixelRepresentation


def wrapped(image: Dataset) -> None:
    """Signed HU whose header calls them unsigned, so that air is 64536 HU."""
    put_pixels(image, hounsfield(image).round().astype(np.int16))
    image.RescaleIntercept, image.RescaleSlope, image.PixelRepresentation = "0", "1", 0


def overflowed(image: Dataset) -> None:
    """Air became the largest value that 16 bits hold."""
    hu = hounsfield(image).round()
    put_pixels(image, np.where(hu < -950, 32767, hu).astype(np.int16))
    image.RescaleIntercept, image.RescaleSlope = "0", "1"


def modality_lut(image: Dataset) -> None:
    """A table that gives HU + 1024 for stored values of half a HU, together with a rescale for other values."""
    put_pixels(image, (2 * (hounsfield(image) + 1024)).round().clip(0, 8191).astype(np.uint16))
    table = (np.arange(8192) // 2).astype("<u2")
    image.RescaleIntercept, image.RescaleSlope = "-1024", "1"
    image.ModalityLUTSequence = Sequence(
        [dataset({"LUTDescriptor": [8192, 0, 16], "ModalityLUTType": "HU", "LUTData": table.tobytes()})]
    )
    for keyword, vr in (("LUTDescriptor", "US"), ("LUTData", "OW")):
        image.ModalityLUTSequence[0][keyword].VR = vr


def trailing_bytes(image: Dataset) -> None:
    """Zeros after the last row, as some converters leave them."""
    image.PixelData += bytes(100)


def padding_range(image: Dataset) -> None:
    """A round field of view, outside which several values mean padding (PS3.3 C.7.5.1.1.2)."""
    hu = hounsfield(image)
    values = np.resize(np.array(PADDING_HU), hu.shape)
    put_pixels(image, np.where(outside_view(*hu.shape), values, hu).astype(np.int16))
    image.RescaleIntercept, image.RescaleSlope = "0", "1"
    image.add_new("PixelPaddingValue", "SS", PADDING_HU[0])
    image.add_new("PixelPaddingRangeLimit", "SS", PADDING_HU[-1])


def overlay_bits(image: Dataset) -> None:
    """A drawing in a bit above BitsStored, as old scanners stored it (PS3.5 section 8.1.1, retired)."""
    if image.BitsStored > 12 or image.PixelRepresentation:
        stored = (hounsfield(image) + 1024).clip(0, 4095).round().astype(np.uint16)
        image.RescaleIntercept, image.RescaleSlope = "-1024", "1"
    else:
        stored = np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns).copy()
    stored[: image.Rows // 4] |= 1 << 12
    put_pixels(image, stored)
    image.BitsStored, image.HighBit = 12, 11


def mixed_sizes(images: Images) -> Images:
    """The upper half of the slices has half the matrix and pixels twice as large."""
    for image in images[len(images) // 2 :]:
        stored = np.frombuffer(image.PixelData, "<u2").reshape(image.Rows, image.Columns)
        coarse = np.ascontiguousarray(stored[::2, ::2])
        image.Rows, image.Columns = coarse.shape
        image.PixelSpacing = [format(2 * value, ".6g") for value in image.PixelSpacing]
        image.PixelData = coarse.tobytes()
    return images


def wrong_size(image: Dataset) -> None:
    """More rows in the header than in the pixel data."""
    image.Rows += 16
