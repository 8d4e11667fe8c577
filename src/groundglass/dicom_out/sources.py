"""Sources: what the objects that are written take over from the headers of the source images."""

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import pydicom
from pydicom.config import RAISE
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import validate_value

from groundglass.dicom_out.stamp import Stamp
from groundglass.errors import GroundglassError, ScanError
from groundglass.scan.dicom import values
from groundglass.scan.members import open_member
from groundglass.scan.volume import Instance, Member, Origin

_PERSON = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
)
_AS_IT_IS = {"PatientName", "PatientID", "StudyInstanceUID"}
"""An archive finds the patient and the study by these, valid or not."""
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_IMAGE = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_TAGS: list[Any] = [*_PERSON, *_LOSSY, *_IMAGE]
_SAME_DIRECTION = 1e-4


@dataclass(frozen=True)
class Plane:
    """Where an image lies, in mm, as its header says it (PS3.3 C.7.6.2.1.1)."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None


@dataclass(frozen=True)
class Source:
    """The image that one slice was read from.

    Attributes
    ----------
    frame
        From 1 within a multi-frame image; None in a classic one.
    shape
        (rows, columns), as it is stored.
    """

    sop_class: str
    sop_instance: str
    series: str
    frame: int | None
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Sources:
    """The source images of a volume.

    Attributes
    ----------
    slices
        In the volume's order.
    person
        The attributes of the patient and the study that the written objects take over, as valid DICOM.
    study
        StudyInstanceUID.
    reference
        FrameOfReferenceUID; "" where there is none.
    indicator
        PositionReferenceIndicator.
    lossy
        The attributes of lossy compression of the first image.
    planes
        Where the slices lie; empty where they do not share one place in the patient.
    thickness
        SliceThickness in mm; where the header does not state it, the distance of the slices, of a single one the
        width of a pixel.
    nowhere
        Why they do not; "" where they do.
    warnings
        What was missing or faulty.
    """

    slices: tuple[Source, ...]
    person: Dataset
    study: str
    reference: str
    indicator: str
    lossy: Dataset
    planes: tuple[Plane, ...]
    thickness: float
    nowhere: str
    warnings: tuple[str, ...]


def read_sources(origin: Origin, stamp: Stamp) -> Sources:
    """Read the headers of the images that a volume was read from.

    Raises
    ------
    GroundglassError
        If the images are of several patients or studies, or one has no SOPInstanceUID.
    ScanError
        If a file cannot be read any more.
    """
    headers = {instance.member: Dataset() for instance in origin.instances}
    for member in headers:
        headers[member] = _read(member)
    where = origin.instances[0].member
    _refuse_mixture(where, list(headers.values()))
    doubts: list[str] = []
    first = headers[where]
    slices = tuple(_source(one, headers[one.member], stamp, doubts) for one in origin.instances)
    references = {values.text(header, "FrameOfReferenceUID") for header in headers.values()}
    planes = [
        _plane(headers[one.member], source.frame)
        for one, source in zip(origin.instances, slices, strict=True)
    ]
    nowhere = _nowhere(slices, planes, references)
    placed = () if nowhere else tuple(plane for plane in planes if plane is not None)
    study = values.text(first, "StudyInstanceUID")
    if not study:
        study = stamp.uid("study")
        doubts.append("the source has no StudyInstanceUID: the results stand in a study of their own")
    return Sources(
        slices=slices,
        person=_person(first, study, doubts),
        study=study,
        reference=min(references),
        indicator=values.text(first, "PositionReferenceIndicator"),
        lossy=_lossy(first),
        planes=placed,
        thickness=_thickness(placed, doubts),
        nowhere=nowhere,
        warnings=tuple(dict.fromkeys(doubts)),
    )


def _read(member: Member) -> Dataset:
    try:
        with open_member(member) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            return pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_TAGS)
    except ScanError:
        raise
    except Exception as error:  # on damaged bytes pydicom raises nearly any kind
        raise ScanError(
            str(member), "its DICOM header cannot be read any more", "read the scan anew"
        ) from error


def _refuse_mixture(where: Member, headers: list[Dataset]) -> None:
    for keyword, name in (("PatientID", "patients"), ("StudyInstanceUID", "studies")):
        if len({values.text(header, keyword) for header in headers}) > 1:
            raise GroundglassError(
                f"{where.path.parent}: the slices of one scan name several {name} in their headers, so no results "
                "are written as DICOM; sort the files by patient and study"
            )


def _source(instance: Instance, header: Dataset, stamp: Stamp, doubts: list[str]) -> Source:
    meta = getattr(header, "file_meta", Dataset())
    sop_instance = (
        values.text(header, "SOPInstanceUID")
        or instance.sop_instance
        or values.text(meta, "MediaStorageSOPInstanceUID")
    )
    if not sop_instance:
        raise GroundglassError(
            f"{instance.member}: has no SOPInstanceUID, so no DICOM results can refer to it"
        )
    sop_class = values.text(header, "SOPClassUID") or values.text(meta, "MediaStorageSOPClassUID")
    if UID(sop_class).type != "SOP Class":
        doubts.append("a source image has no known SOPClassUID: it is referred to as CT Image Storage")
        sop_class = str(CTImageStorage)
    series = values.text(header, "SeriesInstanceUID")
    if not series:
        doubts.append("the source has no SeriesInstanceUID: a new one stands for it")
        series = stamp.uid("source series")
    several = "PerFrameFunctionalGroupsSequence" in header
    return Source(
        sop_class=sop_class,
        sop_instance=sop_instance,
        series=series,
        frame=instance.frame + 1 if several else None,
        shape=(values.whole(header, "Rows"), values.whole(header, "Columns")),
    )


def _plane(header: Dataset, frame: int | None) -> Plane | None:
    place = _group(header, frame, "PlanePositionSequence")
    direction = _group(header, frame, "PlaneOrientationSequence")
    measures = _group(header, frame, "PixelMeasuresSequence")
    position = values.numbers(place, "ImagePositionPatient", 3)
    orientation = values.numbers(direction, "ImageOrientationPatient", 6)
    spacing = values.numbers(measures, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return None
    return Plane(position, orientation, spacing, values.number(measures, "SliceThickness") or None)


def _group(header: Dataset, frame: int | None, sequence: str) -> Dataset:
    """The functional group of a frame, from 1 (PS3.3 C.7.6.16); a classic image's own header."""
    if frame is None:
        return header
    frames = values.items(header, "PerFrameFunctionalGroupsSequence")
    own = values.item(frames[frame - 1], sequence) if frame <= len(frames) else Dataset()
    return own if len(own) else values.item(values.item(header, "SharedFunctionalGroupsSequence"), sequence)


