"""The headers of a phantom's CT images: CT Image Storage and Enhanced CT Image Storage (DICOM PS3.3 A.3, A.38)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

from groundglass.errors import GroundglassError
from groundglass.phantom.dicom_syntax import file_meta
from groundglass.phantom.phantom import PhantomStack
from groundglass.scan.volume import Geometry

DATE = "20200101"
TIME = "120000"
MAKER = "Groundglass"
MODEL = "Synthetic phantom"


@dataclass(frozen=True)
class Storage:
    """How HU are stored: as ``(HU - intercept) / slope``, in ``bits`` of 16 bits."""

    bits: int
    signed: bool
    intercept: int
    slope: float = 1.0

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest stored value."""
        if self.signed:
            return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
        return 0, (1 << self.bits) - 1

    def store(self, hu: NDArray[np.int16]) -> NDArray[np.integer[Any]]:
        """HU as stored values, int16 or uint16, clipped to the limits."""
        values = np.rint((hu.astype(np.float64) - self.intercept) / self.slope).clip(*self.limits)
        return values.astype(np.int16 if self.signed else np.uint16)


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


@dataclass(frozen=True)
class Person:
    """The phantom's patient, who is obviously not a real person."""

    name: str = "Phantom^0000"
    id: str = "PHANTOM-0000"
    sex: str = "O"


@dataclass(frozen=True)
class PhantomHeader:
    """What the headers of a series' images state.

    Attributes
    ----------
    person
        The patient.
    series
        SeriesNumber; it also makes the UIDs of a study's series different.
    storage
        How HU are stored.
    padding
        PixelPaddingValue, as a stored value, outside a round field of view; None for no padding.
    key
        All UIDs are derived from it.
    body_part, kernel
        BodyPartExamined and ConvolutionKernel.
    """

    person: Person
    series: int
    storage: Storage
    padding: int | None
    key: str
    body_part: str = "CHEST"
    kernel: str = "B60f"

    def uid(self, *parts: object) -> str:
        """A UID that depends only on the key and ``parts``."""
        return generate_uid(entropy_srcs=[self.key, *(f"/{part}" for part in parts)])


def numbers(values: Iterable[float]) -> list[str]:
    """Numbers as DICOM's DS, of at most 16 characters each."""
    return [format_number_as_ds(float(value) + 0.0) for value in values]


def make(**values: Any) -> Dataset:
    """A dataset of these values, by keyword."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def classic_images(stack: PhantomStack, header: PhantomHeader) -> list[Dataset]:
    """One CT image per slice, in the stack's order.

    InstanceNumber counts down: it runs from head to feet, as with most scanners.
    """
    count = len(stack.hu)
    common = general(stack, header)
    common.update(
        make(
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            SOPClassUID=CTImageStorage,
            PatientPosition=stack.position,
            PixelSpacing=pixel_spacing(stack.geometry),
            ImageOrientationPatient=orientation(stack.geometry),
            SliceThickness=numbers([thickness(stack.geometry)])[0],
            RescaleIntercept=str(header.storage.intercept),
            RescaleSlope=numbers([header.storage.slope])[0],
            RescaleType="HU",
            WindowCenter="-600",
            WindowWidth="1500",
            KVP="120",
            XRayTubeCurrent="100",
            ConvolutionKernel=header.kernel,
        )
    )
    pixels = stored_pixels(stack, header)
    return [
        _classic_image(common, header, pixels[index], stack.geometry.positions[index], count - index)
        for index in range(count)
    ]


def _classic_image(
    common: Dataset,
    header: PhantomHeader,
    pixels: NDArray[np.generic],
    position: NDArray[np.float64],
    number: int,
) -> Dataset:
    # A deep copy, since the tests' faults change single images.
    image = Dataset.from_json(common.to_json())
    image.SOPInstanceUID = header.uid("image", header.series, number)
    image.InstanceNumber = str(number)
    image.ImagePositionPatient = numbers(position)
    image.SliceLocation = numbers([position[2]])[0]
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OW"
    return image


def general(stack: PhantomStack, header: PhantomHeader) -> Dataset:
    """The patient, study, series, frame of reference, equipment and layout of the pixels (PS3.3 C.7).

    Raises
    ------
    GroundglassError
        If the padding value cannot be stored.
    """
    person, storage = header.person, header.storage
    low, high = storage.limits
    if header.padding is not None and not low <= header.padding <= high:
        raise GroundglassError(f"padding {header.padding} cannot be stored: the limits are {low} and {high}")
    dataset = make(
        SpecificCharacterSet="ISO_IR 192",
        PatientName=person.name,
        PatientID=person.id,
        PatientBirthDate="",
        PatientSex=person.sex,
        StudyInstanceUID=header.uid("study"),
        StudyDate=DATE,
        StudyTime=TIME,
        StudyID="1",
        StudyDescription="Synthetic chest phantom",
        AccessionNumber="",
        ReferringPhysicianName="",
        SeriesInstanceUID=header.uid("series", header.series),
        SeriesNumber=str(header.series),
        SeriesDescription="Phantom",
        SeriesDate=DATE,
        SeriesTime=TIME,
        Modality="CT",
        BodyPartExamined=header.body_part,
        FrameOfReferenceUID=header.uid("frame of reference"),
        PositionReferenceIndicator="",
        Manufacturer=MAKER,
        ManufacturerModelName=MODEL,
        DeviceSerialNumber="0",
        SoftwareVersions="1",
        AcquisitionNumber="1",
        AcquisitionDate=DATE,
        AcquisitionTime=TIME,
        ContentDate=DATE,
        ContentTime=TIME,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stack.hu.shape[1],
        Columns=stack.hu.shape[2],
        BitsAllocated=16,
        BitsStored=storage.bits,
        HighBit=storage.bits - 1,
        PixelRepresentation=int(storage.signed),
    )
    if header.padding is not None:
        dataset.add_new("PixelPaddingValue", "SS" if storage.signed else "US", header.padding)
    return dataset


def stored_pixels(stack: PhantomStack, header: PhantomHeader) -> NDArray[np.integer[Any]]:
    """The stack's pixels as they are stored, int16 or uint16, with padding outside the round field of view."""
    pixels = header.storage.store(stack.hu)
    if header.padding is not None:
        pixels[:, outside_view(*stack.hu.shape[1:])] = header.padding
    return pixels


