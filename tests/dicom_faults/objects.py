"""Objects that are not CT slices: localizers, screenshots, other modalities, reports and segmentations."""

import copy

import numpy as np
import pydicom.uid as uids
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicom_faults.headers import Images, setting, without
from dicom_faults.pixels import hounsfield, put_pixels
from dicom_faults.series import outside_view
from groundglass.phantom.dicom import dataset, decimals

PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "SliceThickness", "PixelSpacing")
RESCALE = ("RescaleIntercept", "RescaleSlope", "RescaleType")
CT_ALONE = ("ConvolutionKernel", "KVP", "XRayTubeCurrent", "AcquisitionNumber")
LAYOUT = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "PixelData", "WindowCenter", "WindowWidth", "ImageType"),
)


def with_localizer(images: Images) -> Images:
    """The series and its planning localizer, under one series UID."""
    return [*images, _localizer(images)]


def localizer_alone(images: Images) -> Images:
    """A localizer, which shows the whole chest from the front in one picture."""
    return [_localizer(images)]


def _localizer(images: Images) -> Dataset:
    """The mean density along each ray from front to back, four rows per slice."""
    hu = np.stack([hounsfield(image) for image in images])
    seen = np.repeat(hu.mean(axis=1)[::-1], 4, axis=0)
    image = copy.deepcopy(images[0])
    first, last = (np.array(end.ImagePositionPatient, dtype=float) for end in (images[0], images[-1]))
    high = abs(last[2] - first[2]) / max(len(images) - 1, 1)
    image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    image.SOPInstanceUID = uids.generate_uid(entropy_srcs=[image.SOPInstanceUID, "localizer"])
    image.InstanceNumber = "0"
    image.ImagePositionPatient = decimals([first[0], 0.0, last[2]])
    image.ImageOrientationPatient = decimals([1, 0, 0, 0, 0, -1])
    image.PixelSpacing = decimals([high / 4, float(image.PixelSpacing[1])])
    image.RescaleIntercept, image.RescaleSlope = "0", "1"
    put_pixels(image, seen.round().astype(np.int16))
    return image


def screenshots(images: Images) -> Images:
    """Coloured pictures of the slices (Secondary Capture)."""
    images = without(*PLACE, *RESCALE, *CT_ALONE, "WindowCenter", "WindowWidth")(images[:1])
    for image in images:
        grey = np.resize(np.arange(256, dtype=np.uint8), (image.Rows, image.Columns))
        put_pixels(image, grey)
        image.PixelData = np.repeat(grey[..., None], 3, axis=-1).tobytes()
    return setting(
        SOPClassUID=uids.SecondaryCaptureImageStorage,
        Modality="OT",
        ConversionType="WSD",
        ImageType=["DERIVED", "SECONDARY"],
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )(images)


def magnetic_resonance(images: Images) -> Images:
    """MR images at the same positions."""
    images = without(*RESCALE, *CT_ALONE)(images)
    return setting(SOPClassUID=uids.MRImageStorage, Modality="MR", ScanningSequence="SE", EchoTime="20")(
        images
    )


def positron_emission(images: Images) -> Images:
    """PET images at the same positions."""
    images = without("RescaleType", *CT_ALONE)(images)
    return setting(
        SOPClassUID=uids.PositronEmissionTomographyImageStorage,
        Modality="PT",
        Units="BQML",
        RescaleIntercept="0",
        RescaleSlope="1.5",
    )(images)


def radiograph(images: Images) -> Images:
    """A chest radiograph (Computed Radiography)."""
    images = without(*RESCALE, *CT_ALONE, *PLACE, "PatientPosition")([_localizer(images)])
    return setting(
        SOPClassUID=uids.ComputedRadiographyImageStorage,
        Modality="CR",
        ViewPosition="AP",
        ImageType=["ORIGINAL", "PRIMARY"],
    )(images)


def report(images: Images) -> Images:
    """A structured report, which has no pixels (Basic Text SR)."""
    title = dataset(
        {"CodeValue": "18748-4", "CodingSchemeDesignator": "LN", "CodeMeaning": "Diagnostic imaging study"}
    )
    images = without(*PLACE, *RESCALE, *CT_ALONE, *LAYOUT, "PatientPosition", "BodyPartExamined")(images[:1])
    return setting(
        SOPClassUID=uids.BasicTextSRStorage,
        Modality="SR",
        CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED",
        ValueType="CONTAINER",
        ContinuityOfContent="SEPARATE",
        ConceptNameCodeSequence=Sequence([title]),
    )(images)


def segmentation(images: Images) -> Images:
    """A binary segmentation of one frame, one bit per pixel (Segmentation Storage)."""
    images = without(*PLACE, *RESCALE, *CT_ALONE, "WindowCenter", "WindowWidth", "PatientPosition")(
        images[:1]
    )
    for image in images:
        inside = ~outside_view(image.Rows, image.Columns)
        image.PixelData = np.packbits(inside, bitorder="little").tobytes()
        image["PixelData"].VR = "OB"
    return setting(
        SOPClassUID=uids.SegmentationStorage,
        Modality="SEG",
        ImageType=["DERIVED", "PRIMARY"],
        SegmentationType="BINARY",
        NumberOfFrames="1",
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelRepresentation=0,
    )(images)