def _nowhere(slices: tuple[Source, ...], planes: list[Plane | None], references: set[str]) -> str:
    if references == {""}:
        return "the source has no FrameOfReferenceUID"
    if len(references) > 1:
        return "the slices have several frames of reference"
    known = [plane for plane in planes if plane is not None]
    if len(known) < len(planes):
        return "a slice has no position, orientation or pixel spacing"
    if len({plane.position for plane in known}) < len(known):
        return "several slices have the same position"
    if len({one.shape for one in slices}) > 1 or not all(_parallel(plane, known[0]) for plane in known):
        return "the slices differ in size, orientation or pixel spacing"
    return ""


def _parallel(plane: Plane, other: Plane) -> bool:
    pairs = zip(plane.orientation + plane.spacing, other.orientation + other.spacing, strict=True)
    return all(math.isclose(one, two, abs_tol=_SAME_DIRECTION) for one, two in pairs)


def _thickness(planes: tuple[Plane, ...], doubts: list[str]) -> float:
    stated = planes[0].thickness if planes else 0.0
    if stated is not None:
        return stated
    doubts.append("the source states no SliceThickness: the distance of the slices stands for it")
    gaps = [math.dist(one.position, two.position) for one, two in pairwise(planes)]
    return median(gaps) if gaps else min(planes[0].spacing)


def _lossy(header: Dataset) -> Dataset:
    taken = Dataset()
    if values.text(header, "LossyImageCompression") == "01":
        for keyword in _LOSSY:
            if keyword in header:
                taken[keyword] = header[keyword]
    return taken


def _person(header: Dataset, study: str, doubts: list[str]) -> Dataset:
    taken = Dataset()
    for keyword in _PERSON:
        if keyword not in header:
            continue
        try:
            element = header[keyword]
            if keyword not in _AS_IT_IS and element.VR != "SQ" and element.value:
                several = element.value if element.VM > 1 else [element.value]
                for one in several:
                    validate_value(element.VR, str(one), RAISE)
            taken[keyword] = element
        except Exception:  # on damaged bytes pydicom raises nearly any kind
            doubts.append(f"{keyword} is not valid in the source and was left blank")
    taken.StudyInstanceUID = study
    if taken.get("PatientSex") not in (None, "", "M", "F", "O"):
        taken.PatientSex = ""
        doubts.append("PatientSex is not valid in the source and was left blank")
    return taken