def outside_view(rows: int, columns: int) -> NDArray[np.bool_]:
    """Where a slice lies outside the circle that touches its edges; bool, shape (rows, columns)."""
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.asarray(y * y + x * x > 1)


def pixel_spacing(geometry: Geometry) -> list[str]:
    """Distance between rows and between columns, in mm."""
    return numbers(np.linalg.norm([geometry.row_step, geometry.column_step], axis=1))


def orientation(geometry: Geometry) -> list[str]:
    """ImageOrientationPatient: the directions in which the columns and the rows run."""
    steps = (geometry.column_step, geometry.row_step)
    return numbers(np.concatenate([step / np.linalg.norm(step) for step in steps]))


def thickness(geometry: Geometry) -> float:
    """Distance between neighbouring slices in mm; 1 for a single slice."""
    steps = np.abs(np.diff(geometry.heights_mm))
    return float(np.median(steps)) if steps.any() else 1.0


MOMENT = DATE + TIME


def enhanced_image(stack: PhantomStack, header: PhantomHeader) -> Dataset:
    """The stack as one Enhanced CT image, its frames in the stack's order."""
    count = len(stack.hu)
    image = general(stack, header)
    image.update(
        make(
            ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            PatientPosition=stack.position,
            SOPClassUID=EnhancedCTImageStorage,
            SOPInstanceUID=header.uid("enhanced", header.series),
            InstanceNumber="1",
            NumberOfFrames=str(count),
            AcquisitionDateTime=MOMENT,
            AcquisitionDuration=1.0,
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
            ContentQualification="RESEARCH",
            BurnedInAnnotation="NO",
            LossyImageCompression="00",
            PresentationLUTShape="IDENTITY",
            AcquisitionContextSequence=Sequence(),
        )
    )
    del image.AcquisitionDate, image.AcquisitionTime
    _index_frames(image, header)
    image.SharedFunctionalGroupsSequence = Sequence([_shared(stack, header)])
    image.PerFrameFunctionalGroupsSequence = Sequence(
        _frame(number, position) for number, position in enumerate(stack.geometry.positions, 1)
    )
    image.PixelData = stored_pixels(stack, header).tobytes()
    image["PixelData"].VR = "OW"
    return image


def legacy_enhanced_image(stack: PhantomStack, header: PhantomHeader) -> Dataset:
    """The stack as one Legacy Converted Enhanced CT image, which highdicom makes from its classic images."""
    images = classic_images(stack, header)
    for image in images:
        image.file_meta = file_meta(image, ExplicitVRLittleEndian)
    return LegacyConvertedEnhancedCTImage(
        images,
        series_instance_uid=header.uid("series", header.series),
        series_number=header.series,
        sop_instance_uid=header.uid("legacy enhanced", header.series),
        instance_number=1,
    )


