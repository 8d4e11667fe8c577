"""A phantom as one multi-frame image: Enhanced CT (DICOM PS3.3 A.38.1) and Legacy Converted Enhanced CT (A.70)."""

import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from groundglass.scan.phantom.dicom_headers import (
    DATE,
    TIME,
    Header,
    classic_images,
    general,
    image_pixel,
    make,
    numbers,
    orientation,
    pixel_spacing,
    stored_pixels,
    thickness,
)
from groundglass.scan.phantom.dicom_syntax import file_meta
from groundglass.scan.phantom.stack import Stack

MOMENT = DATE + TIME


def enhanced_image(stack: Stack, header: Header) -> Dataset:
    """The stack as one Enhanced CT image, its frames in the stack's order."""
    count = len(stack.hu)
    image = general(stack, header)
    image.update(image_pixel(stack, header))
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


def legacy_enhanced_image(stack: Stack, header: Header) -> Dataset:
    """The stack as one Legacy Converted Enhanced CT image, made of its classic images by highdicom."""
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


def _index_frames(image: Dataset, header: Header) -> None:
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


def _shared(stack: Stack, header: Header) -> Dataset:
    """What all frames have in common (PS3.3 C.7.6.16.2 and C.8.15.3)."""
    thick = numbers([thickness(stack.geometry)])[0]
    group = make(
        PixelMeasuresSequence=_item(
            PixelSpacing=pixel_spacing(stack.geometry), SliceThickness=thick, SpacingBetweenSlices=thick
        ),
        PlaneOrientationSequence=_item(ImageOrientationPatient=orientation(stack.geometry)),
        FrameVOILUTSequence=_item(WindowCenter="-600", WindowWidth="1500"),
        FrameAnatomySequence=_item(
            FrameLaterality="U", AnatomicRegionSequence=Sequence([_code(codes.SCT.Chest)])
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


def _ct_groups(stack: Stack, header: Header) -> Dataset:
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
            CTDIPhantomTypeCodeSequence=Sequence([_code(codes.DCM.IECBodyDosimetryPhantom)]),
        ),
        CTXRayDetailsSequence=_item(
            KVP="120",
            FocalSpots="1",
            FilterType="FLAT",
            FilterMaterial="ALUMINUM",
            CalciumScoringMassFactorPatient=1.0,
        ),
    )


def _code(code: Code) -> Dataset:
    return make(
        CodeValue=str(code.value),
        CodingSchemeDesignator=str(code.scheme_designator),
        CodeMeaning=str(code.meaning),
    )


def _item(**values: object) -> Sequence:
    return Sequence([make(**values)])
