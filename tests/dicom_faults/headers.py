"""Faults and oddities of the headers."""

import copy
from collections.abc import Callable

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_faults.series import renew

Images = list[Dataset]
Change = Callable[[Images], Images]

KEPT_IN_MINIMAL = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ImagePositionPatient", "PixelSpacing"),
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "RescaleIntercept", "RescaleSlope", "PixelData"),
)


def setting(**values: object) -> Change:
    """Give these values to all images."""

    def change(images: Images) -> Images:
        for image in images:
            for keyword, value in values.items():
                setattr(image, keyword, value)
        return images

    return change


def without(*keywords: str) -> Change:
    """Remove these elements from all images."""

    def change(images: Images) -> Images:
        for image in images:
            for keyword in keywords:
                delattr(image, keyword)
        return images

    return change


def with_text(keyword: str, vr: str, text: str, *, middle_only: bool = False) -> Change:
    """Give an element bytes that DICOM does not allow there."""
    content = text.encode()
    content += b" " * (len(content) % 2)
    tag = Tag(keyword)

    def change(images: Images) -> Images:
        for image in [images[len(images) // 2]] if middle_only else images:
            image[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True)
        return images

    return change


def minimal(images: Images) -> Images:
    """Keep only what is needed to show the pixels, and their positions."""
    return [_only(image, KEPT_IN_MINIMAL) for image in images]


def _only(image: Dataset, keywords: tuple[str, ...]) -> Dataset:
    kept = Dataset()
    for keyword in keywords:
        kept[keyword] = image[keyword]
    return kept


def same_places(images: Images) -> Images:
    """Two images more than once, as different images of the same pixels."""
    return images + [_renewed(image, "copy", "SOPInstanceUID") for image in images[3:5]]


def same_images(images: Images) -> Images:
    """Two images more than once, as the same image."""
    return images + copy.deepcopy(images[3:5])


def one_uid(images: Images) -> Images:
    """All images have the same identifier."""
    return setting(SOPInstanceUID=images[0].SOPInstanceUID)(images)


def two_acquisitions(images: Images) -> Images:
    """All positions twice, the second time with contrast agent, in one series."""
    again = [_renewed(image, "again", "SOPInstanceUID") for image in images]
    for image in again:
        image.AcquisitionNumber = "2"
        image.AcquisitionTime = "120500"
        image.InstanceNumber = str(image.InstanceNumber + len(images))
        image.RescaleIntercept = str(image.RescaleIntercept + 30)
    return images + again


def shared_seam(images: Images) -> Images:
    """Two consecutive acquisitions; the slice where they meet is in both."""
    seam = len(images) // 2
    upper = [_renewed(images[seam], "again", "SOPInstanceUID"), *images[seam + 1 :]]
    return images[: seam + 1] + setting(AcquisitionNumber="2", AcquisitionTime="120500")(upper)


def offset_passes(images: Images) -> Images:
    """A second pass over the same range, half a slice higher, in another acquisition."""
    return images + setting(AcquisitionNumber="2")(_higher(images))


def later_pass(images: Images) -> Images:
    """Such a second pass that only times distinguish from the first: each slice has its own time."""
    again = _higher(images)
    for start, one_pass in ((0, images), (90, again)):
        for number, image in enumerate(one_pass):
            minutes, seconds = divmod(start + 0.4 * number, 60)
            image.AcquisitionTime = f"12{int(minutes):02d}{seconds:09.6f}"
    return images + again


def alternating_phases(images: Images) -> Images:
    """Every second slice shows another phase of breathing."""
    for number, image in enumerate(images):
        image.ImageComments = f"Gated, {50 * (number % 2)}%"
    return images


def _higher(images: Images) -> Images:
    """The same slices again, shifted half a slice distance towards the head."""
    half = (images[1].ImagePositionPatient[2] - images[0].ImagePositionPatient[2]) / 2
    again = [_renewed(image, "again", "SOPInstanceUID") for image in images]
    for image in again:
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y, z + half]
        image.SliceLocation = str(z + half)
        image.InstanceNumber = str(image.InstanceNumber + len(images))
    return again


def table_shift(images: Images) -> Images:
    """The upper half of the slices is shifted 9 mm to the side."""
    for image in images[len(images) // 2 :]:
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x + 9, y, z]
    return images


def changing_intercept(images: Images) -> Images:
    """Every second image is stored in steps of half a HU."""
    for image in images[::2]:
        hu = np.frombuffer(image.PixelData, "<u2") * float(image.RescaleSlope) + float(image.RescaleIntercept)
        image.RescaleIntercept, image.RescaleSlope = "-1024", "0.5"
        image.PixelData = (2 * (hu + 1024)).round().astype("<u2").tobytes()
        image.BitsStored, image.HighBit = 16, 15
    return images


def two_series(images: Images) -> Images:
    """A second reconstruction of the same study."""
    again = [_renewed(image, "kernel", "SOPInstanceUID", "SeriesInstanceUID") for image in images]
    return images + setting(SeriesNumber="2", ConvolutionKernel="B30f")(again)


def two_patients(images: Images) -> Images:
    """The same slices of another person."""
    uids = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    again = [_renewed(image, "other", *uids) for image in images]
    return images + setting(PatientID="PHANTOM-9999", PatientName="Phantom^9999")(again)


def two_patients_one_series(images: Images) -> Images:
    """Half of the images of a series name another person."""
    for image in images[len(images) // 2 :]:
        image.PatientID, image.PatientName = "PHANTOM-9999", "Phantom^9999"
    return images


def _renewed(image: Dataset, word: str, *keywords: str) -> Dataset:
    again = copy.deepcopy(image)
    renew(again, word, *keywords)
    return again


def mixed_pixel_spacing(images: Images) -> Images:
    """The upper half of the slices has smaller pixels."""
    for image in images[len(images) // 2 :]:
        image.PixelSpacing = [format(0.8 * value, ".6g") for value in image.PixelSpacing]
    return images
