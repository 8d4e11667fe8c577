"""Bad and unusual DICOM input, made on demand: each fault has a simple name.

Not all are mistakes: a prone patient or a padded field of view is valid, and a reader must handle it
correctly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydicom.dataset import Dataset

from dicom_faults import cutting, files, headers, objects, pixels
from dicom_faults.headers import setting, with_text, without
from dicom_faults.series import encoded, renew, store, write_files
from groundglass.errors import GroundglassError
from groundglass.phantom import Phantom
from groundglass.phantom.dicom import PhantomStack, classic_images

Kind = TypeVar("Kind")


def _as_it_is(value: Kind) -> Kind:
    return value


@dataclass(frozen=True)
class Fault:
    """What is wrong with a series, and how to make it so.

    Attributes
    ----------
    title Description of the fault. stack
        Changes the slices and how they lie.
    images
        Changes the images' headers and pixels.
    files
        Changes the files, by their names.
    syntax
        The transfer syntax that it requires; "" for any.
    """

    title: str
    stack: Callable[[PhantomStack], PhantomStack] = _as_it_is
    images: Callable[[list[Dataset]], list[Dataset]] = _as_it_is
    files: Callable[[dict[str, bytes]], dict[str, bytes]] = _as_it_is
    syntax: str = ""


LYING = {
    "missing-slices": Fault("two slices in the middle are missing", cutting.missing_slices),
    "uneven-spacing": Fault("the upper half has twice the distance of slices", cutting.uneven_spacing),
    "one-position": Fault("all slices at one position", cutting.one_position),
    "one-slice": Fault("one slice only", cutting.one_slice),
    "gantry-tilt": Fault("the gantry is tilted by 15 degrees", cutting.gantry_tilt),
    "coronal": Fault("coronal slices", cutting.coronal),
    "sagittal": Fault("sagittal slices", cutting.sagittal),
    "oblique": Fault("the stack is turned by 15 degrees, as a patient may lie", cutting.oblique),
    "prone": Fault("the patient lies face down", cutting.prone, setting(PatientPosition="HFP")),
    "feet-first": Fault("the patient lies feet first", cutting.feet_first, setting(PatientPosition="FFS")),
    "quarter-turn": Fault("rows and columns are exchanged", cutting.quarter_turn),
    "turned-in-plane": Fault("the slices are turned by 15 degrees in their plane", cutting.turned_in_plane),
    "flat": Fault("all pixels have one value", cutting.flat),
    "no-lungs": Fault("soft tissue without lungs", cutting.no_lungs),
}
"""Of the slices and how they lie."""

HEADERS = {
    "same-places": Fault("two slices twice, as different images", images=headers.same_places),
    "same-images": Fault("two images twice, in files of different names", images=headers.same_images),
    "one-uid": Fault("all images have one SOP Instance UID", images=headers.one_uid),
    "two-acquisitions": Fault(
        "two acquisitions at the same positions in one series", images=headers.two_acquisitions
    ),
    "shared-seam": Fault(
        "two acquisitions continue each other and share the slice where they meet", images=headers.shared_seam
    ),
    "offset-passes": Fault(
        "two acquisitions of the same range, half a slice apart, in one series", images=headers.offset_passes
    ),
    "later-pass": Fault("such passes that only their times tell apart", images=headers.later_pass),
    "alternating-phases": Fault("two phases of breathing, slice by slice", images=headers.alternating_phases),
    "two-series": Fault("two series in one folder", images=headers.two_series),
    "two-patients": Fault("two patients in one folder", images=headers.two_patients),
    "two-patients-one-series": Fault(
        "two patients under one series UID", images=headers.two_patients_one_series
    ),
    "minimal-header": Fault("no modality, patient, study, orientation or numbers", images=headers.minimal),
    "no-position": Fault(
        "no position or orientation, InstanceNumber alone",
        images=without("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation"),
    ),
    "zeroed-position": Fault(
        "all positions set to 0, SliceLocation left", images=setting(ImagePositionPatient=[0, 0, 0])
    ),
    "table-shift": Fault("the upper half is shifted by 9 mm to the side", images=headers.table_shift),
    "changing-intercept": Fault(
        "every second slice is stored with another rescale", images=headers.changing_intercept
    ),
    "no-pixel-spacing": Fault("no pixel spacing", images=without("PixelSpacing")),
    "no-rescale": Fault(
        "no rescale slope and intercept", images=without("RescaleSlope", "RescaleIntercept", "RescaleType")
    ),
    "zero-slope": Fault("a rescale slope of 0", images=setting(RescaleSlope="0")),
    "nan-slope": Fault("a rescale slope that is not a number", images=with_text("RescaleSlope", "DS", "nan")),
    "text-intercept": Fault(
        "text for the rescale intercept", images=with_text("RescaleIntercept", "DS", "abc")
    ),
    "infinite-spacing": Fault(
        "an infinite pixel spacing", images=with_text("PixelSpacing", "DS", "inf\\inf")
    ),
    "text-position": Fault(
        "text for the position of one slice",
        images=with_text("ImagePositionPatient", "DS", "a\\b\\c", middle_only=True),
    ),
    "zero-spacing": Fault("a pixel spacing of 0", images=setting(PixelSpacing=["0", "0"])),
    "mixed-pixel-spacing": Fault("two pixel spacings in one series", images=headers.mixed_pixel_spacing),
    "head": Fault("the body part is the head", images=setting(BodyPartExamined="HEAD")),
    "control-characters": Fault(
        "control characters in the patient's name",
        images=setting(PatientName="Placeholder^0"),
        files=files.in_all(files.replaced(b"Placeholder^0", b"Pha\x1b[31m\x07\r\n^0")),
    ),
    "other-script": Fault(
        "a patient's name in another script", images=setting(PatientName="Фантом^Ünï=山田^太郎")
    ),
    "absurd-frames": Fault(
        "a NumberOfFrames of two thousand million", images=setting(NumberOfFrames="2000000000")
    ),
}
"""Of the headers."""

PIXELS = {
    "mixed-sizes": Fault("two matrix sizes in one series", images=pixels.mixed_sizes),
    "wrong-size": Fault("more rows than the pixel data have", images=pixels.each(pixels.wrong_size)),
    "no-pixels": Fault("no pixel data", images=without("PixelData")),
    "eight-bits": Fault("HU in 8 bits, in steps of 16", images=pixels.each(pixels.eight_bits)),
    "eight-bit-window": Fault(
        "grey levels of a lung window in 8 bits", images=pixels.each(pixels.eight_bit_window)
    ),
    "monochrome1": Fault(
        "to be shown inverted (MONOCHROME1)", images=setting(PhotometricInterpretation="MONOCHROME1")
    ),
    "header-only": Fault(
        "headers alone, as some exports make them",
        images=without(
            *("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"),
            *("PixelRepresentation", "PhotometricInterpretation"),
        ),
    ),
    "float-pixels": Fault(
        "floating-point pixel data", images=pixels.each(pixels.float_pixels), syntax="explicit-little"
    ),
    "wrapped": Fault("signed HU that the header calls unsigned", images=pixels.each(pixels.wrapped)),
    "overflowed": Fault("air that became the largest 16-bit value", images=pixels.each(pixels.overflowed)),
    "modality-lut": Fault("a modality LUT beside a rescale", images=pixels.each(pixels.modality_lut)),
    "trailing-bytes": Fault("more bytes than the pixels take", images=pixels.each(pixels.trailing_bytes)),
    "padding-range": Fault(
        "a range of padding values around a round field of view", images=pixels.each(pixels.padding_range)
    ),
    "overlay-bits": Fault("a drawing in the bits above the pixels", images=pixels.each(pixels.overlay_bits)),
}
"""Of the pixels."""

OBJECTS = {
    "localizer-in-series": Fault("a localizer within the series", images=objects.with_localizer),
    "localizer-alone": Fault("a localizer alone", images=objects.localizer_alone),
    "secondary-capture": Fault("a coloured screenshot", images=objects.screenshots),
    "mr": Fault("MR images", images=objects.magnetic_resonance),
    "pet": Fault("PET images", images=objects.positron_emission),
    "radiograph": Fault("a chest radiograph", images=objects.radiograph),
    "report": Fault("a structured report, without pixels", images=objects.report),
    "segmentation": Fault("a segmentation", images=objects.segmentation),
}
"""Objects that are not CT slices."""

FILES = {
    "truncated-pixels": Fault(
        "one file is cut off in its pixels",
        files=files.in_middle(files.half_pixels),
        syntax="explicit-little",
    ),
    "all-truncated": Fault(
        "all files are cut off in their pixels",
        files=files.in_all(files.half_pixels),
        syntax="explicit-little",
    ),
    "truncated-header": Fault("one file is cut off in its header", files=files.in_middle(files.half_header)),
    "empty-file": Fault("one file is empty", files=files.in_middle(files.empty)),
    "text-file": Fault("one file is a text named .dcm", files=files.in_middle(files.text)),
    "all-text": Fault("all files are texts named .dcm", files=files.in_all(files.text)),
    "no-preamble": Fault("no preamble", files=files.in_all(files.without_preamble)),
    "no-meta": Fault(
        "no file meta information",
        files=files.in_all(files.without_meta),
        syntax="implicit-little",
    ),
    "no-meta-big-endian": Fault(
        "big endian without file meta information",
        files=files.in_all(files.without_meta),
        syntax="explicit-big",
    ),
    "called-implicit": Fault(
        "explicit VRs, labelled as implicit",
        files=files.in_all(files.with_syntax("1.2.840.10008.1.2")),
        syntax="explicit-little",
    ),
    "called-explicit": Fault(
        "implicit VRs, labelled as explicit",
        files=files.in_all(files.with_syntax("1.2.840.10008.1.2.1")),
        syntax="implicit-little",
    ),
    "called-big-endian": Fault(
        "little endian, labelled as big endian",
        files=files.in_all(files.with_syntax("1.2.840.10008.1.2.2")),
        syntax="explicit-little",
    ),
    "unknown-syntax": Fault(
        "an unknown transfer syntax",
        files=files.in_all(files.with_syntax("1.2.840.10008.9.9.9")),
        syntax="explicit-little",
    ),
    "wrong-syntax": Fault(
        "compressed, but labelled as not compressed",
        files=files.in_all(files.with_syntax("1.2.840.10008.1.2.1")),
        syntax="jpeg-lossless",
    ),
    "corrupt-jpeg": Fault(
        "the JPEG of one file is damaged", files=files.in_middle(files.scrambled), syntax="jpeg-lossless"
    ),
    "corrupt-jpeg-ls": Fault(
        "the JPEG-LS of one file is damaged", files=files.in_middle(files.scrambled), syntax="jpeg-ls"
    ),
    "corrupt-jpeg-2000": Fault(
        "the JPEG 2000 of one file is damaged", files=files.in_middle(files.scrambled), syntax="jpeg-2000"
    ),
    "corrupt-rle": Fault(
        "the RLE of one file is damaged", files=files.in_middle(files.scrambled), syntax="rle"
    ),
}
"""Of the files."""

FAULTS = {**LYING, **HEADERS, **PIXELS, **OBJECTS, **FILES}
"""All of them."""


def write_series(
    phantom: Phantom,
    folder: Path,
    fault: str = "",
    *,
    syntax: str = "explicit-little",
    storage: str = "unsigned",
    padding: int | None = None,
    names: str = "ordered",
    series: int = 1,
    seed: int = 0,
    **values: str,
) -> list[Path]:
    """Write a phantom as a classic CT series with variations that write_phantom_dicom does not offer.

    Parameters
    ----------
    fault
        One of FAULTS; "" for none. A fault that requires a transfer syntax overrides ``syntax``.
    storage, padding
        How HU are stored, one of STORAGES, and PixelPaddingValue.
    names
        Whether the file names follow InstanceNumber (ordered), reverse it or are shuffled.
    series, seed
        SeriesNumber and a number that makes a further study; both change the UIDs.
    values
        Further values of all images, by keyword.
    """
    if fault and fault not in FAULTS:
        raise GroundglassError(f"no fault is called {fault}: there are {', '.join(FAULTS)}")
    chosen = FAULTS[fault] if fault else Fault("none")
    images = classic_images(chosen.stack(PhantomStack.of(phantom)))
    for image in setting(SeriesNumber=str(series), **values)(images):
        if (storage, padding) != ("unsigned", None):
            store(image, storage, padding)
        if series > 1:
            renew(image, series, "SeriesInstanceUID", "SOPInstanceUID")
        if seed:
            renew(image, seed, "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return write_files(
        folder, chosen.files(encoded(chosen.images(images), chosen.syntax or syntax, names, series))
    )


def write_faulty_dicom(
    phantom: Phantom, folder: Path, fault: str, *, storage: str = "unsigned", seed: int = 0, **values: str
) -> list[Path]:
    """Write a phantom as a classic CT series with a fault, one of FAULTS; arguments as :func:`write_series`."""
    return write_series(phantom, folder, fault, storage=storage, seed=seed, **values)
