"""Values that the results copy from the source images' headers; invalid ones are repaired or left blank."""

import math
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pydicom
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DSfloat, validate_value

from groundglass.dicom_out.stamp import ResultsError, Stamp, uid_of
from groundglass.errors import ScanError
from groundglass.scan.dicom import frame as values
from groundglass.scan.dicom.stacking import SAME_DIRECTION, SAME_MM, SAME_SIZE, sound
from groundglass.scan.members import open_member
from groundglass.scan.volume import Instance, Member, Origin

PERSON = (
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
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
)
"""Attributes of the patient and the study."""
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")

_ENUMERATED = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_LONGEST = 64
"""Longest UID, PatientID and component group of a name, in characters (PS3.5 6.2)."""
_LANDMARKS = (
    "ILIAC CREST",
    "ORBITAL MEDIAL",
    "STERNAL NOTCH",
    "SYMPHYSIS PUBIS",
    "XIPHOID",
    "LOWER COSTAL MARGIN",
    "EXTERNAL AUDITORY MEATUS",
)
"""Standard values of PositionReferenceIndicator (PS3.3 C.7.4.1.1.2)."""
_METHODS = (
    "ISO_10918_1",
    "ISO_14495_1",
    "ISO_15444_1",
    "ISO_15444_15",
    "ISO_18181_1",
    "ISO_13818_2",
    "ISO_14496_10",
    "ISO_23008_2",
)
"""Standard values of LossyImageCompressionMethod (PS3.3 C.7.6.1.1.5.1)."""


def is_uid(text: str) -> bool:
    """Whether the text is a valid UID (PS3.5 9.1)."""
    return len(text) <= _LONGEST and _UID.fullmatch(text) is not None


def decimals(numbers: Iterable[float]) -> list[DSfloat]:
    """Numbers as DICOM's DS, of at most 16 characters."""
    return [DSfloat(number, auto_format=True) for number in numbers]


def person(header: Dataset, doubts: list[str]) -> Dataset:
    """The attributes of the patient and the study, except StudyInstanceUID.

    An archive finds the patient by name and PatientID, so invalid ones are repaired: only the first of several
    values is kept, and control characters and excess length are removed. Other invalid values are left out.
    A sentence on each change is added to ``doubts``.
    """
    copied = _copied(header, PERSON, doubts)
    methods = "DeidentificationMethod" in copied or "DeidentificationMethodCodeSequence" in copied
    if copied.get("PatientIdentityRemoved") == "YES" and not methods:
        copied.DeidentificationMethod = "Not stated in the source"
    return copied


def _copied(header: Dataset, keywords: Iterable[str], doubts: list[str]) -> Dataset:
    copied = Dataset()
    for keyword in keywords:
        if (value := _value(header, keyword, doubts)) is not None:
            setattr(copied, keyword, value)
    return copied


def _value(header: Dataset, keyword: str, doubts: list[str]) -> Any:
    """The attribute's value if it is valid, else None."""
    if keyword not in header:
        return None
    try:
        element = header[keyword]
        if dictionary_VR(keyword) == "SQ":
            return _codes(element.value, keyword, doubts)
        stated = _texts(element)
        if not stated:
            return None
        if keyword == "PatientID" or dictionary_VR(keyword) == "PN":
            return _repaired(stated, keyword, doubts)
        for text in stated:
            _require_valid(text, keyword)
        if len(stated) > 1 and dictionary_VM(keyword) == "1":
            raise ValueError("several values")
    except Exception:  # pydicom raises almost any exception on damaged bytes
        doubts.append(f"{keyword} is not valid in the source and was left blank")
        return None
    return stated if len(stated) > 1 else stated[0]


def _texts(element: DataElement) -> list[str]:
    """The element's values as text without padding; [] if there are none."""
    if element.is_empty:
        return []
    several = [str(one).strip(" \0") for one in (element.value if element.VM > 1 else [element.value])]
    return several if any(several) else []


def _require_valid(text: str, keyword: str) -> None:
    validate_value(dictionary_VR(keyword), text, RAISE)
    allowed = _ENUMERATED.get(keyword, (text,))
    possible = dictionary_VR(keyword) != "DS" or 0 <= float(text) < math.inf
    if text != _plain(text) or text not in allowed or not possible:
        raise ValueError("not valid")


def _repaired(stated: list[str], keyword: str, doubts: list[str]) -> str:
    first = _plain(next(filter(None, stated)))
    if dictionary_VR(keyword) == "PN":  # at most three groups of five components
        groups = ["^".join(group.split("^")[:5])[:_LONGEST] for group in first.split("=")[:3]]
        repaired = "=".join(groups)
    else:
        repaired = first[:_LONGEST]
    if stated != [repaired]:
        doubts.append(f"{keyword} is not valid in the source and was repaired")
    return repaired


def _plain(text: str) -> str:
    """The text without control characters and lone surrogates."""
    return "".join(one for one in text if unicodedata.category(one) not in ("Cc", "Cs"))


