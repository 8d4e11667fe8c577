"""Write a phantom as DICOM: a valid CT series of a patient who does not exist.

This module loads pydicom, highdicom and imagecodecs, so the package does not import it.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from groundglass.errors import GroundglassError
from groundglass.files import write_bytes
from groundglass.phantom.dicom_syntax import encode, file_meta
from groundglass.phantom.phantom import Phantom, phantom_geometry
from groundglass.scan.volume import Geometry

Form = Literal["classic", "enhanced", "legacy-enhanced"]
LEAST_HU = -1024
"""HU of the stored value 0: HU are stored in 12 bits, as most scanners do."""


@dataclass(frozen=True, eq=False)
class PhantomStack:
    """Slices to write as one series.

    Attributes
    ----------
    hu
        int16, shape (slices, rows, columns).
    geometry
        Where the slices lie, in the order of ``hu``.
    seed
        The phantom's seed, from which the patient's name and id are made.
    key
        All UIDs are derived from it.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    seed: int
    key: str

    @classmethod
    def of(cls, phantom: Phantom) -> "PhantomStack":
        """The slices of a phantom, from the feet to the head."""
        hu = np.rint(phantom.scan.pixels).astype(np.int16)
        return cls(hu, phantom_geometry(phantom), phantom.seed, f"phantom {phantom.seed} {hu.shape} 0")

    def uid(self, *parts: object) -> str:
        """A UID that depends only on the key and ``parts``."""
        return generate_uid(entropy_srcs=[self.key, *(f"/{part}" for part in parts)])


def write_phantom_dicom(
    phantom: Phantom, folder: Path, *, syntax: str = "explicit-little", form: Form | str = "classic"
) -> list[Path]:
    """Write a phantom as a CT series; the same arguments give the same bytes.

    The volume's centre is at :data:`groundglass.phantom.phantom.MIDDLE`.

    Parameters
    ----------
    phantom
        What to write.
    folder
        Output folder, created if needed. Files of the same names are replaced.
    syntax
        The transfer syntax, one of :data:`groundglass.phantom.dicom_syntax.SYNTAXES`.
    form
        ``classic`` is CT Image Storage, a file for each slice, named by InstanceNumber, which runs from head to
        feet; ``enhanced`` one file of Enhanced CT Image Storage; ``legacy-enhanced`` one of Legacy Converted
        Enhanced CT Image Storage.

    Returns
    -------
    The files, from the feet to the head.

    Raises
    ------
    GroundglassError
        If an argument is not one of the choices, or a file cannot be written.
    """
    stack = PhantomStack.of(phantom)
    if form == "classic":
        images = classic_images(stack)
    elif form == "enhanced":
        images = [_enhanced_image(stack)]
    elif form == "legacy-enhanced":
        images = [_legacy_enhanced_image(stack)]
    else:
        raise GroundglassError(f"there is no form {form}; choose from {', '.join(get_args(Form))}")
    paths = [folder / f"001-{number:04d}.dcm" for number in range(len(images), 0, -1)]
    for path, content in zip(paths, [encode(image, syntax) for image in images], strict=True):
        write_bytes(path, content)
    return paths


def classic_images(stack: PhantomStack) -> list[Dataset]:
    """One CT image per slice, in the order of the stack; InstanceNumber runs from head to feet."""
    common = _common(stack, "classic")
    common.PixelSpacing = _pixel_spacing(stack.geometry)
    common.ImageOrientationPatient = _orientation(stack.geometry)
    [common.SliceThickness] = decimals([_thickness(stack.geometry)])
    images = []
    for number, position, pixels in zip(
        range(len(stack.hu), 0, -1), stack.geometry.positions, _stored(stack), strict=True
    ):
        image = deepcopy(common)
        image.SOPInstanceUID = stack.uid("image", 1, number)
        image.InstanceNumber = str(number)
        image.ImagePositionPatient = decimals(position)
        image.SliceLocation = image.ImagePositionPatient[2]
        image.add_new("PixelData", "OW", pixels.tobytes())
        images.append(image)
    return images


