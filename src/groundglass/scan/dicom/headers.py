"""Headers: what a DICOM file states about itself and its frames, read without the pixels."""

import io
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydicom import Dataset, config, uid
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag, Tag

from groundglass.errors import ScanError
from groundglass.scan.dicom import frame as values
from groundglass.scan.dicom.frame import DicomFrame, Encoding, ImageHeader, PixelExtent, measure
from groundglass.scan.members import HEAD, MAX_BYTES, Found, found, open_member
from groundglass.scan.volume import Member

_DISTINGUISHING = """
    AcquisitionNumber TemporalPositionIdentifier ConvolutionKernel ImageType EchoTime KVP
    NominalPercentageOfCardiacPhase ContrastBolusAgent ReconstructionDiameter SeriesTime SliceThickness
    SeriesDescription ImageComments IrradiationEventUID
"""
_TIMES = "AcquisitionTime AcquisitionDateTime ContentTime"
_KEYWORDS = """
    ImageType SOPClassUID SOPInstanceUID Modality PatientID PatientAge BodyPartExamined PatientPosition
    StudyInstanceUID SeriesInstanceUID SeriesNumber InstanceNumber ImagePositionPatient ImageOrientationPatient
    SliceLocation SliceThickness SpacingBetweenSlices SamplesPerPixel PhotometricInterpretation NumberOfFrames
    Rows Columns PixelSpacing BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue
    PixelPaddingRangeLimit RescaleIntercept RescaleSlope RescaleType ModalityLUTSequence LossyImageCompression
    ExtendedOffsetTable
    ExtendedOffsetTableLengths DirectoryRecordSequence
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence
"""
_CONTENT = "FrameContentSequence"
_ENHANCED_DISTINGUISHING = (
    (_CONTENT, "FrameAcquisitionNumber"),
    (_CONTENT, "TemporalPositionIndex"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase"),
    ("CTReconstructionSequence", "ConvolutionKernel"),
    ("CTImageFrameTypeSequence", "FrameType"),
)
_ENHANCED_TIMES = ((_CONTENT, "FrameAcquisitionDateTime"),)
_TAGS: list[BaseTag | int] = [
    Tag(keyword) for keyword in dict.fromkeys(f"{_KEYWORDS} {_DISTINGUISHING} {_TIMES}".split())
]
_PIXEL_TAGS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_lock = threading.Lock()
CT_CLASSES = (uid.CTImageStorage, uid.EnhancedCTImageStorage, uid.LegacyConvertedEnhancedCTImageStorage)
T = TypeVar("T")
_NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
_DEFLATED = str(uid.DeflatedExplicitVRLittleEndian).encode()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom's warnings, which quote values and so may name the patient; not thread-safe."""
    before = config.settings.reading_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode = before


@quiet()
def read_header(found: Found) -> list[DicomFrame]:
    """Read a file's header and return its frames; a file without an image returns one.

    Raises
    ------
    ScanError
        If the file cannot be read, or its header is cut short or damaged.
    """
    dataset, encoding, whole = _read(found)
    kind = values.text(dataset, "Modality").upper() or values.text(dataset, "SOPClassUID")
    if not encoding.rows and kind in ("CT", *CT_CLASSES) and whole:
        problem = "holds the header of a CT image without its pixels"
        raise ScanError(str(found.member), problem, "export the series with its images")
    if not encoding.rows and kind in ("", "CT", *CT_CLASSES):
        raise ScanError(str(found.member), "its DICOM header is cut short or damaged", "get a new copy")
    header = ImageHeader(
        found=found,
        encoding=encoding,
        sop_class=values.text(dataset, "SOPClassUID"),
        sop_instance=values.text(dataset, "SOPInstanceUID"),
        modality=values.text(dataset, "Modality").upper(),
        body_part=values.text(dataset, "BodyPartExamined").upper(),
        patient_position=values.text(dataset, "PatientPosition").upper(),
        image_type=tuple(one.upper() for one in values.texts(dataset, "ImageType")),
        number=values.text(dataset, "SeriesNumber"),
        rescale_type=values.text(dataset, "RescaleType").upper(),
        lut=values.item(dataset, "ModalityLUTSequence"),
        lossy=values.text(dataset, "LossyImageCompression") == "01",
        patient=values.text(dataset, "PatientID"),
        age_years=values.years(dataset, "PatientAge"),
        study=values.text(dataset, "StudyInstanceUID"),
        series=values.text(dataset, "SeriesInstanceUID"),
    )
    return _frames(dataset, header)


@quiet()
def read_values(path: Path, keywords: Sequence[str]) -> dict[str, str]:
    """Values of a file's header as text; missing values are "".

    Raises
    ------
    ScanError
        If the file cannot be read, or its header is damaged.
    """
    try:
        stream, deflated = open_dicom(found(Member(path)))
        with stream:
            dataset = _dataset(stream, deflated, [Tag(keyword) for keyword in keywords])[0]
        return {keyword: values.text(dataset, keyword) for keyword in keywords}
    except Exception as error:  # as in read_header
        raise ScanError(path, "its DICOM header cannot be read", "it is damaged: get a new copy") from error


def open_dicom(found: Found) -> tuple[BinaryIO, bool]:
    """Open a file so that the offsets in its dataset are valid.

    Returns
    -------
    The stream, and whether it is the inflated dataset, without preamble, of a deflated file (PS3.5 A.5).
    """
    stream = open_member(found.member)
    start = stream.read(HEAD)
    stream.seek(0)
    if _DEFLATED not in start or start[132:138] != b"\x02\0\0\0UL":
        return stream, False
    with stream:
        stream.seek(144 + int.from_bytes(start[140:144], "little"))
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        dataset = inflater.decompress(stream.read(), MAX_BYTES)
    if len(dataset) >= MAX_BYTES:
        raise ScanError(
            str(found.member), f"inflates to over {MAX_BYTES >> 30} GiB", "save it as explicit little endian"
        )
    return io.BytesIO(dataset), True


def whole_file(found: Found) -> bytes:
    """The whole content of :func:`open_dicom`; the last file is kept in memory.

    Used for multi-frame files that are deflated or in a ZIP, whose frames cannot be accessed one at a time.
    """
    with _lock:
        return _whole_file(found)


@lru_cache(maxsize=1)
def _whole_file(found: Found) -> bytes:
    with open_dicom(found)[0] as stream:
        return stream.read()


def _read(found: Found) -> tuple[Dataset, Encoding, bool]:
    """The header, the encoding of the pixels, and whether a file without pixels ends with a complete element."""
    try:
        stream, deflated = open_dicom(found)
        with stream:
            dataset, syntax, implicit, little = _dataset(stream, deflated)
            end = stream.tell()
            encoding = _encoding(dataset, syntax, measure(stream, implicit, little))
            return dataset, encoding, end == stream.seek(0, io.SEEK_END) and _uncut(dataset)
    except ScanError:
        raise
    except PermissionError as error:
        raise ScanError(str(found.member), "is not readable", "change its permissions") from error
    except (
        Exception
    ) as error:  # pydicom raises almost any exception on damaged bytes, and may quote a patient's name
        remedy = "it is damaged: get a new copy"
        raise ScanError(str(found.member), "its DICOM header cannot be read", remedy) from error


def _uncut(dataset: Dataset) -> bool:
    """Whether each value that was read has the length that its element states."""
    for tag in dataset.keys():  # noqa: SIM118 - iterating over the dataset would convert its values
        element = dataset.get_item(tag)
        if not isinstance(element, RawDataElement) or element.length == values.UNDEFINED:
            continue
        if len(element.value or b"") < element.length:
            return False
    return True


def _dataset(
    stream: BinaryIO, deflated: bool, tags: list[BaseTag | int] = _TAGS
) -> tuple[Dataset, str, bool, bool]:
    """The dataset up to its pixels, where ``stream`` is left; its syntax; whether implicit, little endian.

    The encoding is taken from the elements themselves, not from the file's meta information.
    """
    syntax = str(uid.DeflatedExplicitVRLittleEndian)
    if not deflated:
        start = read_partial(stream, stop_when=lambda *_: True, force=True)
        syntax = str(start.file_meta.get("TransferSyntaxUID", "")).strip(" \0")
    first = stream.read(6)
    stream.seek(-len(first), io.SEEK_CUR)
    little = first[1:2] == b"\0"
    implicit = little and not first[4:6].isupper()
    dataset = read_dataset(stream, implicit, little, stop_when=_at_pixels, specific_tags=tags)
    if not syntax or (syntax in _NATIVE and not deflated):
        native = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        syntax = str(uid.ImplicitVRLittleEndian if implicit else native)
    return dataset, syntax, implicit, little


def _at_pixels(tag: BaseTag, representation: str | None, length: int) -> bool:
    return tag in _PIXEL_TAGS


def _encoding(dataset: Dataset, syntax: str, extent: PixelExtent | None) -> Encoding:
    allocated = values.whole(dataset, "BitsAllocated")
    stored = values.whole(dataset, "BitsStored", allocated)
    return Encoding(
        syntax=syntax,
        rows=values.whole(dataset, "Rows"),
        columns=values.whole(dataset, "Columns"),
        frames=max(1, values.whole(dataset, "NumberOfFrames", 1)),
        samples=values.whole(dataset, "SamplesPerPixel", 1),
        allocated=allocated,
        stored=stored,
        high_bit=values.whole(dataset, "HighBit", stored - 1),
        signed=values.whole(dataset, "PixelRepresentation") == 1,
        photometric=values.text(dataset, "PhotometricInterpretation").upper(),
        padding=values.stored_value(dataset, "PixelPaddingValue"),
        padding_limit=values.stored_value(dataset, "PixelPaddingRangeLimit"),
        extent=extent,
        offsets=values.raw_bytes(dataset, "ExtendedOffsetTable"),
        lengths=values.raw_bytes(dataset, "ExtendedOffsetTableLengths"),
    )


@dataclass(frozen=True)
class _Source:
    """The place of a frame's values: its own functional groups, else the shared ones, else the dataset."""

    dataset: Dataset
    groups: tuple[Dataset, ...] = ()

    def get(self, read: Callable[[Dataset, str], T], sequence: str, keyword: str) -> T:
        """A value, converted by ``read``; if there are functional groups, it is taken from ``sequence``."""
        places = [values.item(group, sequence) for group in self.groups] or [self.dataset]
        *own, last = [read(place, keyword) for place in places]
        return next((value for value in own if value not in (None, "", ())), last)


def _frames(dataset: Dataset, header: ImageHeader) -> list[DicomFrame]:
    """The frames of a file; those of an enhanced image (PS3.3 C.7.6.16) as its functional groups describe them.

    Raises
    ------
    ScanError
        If the number of frames of an enhanced image differs from the number of functional groups.
    """
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        marks, times = ([("", keyword) for keyword in words.split()] for words in (_DISTINGUISHING, _TIMES))
        return [_frame(header, 0, _Source(dataset), "InstanceNumber", marks, times)]
    shared = values.item(dataset, "SharedFunctionalGroupsSequence")
    own = values.items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(own) != header.encoding.frames:
        problem = f"its header claims {header.encoding.frames} frames and describes {len(own)}"
        raise ScanError(str(header.found.member), problem, "it is damaged: get a new copy")
    sources = [_Source(Dataset(), (group, shared)) for group in own]
    return [
        _frame(header, index, source, "InStackPositionNumber", _ENHANCED_DISTINGUISHING, _ENHANCED_TIMES)
        for index, source in enumerate(sources)
    ]


def _frame(
    header: ImageHeader,
    index: int,
    source: _Source,
    instance: str,
    marks: Iterable[tuple[str, str]],
    times: Iterable[tuple[str, str]],
) -> DicomFrame:
    get = source.get
    rescale = "PixelValueTransformationSequence"
    return DicomFrame(
        header=header,
        index=index,
        position=get(partial(values.numbers, count=3), "PlanePositionSequence", "ImagePositionPatient"),
        orientation=get(
            partial(values.numbers, count=6), "PlaneOrientationSequence", "ImageOrientationPatient"
        ),
        spacing=get(partial(values.numbers, count=2), "PixelMeasuresSequence", "PixelSpacing"),
        slope=None if header.lut else get(values.rescale, rescale, "RescaleSlope"),
        intercept=None if header.lut else get(values.rescale, rescale, "RescaleIntercept"),
        location=values.number(source.dataset, "SliceLocation"),
        instance=get(values.number, _CONTENT, instance),
        gap=get(values.number, "PixelMeasuresSequence", "SpacingBetweenSlices"),
        thickness=get(values.number, "PixelMeasuresSequence", "SliceThickness"),
        stack=get(values.text, _CONTENT, "StackID"),
        kernel=get(values.text, "CTReconstructionSequence", "ConvolutionKernel"),
        marks=tuple(get(values.text, sequence, keyword) for sequence, keyword in marks),
        times=tuple(get(values.seconds, sequence, keyword) for sequence, keyword in times),
    )


@quiet()
def referenced_files(path: Path) -> tuple[list[Path], int]:
    """The files that the directory's records name.

    Returns
    -------
    The existing files, and the number of missing ones.

    Raises
    ------
    ScanError
        If the directory cannot be read, or names no file.
    """
    records = values.items(_read(found(Member(path)))[0], "DirectoryRecordSequence")
    names = [name for record in records if (name := values.texts(record, "ReferencedFileID"))]
    if not names:
        raise ScanError(path, "this DICOMDIR names no file", "name the folder of the DICOM files instead")
    places = [_place(path.parent, name) for name in names]
    files = list(dict.fromkeys(place for place in places if place is not None))
    return files, places.count(None)


def _place(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Path of a file, whose name may be in lower case on disk; None if it is missing or outside ``folder``."""
    if any(name in ("", ".", "..") or "/" in name for name in names):
        return None
    for spelled in (names, tuple(name.lower() for name in names)):
        place = folder.joinpath(*spelled)
        if place.is_file():
            return place
    return None