def _codes(items: Sequence[Dataset], keyword: str, doubts: list[str]) -> list[Dataset] | None:
    """The complete codes, each reduced to value, scheme and meaning; None if there are none."""
    complete: list[Dataset] = []
    for item in items:
        parts = [values.text(item, part) for part in _CODE]
        if all(parts):
            for part, text in zip(_CODE, parts, strict=True):
                _require_valid(text, part)
            complete.append(CodedConcept(*parts))
    if len(complete) < len(items):
        doubts.append(f"{keyword} is not valid in the source and was repaired")
    return complete or None


_IMAGE = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
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
_TAGS: list[Any] = [*PERSON, *LOSSY, *_IMAGE]
_THICKEST_MM = 100


@dataclass(frozen=True)
class Plane:
    """The position of an image according to its header, in mm (PS3.3 C.7.6.2.1.1)."""

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    thickness: float | None


@dataclass(frozen=True)
class SourceImage:
    """The image that one slice was read from.

    Attributes
    ----------
    frame
        Frame number, from 1, in a multi-frame image; None in a classic one.
    shape
        (rows, columns), as stored.
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
        The attributes of the patient and the study that the written objects copy, as valid DICOM.
    study
        StudyInstanceUID.
    reference
        FrameOfReferenceUID; "" if there is none.
    indicator
        PositionReferenceIndicator.
    lossy
        The attributes of lossy compression of the first image.
    planes
        Where the slices lie; empty if they do not form one stack in the patient.
    thickness
        SliceThickness in mm; if the header does not state it, the distance between slices, or for a single slice
        the width of a pixel.
    no_stack
        Why the slices do not form one stack; "" if they do.
    warnings
        Sentences about values that were missing or invalid.
    """

    slices: tuple[SourceImage, ...]
    person: Dataset
    study: str
    reference: str
    indicator: str
    lossy: Dataset
    planes: tuple[Plane, ...]
    thickness: float
    no_stack: str
    warnings: tuple[str, ...]


def read_sources(origin: Origin, stamp: Stamp) -> Sources:
    """Read the headers of the images that a volume was read from.

    Raises
    ------
    ResultsError
        If the images are from several patients or studies, or one has no valid SOPInstanceUID.
    ScanError
        If a file can no longer be read.
    """
    members = dict.fromkeys(instance.member for instance in origin.instances)
    headers = {member: _read(member) for member in members}
    where = origin.instances[0].member
    _refuse_mixture(where, list(headers.values()))
    doubts: list[str] = []
    first = headers[where]
    slices = tuple(_source(one, headers[one.member], stamp, doubts) for one in origin.instances)
    references = {_valid_uid(header, "FrameOfReferenceUID") for header in headers.values()}
    planes = [
        _plane(headers[one.member], source.frame)
        for one, source in zip(origin.instances, slices, strict=True)
    ]
    no_stack = _no_stack(slices, planes, references)
    placed = () if no_stack else tuple(plane for plane in planes if plane is not None)
    study = _uid(first, "StudyInstanceUID", stamp, doubts, "the results form a study of their own")
    identity = person(first, doubts)
    identity.StudyInstanceUID = study
    indicator = str(_value(first, "PositionReferenceIndicator", doubts) or "")
    compressed = values.text(first, "LossyImageCompression") == "01"
    return Sources(
        slices=slices,
        person=identity,
        study=study,
        reference=min(references),
        indicator=indicator,
        lossy=_copied(first, LOSSY if compressed else (), doubts),
        planes=placed,
        thickness=_thickness(placed, doubts),
        no_stack=no_stack,
        warnings=tuple(dict.fromkeys(doubts)),
    )


def without_free_text(sources: Sources) -> Sources:
    """A copy that keeps only the standard's own terms in two texts that the Basic Profile does not remove.

    These are PositionReferenceIndicator and LossyImageCompressionMethod.
    """
    texts = Dataset()
    texts.update(sources.lossy)
    texts.PositionReferenceIndicator = sources.indicator
    remove_free_text(texts)
    indicator = str(texts.PositionReferenceIndicator or "")
    del texts.PositionReferenceIndicator
    return replace(sources, indicator=indicator, lossy=texts)


def remove_free_text(dataset: Dataset) -> None:
    """Do to a dataset, in place, what :func:`without_free_text` does to a copy of the sources."""
    indicator = values.text(dataset, "PositionReferenceIndicator")
    if indicator and re.sub(r"[\W_]+", " ", indicator).upper() not in _LANDMARKS:
        dataset.PositionReferenceIndicator = ""
    if not set(values.texts(dataset, LOSSY[-1])) <= set(_METHODS):
        del dataset[LOSSY[-1]]


def usual_orientation(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """The median ImageOrientationPatient, shape (2, 3), made exactly orthonormal."""
    along, down = np.median([plane.orientation for plane in planes], axis=0).reshape(2, 3)
    along = along / np.linalg.norm(along)
    down = down - (down @ along) * along
    return np.stack([along, down / np.linalg.norm(down)])


def _read(member: Member) -> Dataset:
    try:
        with open_member(member) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            return pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_TAGS)
    except ScanError:
        raise
    except Exception as error:  # pydicom raises almost any exception on damaged bytes
        raise ScanError(
            str(member), "its DICOM header can no longer be read", "read the scan again"
        ) from error


