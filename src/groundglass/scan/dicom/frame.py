"""Frame: what is kept of one DICOM image's header."""

from dataclasses import dataclass, field

from groundglass.scan.dicom.extent import Extent
from groundglass.scan.members import Found


@dataclass(frozen=True)
class Encoding:
    """How a file's pixels are stored (PS3.3 C.7.6.3, PS3.5 8 and A).

    Attributes
    ----------
    syntax
        The transfer syntax UID.
    rows, columns, frames, samples
        The size of the image; ``samples`` are the values of each pixel.
    allocated, stored, high_bit, signed
        Of each pixel, in bits.
    photometric
        PhotometricInterpretation.
    padding, padding_limit
        Stored values that are no measurement; None where there are none.
    extent
        Where the pixels lie in the file; None where there are none.
    offsets, lengths
        The extended offset table of PS3.3 C.7.6.3.1.8, b"" where there is none.
    """

    syntax: str
    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    padding: int | None
    padding_limit: int | None
    extent: Extent | None
    offsets: bytes = field(default=b"", repr=False)
    lengths: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Header:
    """What a file says of all of its frames; texts are "" where it says nothing.

    Attributes
    ----------
    image_type
        The values of ImageType.
    rescale_type
        What the rescaled values are: ``HU`` or nothing for a CT.
    lossy
        Whether LossyImageCompression says that pixels were changed.
    """

    found: Found
    encoding: Encoding
    sop_class: str
    sop_instance: str = field(repr=False)
    modality: str
    body_part: str
    patient_position: str
    image_type: tuple[str, ...]
    number: str
    rescale_type: str
    lossy: bool
    patient: str = field(repr=False)
    study: str = field(repr=False)
    series: str = field(repr=False)


@dataclass(frozen=True)
class Frame:
    """One image of a file, and where it lies; None for what its header does not state.

    Attributes
    ----------
    index
        Its number within the file, from 0.
    position, orientation, spacing
        ImagePositionPatient (3), ImageOrientationPatient (6) and PixelSpacing (2), mm.
    slope, intercept
        To HU; NaN where the header states no finite number.
    location, instance, gap, thickness
        SliceLocation, InstanceNumber, SpacingBetweenSlices and SliceThickness.
    stack
        StackID of an enhanced image.
    kernel
        ConvolutionKernel.
    marks
        What else tells the stacks of one series apart where their positions are the same.
    """

    header: Header
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float | None
    intercept: float | None
    location: float | None
    instance: float | None
    gap: float | None
    thickness: float | None
    stack: str
    kernel: str
    marks: tuple[str, ...]