def _enhanced_image(stack: PhantomStack) -> Dataset:
    """The stack as one Enhanced CT image, its frames in the stack's order."""
    image = _common(stack, "enhanced")
    image.SOPInstanceUID = stack.uid("enhanced", 1)
    image.NumberOfFrames = str(len(stack.hu))
    organization = stack.uid("dimensions", 1)
    image.DimensionOrganizationSequence = [dataset({"DimensionOrganizationUID": organization})]
    image.DimensionIndexSequence = [
        dataset(
            {
                "DimensionOrganizationUID": organization,
                "DimensionIndexPointer": pointer,
                "FunctionalGroupPointer": 0x00209111,
                "DimensionDescriptionLabel": label,
            }
        )
        for pointer, label in ((0x00209056, "Stack ID"), (0x00209057, "In-Stack Position Number"))
    ]
    image.SharedFunctionalGroupsSequence = [_shared(stack)]
    image.PerFrameFunctionalGroupsSequence = [
        dataset(
            {
                "FrameContentSequence": {
                    **_constant("frame"),
                    "InStackPositionNumber": number,
                    "DimensionIndexValues": [1, number],
                },
                "PlanePositionSequence": {"ImagePositionPatient": decimals(position)},
            }
        )
        for number, position in enumerate(stack.geometry.positions, 1)
    ]
    image.add_new("PixelData", "OW", _stored(stack).tobytes())
    return image


def _shared(stack: PhantomStack) -> Dataset:
    """Values shared by all frames of an Enhanced CT image."""
    spacing = _pixel_spacing(stack.geometry)
    [thickness] = decimals([_thickness(stack.geometry)])
    high, wide = map(float, spacing)
    rows, columns = stack.hu.shape[1:]
    shared = dataset(
        {
            **_constant("shared"),
            "PixelMeasuresSequence": {
                "PixelSpacing": spacing,
                "SliceThickness": thickness,
                "SpacingBetweenSlices": thickness,
            },
            "PlaneOrientationSequence": {"ImageOrientationPatient": _orientation(stack.geometry)},
            "IrradiationEventIdentificationSequence": {"IrradiationEventUID": stack.uid("irradiation")},
        }
    )
    [reconstruction] = shared.CTReconstructionSequence
    reconstruction.ReconstructionFieldOfView = [wide * columns, high * rows]
    reconstruction.ReconstructionPixelSpacing = [high, wide]
    return shared


def _legacy_enhanced_image(stack: PhantomStack) -> Dataset:
    """The stack as one Legacy Converted Enhanced CT image, which highdicom makes from its classic images."""
    images = classic_images(stack)
    for image in images:
        image.file_meta = file_meta(image, ExplicitVRLittleEndian)
    return LegacyConvertedEnhancedCTImage(
        images,
        series_instance_uid=stack.uid("series", 1),
        series_number=1,
        sop_instance_uid=stack.uid("legacy enhanced", 1),
        instance_number=1,
    )


def dataset(values: Mapping[str, Any]) -> Dataset:
    """A dataset of values by keyword; a mapping becomes a sequence of one item."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, [dataset(value)] if isinstance(value, Mapping) else value)
    return made


def decimals(numbers: Iterable[float]) -> list[str]:
    """Numbers as DICOM's DS, of at most 16 characters each."""
    return [format_number_as_ds(float(number) + 0.0) for number in numbers]


@cache
def _constant(part: str) -> dict[str, Any]:
    """Part of the values that are the same in the headers of all phantoms."""
    text = (files("groundglass.phantom") / "dicom_headers.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)[part])


def _common(stack: PhantomStack, form: str) -> Dataset:
    """The header of an image, without what differs between slices."""
    image = dataset({**_constant("every"), **_constant(form)})
    image.PatientName, image.PatientID = f"Phantom^{stack.seed:04d}", f"PHANTOM-{stack.seed:04d}"
    image.StudyInstanceUID, image.SeriesInstanceUID = stack.uid("study"), stack.uid("series", 1)
    image.FrameOfReferenceUID = stack.uid("frame of reference")
    image.Rows, image.Columns = stack.hu.shape[1:]
    return image


def _stored(stack: PhantomStack) -> NDArray[np.uint16]:
    return (stack.hu.astype(np.int32) - LEAST_HU).clip(0, 4095).astype(np.uint16)


def _pixel_spacing(geometry: Geometry) -> list[str]:
    return decimals(np.linalg.norm([geometry.row_step, geometry.column_step], axis=1))


def _orientation(geometry: Geometry) -> list[str]:
    """The directions of rows and columns, as ImageOrientationPatient."""
    steps = (geometry.column_step, geometry.row_step)
    return decimals(np.concatenate([step / np.linalg.norm(step) for step in steps]))


def _thickness(geometry: Geometry) -> float:
    """The distance between neighbouring slices in mm; 1 for a single slice."""
    steps = np.abs(np.diff(geometry.heights_mm))
    return float(np.median(steps)) if steps.any() else 1.0