def _refuse_mixture(where: Member, headers: list[Dataset]) -> None:
    for keyword, name in (("PatientID", "patients"), ("StudyInstanceUID", "studies")):
        if len({values.text(header, keyword) for header in headers}) > 1:
            raise ResultsError(
                f"{where.path.parent}: the headers of one scan name several {name}, so no results "
                "are written as DICOM; sort the files by patient and study"
            )


def _source(instance: Instance, header: Dataset, stamp: Stamp, doubts: list[str]) -> SourceImage:
    meta = getattr(header, "file_meta", Dataset())
    sop_instance = (
        values.text(header, "SOPInstanceUID")
        or instance.sop_instance
        or values.text(meta, "MediaStorageSOPInstanceUID")
    )
    if not is_uid(sop_instance):
        raise ResultsError(
            f"{instance.member}: has no valid SOPInstanceUID, so no DICOM results can refer to it"
        )
    sop_class = values.text(header, "SOPClassUID") or values.text(meta, "MediaStorageSOPClassUID")
    if UID(sop_class).type != "SOP Class":
        doubts.append("a source image has no known SOPClassUID; the results refer to it as CT Image Storage")
        sop_class = str(CTImageStorage)
    several = "PerFrameFunctionalGroupsSequence" in header
    return SourceImage(
        sop_class=sop_class,
        sop_instance=sop_instance,
        series=_uid(header, "SeriesInstanceUID", stamp, doubts, "a new one is used"),
        frame=instance.frame + 1 if several else None,
        shape=(values.whole(header, "Rows"), values.whole(header, "Columns")),
    )


def _valid_uid(header: Dataset, keyword: str) -> str:
    stated = values.text(header, keyword)
    return stated if is_uid(stated) else ""


def _uid(header: Dataset, keyword: str, stamp: Stamp, doubts: list[str], instead: str) -> str:
    """The UID of the source's study or series.

    References identify an image by its own UID; the study and series only say where to look for it, so they may be
    replaced. A faulty UID always gets the same replacement, which keeps its images together.
    """
    if valid := _valid_uid(header, keyword):
        return valid
    faulty = values.text(header, keyword)
    doubts.append(f"the source has no {'valid ' if faulty else ''}{keyword}: {instead}")
    return uid_of(f"faulty {keyword}", faulty) if faulty else stamp.uid(f"source {keyword}")


def _plane(header: Dataset, frame: int | None) -> Plane | None:
    place = _group(header, frame, "PlanePositionSequence")
    direction = _group(header, frame, "PlaneOrientationSequence")
    measures = _group(header, frame, "PixelMeasuresSequence")
    position = values.numbers(place, "ImagePositionPatient", 3)
    orientation = values.numbers(direction, "ImageOrientationPatient", 6)
    spacing = values.numbers(measures, "PixelSpacing", 2)
    if position is None or not sound(orientation) or spacing is None or min(spacing) <= 0:
        return None
    thickness = values.number(measures, "SliceThickness") or 0.0
    return Plane(position, orientation, spacing, thickness if 0 < thickness <= _THICKEST_MM else None)


def _group(header: Dataset, frame: int | None, sequence: str) -> Dataset:
    """The functional group of a frame, from 1 (PS3.3 C.7.6.16); a classic image's own header."""
    if frame is None:
        return header
    frames = values.items(header, "PerFrameFunctionalGroupsSequence")
    own = values.item(frames[frame - 1], sequence) if frame <= len(frames) else Dataset()
    return own if len(own) else values.item(values.item(header, "SharedFunctionalGroupsSequence"), sequence)


def _no_stack(slices: tuple[SourceImage, ...], planes: list[Plane | None], references: set[str]) -> str:
    if references == {""}:
        return "the source has no valid FrameOfReferenceUID"
    if len(references) > 1:
        return "the slices have several frames of reference"
    known = [plane for plane in planes if plane is not None]
    if len(known) < len(planes):
        return "a slice has no valid position, orientation or pixel spacing"
    alike = _alike([plane.orientation for plane in known], SAME_DIRECTION) and _alike(
        [plane.spacing for plane in known], SAME_SIZE
    )
    if len({one.shape for one in slices}) > 1 or not alike:
        return "the slices differ in size, orientation or pixel spacing"
    heights = np.array([plane.position for plane in known]) @ np.cross(*usual_orientation(known))
    if len(heights) > 1 and np.diff(np.sort(heights)).min() < SAME_MM:
        return "several slices have the same position along their normal"
    return ""


def _alike(several: Sequence[tuple[float, ...]], tolerance: float) -> bool:
    # The reader compares each slice with the same one, so two slices may differ by twice the tolerance.
    return bool(np.ptp(several, axis=0).max() <= 2 * tolerance)


def _thickness(planes: tuple[Plane, ...], doubts: list[str]) -> float:
    stated = planes[0].thickness if planes else 0.0
    if stated is not None:
        return stated
    doubts.append("the source states no valid SliceThickness: the distance between slices is used instead")
    gaps = [math.dist(one.position, two.position) for one, two in pairwise(planes)]
    return median(gaps) if gaps else min(planes[0].spacing)
