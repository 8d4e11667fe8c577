"""Taken: what is taken over from a source's header, left blank or mended where it is not valid DICOM."""

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
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DSfloat, validate_value

from groundglass.dicom_out.stamp import ResultsError, Stamp, code_item, uid_of
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
"""Of the patient and the study."""
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")

_ENUMERATED = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_LONGEST = 64
"""Characters of a UID, a PatientID and each component group of a name (PS3.5 6.2)."""
_LANDMARKS = (
    "ILIAC CREST",
    "ORBITAL MEDIAL",
    "STERNAL NOTCH",
    "SYMPHYSIS PUBIS",
    "XIPHOID",
    "LOWER COSTAL MARGIN",
    "EXTERNAL AUDITORY MEATUS",
)
"""Of PositionReferenceIndicator (PS3.3 C.7.4.1.1.2)."""
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
"""Of LossyImageCompressionMethod (PS3.3 C.7.6.1.1.5.1)."""


def is_uid(text: str) -> bool:
    """Whether it is a valid UID (PS3.5 9.1)."""
    return len(text) <= _LONGEST and _UID.fullmatch(text) is not None


def decimals(numbers: Iterable[float]) -> list[DSfloat]:
    """Numbers as DICOM's DS, of at most 16 characters."""
    return [DSfloat(number, auto_format=True) for number in numbers]


def person(header: Dataset, doubts: list[str]) -> Dataset:
    """The attributes of the patient and the study, all but StudyInstanceUID.

    An archive finds the patient by name and PatientID, so these are mended: of several values the first is taken,
    and control characters and what is too long are cut off. What else is not valid is left out. ``doubts`` gets a
    sentence on each.
    """
    taken = Dataset()
    for keyword in PERSON:
        if (value := _value(header, keyword, doubts)) is not None:
            setattr(taken, keyword, value)
    methods = "DeidentificationMethod" in taken or "DeidentificationMethodCodeSequence" in taken
    if taken.get("PatientIdentityRemoved") == "YES" and not methods:
        taken.DeidentificationMethod = "Not stated in the source"
    return taken


def indicator(header: Dataset, doubts: list[str]) -> str:
    """PositionReferenceIndicator; "" where there is none or it is not valid."""
    return str(_value(header, "PositionReferenceIndicator", doubts) or "")


def lossy(header: Dataset, doubts: list[str]) -> Dataset:
    """The attributes of lossy compression; none for an image without."""
    taken = Dataset()
    if values.text(header, "LossyImageCompression") == "01":
        for keyword in LOSSY:
            if (value := _value(header, keyword, doubts)) is not None:
                setattr(taken, keyword, value)
    return taken


def landmark(text: str) -> str:
    """A PositionReferenceIndicator that names a landmark of the standard; "" for any other text."""
    return text if re.sub(r"[\W_]+", " ", text).upper() in _LANDMARKS else ""


def known_methods(compression: Dataset) -> Dataset:
    """A copy of the attributes of lossy compression, without a method that the standard does not name."""
    taken = Dataset()
    taken.update(compression)
    if not set(values.texts(taken, LOSSY[-1])) <= set(_METHODS):
        del taken[LOSSY[-1]]
    return taken


def _value(header: Dataset, keyword: str, doubts: list[str]) -> Any:
    """A valid value; None where there is none."""
    if keyword not in header:
        return None
    try:
        element = header[keyword]
        if dictionary_VR(keyword) == "SQ":
            return _codes(element.value, keyword, doubts)
        said = _said(element)
        if not said:
            return None
        if keyword == "PatientID" or dictionary_VR(keyword) == "PN":
            return _mended(said, keyword, doubts)
        for one in said:
            _require_valid(one, keyword)
        if len(said) > 1 and dictionary_VM(keyword) == "1":
            raise ValueError("several values")
    except Exception:  # on damaged bytes pydicom raises nearly any kind
        doubts.append(f"{keyword} is not valid in the source and was left blank")
        return None
    return said if len(said) > 1 else said[0]


def _said(element: DataElement) -> list[str]:
    """Its values as text without padding; [] where there is none."""
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


def _mended(said: list[str], keyword: str, doubts: list[str]) -> str:
    first = _plain(next(filter(None, said)))
    if dictionary_VR(keyword) == "PN":  # at most three groups of five components
        groups = ["^".join(group.split("^")[:5])[:_LONGEST] for group in first.split("=")[:3]]
        first = "=".join(groups)
    mended = first[:_LONGEST] if keyword == "PatientID" else first
    if said != [mended]:
        doubts.append(f"{keyword} is not valid in the source and was mended")
    return mended


def _plain(text: str) -> str:
    """Without control characters and halves of characters."""
    return "".join(one for one in text if unicodedata.category(one) not in ("Cc", "Cs"))