def _index_frames(image: Dataset, header: PhantomHeader) -> None:
    organization = header.uid("dimensions", header.series)
    image.DimensionOrganizationSequence = _item(DimensionOrganizationUID=organization)
    image.DimensionIndexSequence = Sequence(
        make(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=0x00209111,
            DimensionDescriptionLabel=label,
        )
        for pointer, label in ((0x00209056, "Stack ID"), (0x00209057, "In-Stack Position Number"))
    )


def _frame(number: int, position: NDArray[np.float64]) -> Dataset:
    return make(
        FrameContentSequence=_item(
            FrameAcquisitionNumber=1,
            FrameReferenceDateTime=MOMENT,
            FrameAcquisitionDateTime=MOMENT,
            FrameAcquisitionDuration=1.0,
            StackID="1",
            InStackPositionNumber=number,
            TemporalPositionIndex=1,
            DimensionIndexValues=[1, number],
        ),
        PlanePositionSequence=_item(ImagePositionPatient=numbers(position)),
    )


def _shared(stack: PhantomStack, header: PhantomHeader) -> Dataset:
    """What all frames have in common (PS3.3 C.7.6.16.2 and C.8.15.3)."""
    thick = numbers([thickness(stack.geometry)])[0]
    group = make(
        PixelMeasuresSequence=_item(
            PixelSpacing=pixel_spacing(stack.geometry), SliceThickness=thick, SpacingBetweenSlices=thick
        ),
        PlaneOrientationSequence=_item(ImageOrientationPatient=orientation(stack.geometry)),
        FrameVOILUTSequence=_item(WindowCenter="-600", WindowWidth="1500"),
        FrameAnatomySequence=_item(
            FrameLaterality="U", AnatomicRegionSequence=Sequence([CodedConcept.from_code(codes.SCT.Chest)])
        ),
        PixelValueTransformationSequence=_item(
            RescaleIntercept=str(header.storage.intercept),
            RescaleSlope=numbers([header.storage.slope])[0],
            RescaleType="HU",
        ),
        IrradiationEventIdentificationSequence=_item(IrradiationEventUID=header.uid("irradiation")),
    )
    group.update(_ct_groups(stack, header))
    return group


def _ct_groups(stack: PhantomStack, header: PhantomHeader) -> Dataset:
    rows, columns = stack.hu.shape[1:]
    high, wide = (float(mm) for mm in pixel_spacing(stack.geometry))
    return make(
        CTImageFrameTypeSequence=_item(
            FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
            PixelPresentation="MONOCHROME",
            VolumetricProperties="VOLUME",
            VolumeBasedCalculationTechnique="NONE",
        ),
        CTAcquisitionTypeSequence=_item(
            AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"
        ),
        CTAcquisitionDetailsSequence=_item(
            RotationDirection="CW",
            RevolutionTime=0.5,
            SingleCollimationWidth=0.6,
            TotalCollimationWidth=38.4,
            TableHeight=150.0,
            GantryDetectorTilt="0",
            DataCollectionDiameter="500",
        ),
        CTTableDynamicsSequence=_item(TableSpeed=60.0, TableFeedPerRotation=30.0, SpiralPitchFactor=0.8),
        CTPositionSequence=_item(
            TablePosition=0.0,
            DataCollectionCenterPatient=[0.0, 0.0, 0.0],
            ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
        ),
        CTGeometrySequence=_item(DistanceSourceToDetector="1000", DistanceSourceToDataCollectionCenter=550.0),
        CTReconstructionSequence=_item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel=header.kernel,
            ConvolutionKernelGroup="LUNG",
            ImageFilter="NONE",
            ReconstructionAngle=360.0,
            ReconstructionFieldOfView=[wide * columns, high * rows],
            ReconstructionPixelSpacing=[high, wide],
        ),
        CTExposureSequence=_item(
            ExposureTimeInms=500.0,
            XRayTubeCurrentInmA=100.0,
            ExposureInmAs=50.0,
            ExposureModulationType="NONE",
            CTDIvol=3.0,
            CTDIPhantomTypeCodeSequence=Sequence([CodedConcept.from_code(codes.DCM.IECBodyDosimetryPhantom)]),
        ),
        CTXRayDetailsSequence=_item(
            KVP="120",
            FocalSpots="1",
            FilterType="FLAT",
            FilterMaterial="ALUMINUM",
            CalciumScoringMassFactorPatient=1.0,
        ),
    )


def _item(**values: object) -> Sequence:
    return Sequence([make(**values)])
