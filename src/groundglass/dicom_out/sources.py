"""Sources: what the objects that are written take over from the headers of the source images."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage

from groundglass.dicom_out import taken
from groundglass.dicom_out.errors import ResultsError
from groundglass.dicom_out.stamp import Stamp, uid_of
from groundglass.errors import ScanError
from groundglass.scan.dicom import values
from groundglass.scan.dicom.grouping import SAME_DIRECTION, SAME_MM, SAME_SIZE, sound
from groundglass.scan.members import open_member
from groundglass.scan.volume import Instance, Member, Origin

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
_TAGS: list[Any] = [*taken.PERSON, *taken.LOSSY, *_IMAGE]
_THICKEST_MM = 100


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
    person = taken.person(first, doubts)
    person.StudyInstanceUID = study
    return Sources(
        slices=slices,
        person=person,
        study=study,
        reference=min(references),
        indicator=taken.indicator(first, doubts),
        lossy=taken.lossy(first, doubts),
        planes=placed,
        thickness=_thickness(placed, doubts),
        nowhere=nowhere,
        warnings=tuple(dict.fromkeys(doubts)),
    )


def without_free_text(sources: Sources) -> Sources:
    """The same, but for two texts that the Basic Profile lets pass: only the standard's own terms stay in them."""
    return replace(
        sources, indicator=taken.landmark(sources.indicator), lossy=taken.known_methods(sources.lossy)
    )


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


def _source(instance: Instance, header: Dataset, stamp: Stamp, doubts: list[str]) -> Source:
    meta = getattr(header, "file_meta", Dataset())
    sop_instance = (
        values.text(header, "SOPInstanceUID")
        or instance.sop_instance
        or values.text(meta, "MediaStorageSOPInstanceUID")
    )
    if not taken.is_uid(sop_instance):
        raise ResultsError(
            f"{instance.member}: has no SOPInstanceUID, or none that is valid, so no DICOM results can refer to it"
        )
    sop_class = values.text(header, "SOPClassUID") or values.text(meta, "MediaStorageSOPClassUID")
    if UID(sop_class).type != "SOP Class":
        doubts.append("a source image has no known SOPClassUID: it is referred to as CT Image Storage")
        sop_class = str(CTImageStorage)
    several = "PerFrameFunctionalGroupsSequence" in header
    return Source(
        sop_class=sop_class,
        sop_instance=sop_instance,
        series=_uid(header, "SeriesInstanceUID", stamp, doubts, "a new one stands for it"),
        frame=instance.frame + 1 if several else None,
        shape=(values.whole(header, "Rows"), values.whole(header, "Columns")),
    )


def _valid_uid(header: Dataset, keyword: str) -> str:
    stated = values.text(header, keyword)
    return stated if taken.is_uid(stated) else ""


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


def _nowhere(slices: tuple[Source, ...], planes: list[Plane | None], references: set[str]) -> str:
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