def _codes(items: Sequence[Dataset], keyword: str, doubts: list[str]) -> list[Dataset] | None:
    """The codes that say anything, with value, scheme and meaning alone; None where there are none."""
    sound = []
    for item in items:
        parts = [values.text(item, part) for part in _CODE]
        if all(parts):
            for part, text in zip(_CODE, parts, strict=True):
                _require_valid(text, part)
            sound.append(code_item(*parts))
    if len(sound) < len(items):
        doubts.append(f"{keyword} is not valid in the source and was mended")
    return sound or None


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
    """Where an image lies, in mm, as its header says it (PS3.3 C.7.6.2.1.1)."""

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

    slices: tuple[SourceImage, ...]
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
    ResultsError
        If the images are of several patients or studies, or one has no valid SOPInstanceUID.
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
    references = {_valid_uid(header, "FrameOfReferenceUID") for header in headers.values()}
    planes = [
        _plane(headers[one.member], source.frame)
        for one, source in zip(origin.instances, slices, strict=True)
    ]
    nowhere = _nowhere(slices, planes, references)
    placed = () if nowhere else tuple(plane for plane in planes if plane is not None)
    study = _uid(first, "StudyInstanceUID", stamp, doubts, "the results stand in a study of their own")
    identity = person(first, doubts)
    identity.StudyInstanceUID = study
    return Sources(
        slices=slices,
        person=identity,
        study=study,
        reference=min(references),
        indicator=indicator(first, doubts),
        lossy=lossy(first, doubts),
        planes=placed,
        thickness=_thickness(placed, doubts),
        nowhere=nowhere,
        warnings=tuple(dict.fromkeys(doubts)),
    )


def without_free_text(sources: Sources) -> Sources:
    """The same, but for two texts that the Basic Profile lets pass: only the standard's own terms stay in them."""
    return replace(sources, indicator=landmark(sources.indicator), lossy=known_methods(sources.lossy))


def usual_orientation(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """The median ImageOrientationPatient, shape (2, 3), as unit vectors at right angles, which it nearly is."""
    along, down = np.median([plane.orientation for plane in planes], axis=0).reshape(2, 3)
    along = along / np.linalg.norm(along)
    down = down - (down @ along) * along
    return np.stack([along, down / np.linalg.norm(down)])


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
            raise ResultsError(
                f"{where.path.parent}: the slices of one scan name several {name} in their headers, so no results "
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
            f"{instance.member}: has no SOPInstanceUID, or none that is valid, so no DICOM results can refer to it"
        )
    sop_class = values.text(header, "SOPClassUID") or values.text(meta, "MediaStorageSOPClassUID")
    if UID(sop_class).type != "SOP Class":
        doubts.append("a source image has no known SOPClassUID: it is referred to as CT Image Storage")
        sop_class = str(CTImageStorage)
    several = "PerFrameFunctionalGroupsSequence" in header
    return SourceImage(
        sop_class=sop_class,
        sop_instance=sop_instance,
        series=_uid(header, "SeriesInstanceUID", stamp, doubts, "a new one stands for it"),
        frame=instance.frame + 1 if several else None,
        shape=(values.whole(header, "Rows"), values.whole(header, "Columns")),
    )


def _valid_uid(header: Dataset, keyword: str) -> str:
    stated = values.text(header, keyword)
    return stated if is_uid(stated) else ""


def _uid(header: Dataset, keyword: str, stamp: Stamp, doubts: list[str], instead: str) -> str:
    """The UID of the source's study or series.

    An image is referred to by its own UID, and these only say where to look for it, so another one may stand for
    them: for a faulty one always the same, so that what was together stays together.
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


def _nowhere(slices: tuple[SourceImage, ...], planes: list[Plane | None], references: set[str]) -> str:
    if references == {""}:
        return "the source has no FrameOfReferenceUID, or none that is valid"
    if len(references) > 1:
        return "the slices have several frames of reference"
    known = [plane for plane in planes if plane is not None]
    if len(known) < len(planes):
        return "a slice has no position, orientation or pixel spacing, or none that is possible"
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
    # The reader holds each slice against one of them, so two may differ by twice the tolerance.
    return bool(np.ptp(several, axis=0).max() <= 2 * tolerance)


def _thickness(planes: tuple[Plane, ...], doubts: list[str]) -> float:
    stated = planes[0].thickness if planes else 0.0
    if stated is not None:
        return stated
    doubts.append(
        "the source states no SliceThickness: the distance of the slices stands for it, as for an impossible one"
    )
    gaps = [math.dist(one.position, two.position) for one, two in pairwise(planes)]
    return median(gaps) if gaps else min(planes[0].spacing)
