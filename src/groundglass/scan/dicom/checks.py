"""Checks: why a stack of DICOM frames cannot be read as a chest CT volume, and what the user can do."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
from pydicom import config, uid

from groundglass.errors import count_of
from groundglass.scan.dicom.frame import DicomFrame
from groundglass.scan.dicom.pixels import LOSSY, NATIVE, padding_range, supported
from groundglass.scan.dicom.stacking import SliceStack, localizer
from groundglass.scan.image import MIN_SIDE
from groundglass.scan.volume import Geometry, Origin, spacing_warnings

MAX_PIXELS = 4096 * 4096
MAX_FRAMES = 20_000
LEAST_AIR_HU = -500
"""If a rescale cannot reach a value this low, it does not give HU, because lung and air are out of range."""

_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
_OTHERS = {
    "MR": "magnetic resonance images",
    "CR": "a computed radiograph",
    "DX": "a digital radiograph",
    "RG": "a radiograph",
    "US": "ultrasound images",
    "PT": "PET images",
    "NM": "nuclear medicine images",
    "MG": "mammograms",
    "XA": "X-ray angiography",
    "RF": "fluoroscopy",
    "SEG": "a segmentation",
    "SR": "a structured report",
    "PR": "a presentation state",
    "KO": "a key object selection",
    "RTSTRUCT": "radiotherapy structures",
    "RTDOSE": "a radiotherapy dose",
    "RTPLAN": "a radiotherapy plan",
    "DOC": "a document",
    "OT": "images of an unspecified kind",
    "SC": "a secondary capture",
    "REG": "a registration",
}
_NOT_HU = frozenset({"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"})
_CT_NEEDED = "name the folder of the patient's chest CT"
_EXPORT = "export the original CT series"


class Problem(NamedTuple):
    """What is wrong and what the user can do about it; both "" if there is no problem."""

    text: str = ""
    remedy: str = ""


FINE = Problem()


def object_problem(frame: DicomFrame) -> Problem:
    """Why the file is not a CT slice, regardless of its pixels."""
    header = frame.header
    if header.modality not in ("", "CT"):
        kind = _OTHERS.get(header.modality, "images of another kind")
        return Problem(f"holds {kind} (modality {_plain(header.modality)}), not CT", _CT_NEEDED)
    if header.sop_class == _CAPTURES or header.sop_class.startswith(_CAPTURES + "."):
        return Problem("is a secondary capture (a screenshot), not a CT slice", _EXPORT)
    if "SCREEN SAVE" in header.image_type:
        return Problem("is a saved screen, not a CT slice", _EXPORT)
    if not header.modality and header.encoding.rows == 0:
        return Problem("holds no image", _CT_NEEDED)
    if localizer(frame):
        return Problem("is a localizer (scout), not a stack of slices", "use the axial series")
    return FINE


def pixel_problem(frame: DicomFrame) -> Problem:
    """Why a file's pixels cannot be read as CT."""
    encoding = frame.header.encoding
    size = f"{encoding.columns} x {encoding.rows}"
    if encoding.extent is None:
        return Problem("holds no pixels", _EXPORT)
    if encoding.rows * encoding.columns > MAX_PIXELS:
        return Problem(f"slices of {size} pixels would take too much memory", _EXPORT)
    if min(encoding.rows, encoding.columns) < MIN_SIDE:
        return Problem(
            f"{size} pixels are too few for a slice", f"at least {MIN_SIDE} a side are needed: {_EXPORT}"
        )
    if encoding.frames > MAX_FRAMES:
        return Problem(f"its header claims {encoding.frames} frames", "it is damaged: get a new copy")
    if encoding.frames > 1 and frame.position is None:
        return Problem(f"its {encoding.frames} frames state no positions", _EXPORT)
    if encoding.samples != 1 or encoding.photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        return Problem(f"has colour pixels ({_plain(encoding.photometric)}), not CT values", _EXPORT)
    return _bits_problem(frame)


def _bits_problem(frame: DicomFrame) -> Problem:
    encoding = frame.header.encoding
    if not supported(encoding.syntax):
        name = _plain(uid.UID(encoding.syntax, config.IGNORE).name)
        return Problem(
            f"its transfer syntax cannot be read ({name})",
            "convert it to explicit little endian, for example with dcmtk's dcmconv or gdcmconv --raw",
        )
    if encoding.extent is not None and not encoding.extent.integer:
        return Problem("has floating-point pixels, not CT values", _EXPORT)
    used = encoding.high_bit + 1 - encoding.stored
    if encoding.allocated not in (8, 16, 32) or not 0 < encoding.stored <= encoding.allocated or used < 0:
        return Problem(
            f"{encoding.stored} bits stored in {encoding.allocated} cannot be read", "export it again"
        )
    if encoding.extent is not None and encoding.extent.encapsulated == (encoding.syntax in NATIVE):
        return Problem("its pixels are not stored as its transfer syntax says", "export it again")
    return _rescale_problem(frame)


def _rescale_problem(frame: DicomFrame) -> Problem:
    header = frame.header
    if header.rescale_type in _NOT_HU:
        return Problem(f"its values are {header.rescale_type}, not Hounsfield units", _EXPORT)
    if frame.slope == 0:
        return Problem("its RescaleSlope is 0, so that all pixels are the same", "export it again")
    if any(value is not None and math.isnan(value) for value in (frame.slope, frame.intercept)):
        return Problem("its RescaleSlope or RescaleIntercept is not a number", "export it again")
    if header.encoding.stored <= 8 and not states_hu(frame):
        return Problem("its 8-bit values are grey levels of a window, not Hounsfield units", _EXPORT)
    return FINE


def states_hu(frame: DicomFrame) -> bool:
    """Whether the values after the header's rescale can be HU."""
    if frame.intercept is None:
        return False
    encoding = frame.header.encoding
    lowest = -(1 << (encoding.stored - 1)) if encoding.signed else 0
    ends = (lowest, lowest + (1 << encoding.stored) - 1)
    slope = 1.0 if frame.slope is None else frame.slope
    return min(slope * end for end in ends) + frame.intercept <= LEAST_AIR_HU


def _plain(text: str) -> str:
    """A header's text, made safe to print in a message."""
    return "".join(filter(str.isprintable, text))[:48]


NO_RESCALE = "no rescale to HU in the header: the meaning of the values is inferred from them"
NO_RESCALE_READ = "no rescale to HU in the header: the values look like {} and are read as such"
_CHEST = ("CHEST", "THORA", "LUNG", "BODY", "TRUNK", "TORSO", "HEART", "CARD", "MEDIAST", "CAP", "AORTA")
_PROJECTIONS = frozenset({"MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "PROJECTION"})
_ORDERED_BY = {
    "SliceLocation": ("no usable positions: ordered by SliceLocation, so head and feet may be exchanged",),
    "InstanceNumber": (
        "no positions: ordered by InstanceNumber from the head to the feet, and spaced as the header says; "
        "head and feet may be exchanged",
    ),
    "nothing": ("no position of the slice in the header",),
}
_SLIGHT_DEGREES = 2.0
_STRAIGHT = 0.1
"""Largest distance of a tilted gantry's slices from a straight line, as a share of the whole shift."""
_TISSUE_HU = (-900, 3000)


def problem(frames: list[DicomFrame], stack: SliceStack) -> Problem:
    """Why a stack cannot be read as a chest CT volume; see :mod:`groundglass.scan.dicom.checks`."""
    shown = stack.frames or tuple(frames[:1])
    for found in (*map(object_problem, shown), _plane_problem(stack), *map(pixel_problem, shown)):
        if found.text:
            return found
    if not stack.frames:
        return Problem("every file is cut short within its pixels", "get new copies")
    images = {(frame.header.sop_instance, frame.index) for frame in frames if frame.header.sop_instance}
    if len(stack.frames) == 1 and stack.repeated > stack.copies and len(images) > 1:
        return Problem(f"all {stack.repeated + 1} slices are at the same position", "export it again")
    return FINE


def _plane_problem(stack: SliceStack) -> Problem:
    if stack.plane not in ("coronal", "sagittal", "oblique"):
        return FINE
    count = len(stack.frames)
    if count <= 2:
        images = f"{count} {stack.plane} image" + ("s" if count > 1 else "")
        return Problem(f"is {images}, like a localizer, not a stack of slices", "use the axial series")
    return Problem(f"its slices are {stack.plane}", "use the axial series of the same study")


def warnings(stack: SliceStack) -> tuple[str, ...]:
    """The assumptions made about a usable stack, in words."""
    return (
        *_left_out(stack),
        *_ORDERED_BY.get(stack.by, ()),
        *_lie(stack),
        *spacing_warnings(len(stack.frames), stack.geometry),
        *_header(stack),
    )


def _left_out(stack: SliceStack) -> list[str]:
    reasons = (
        (stack.incomplete, "cut short within the pixels"),
        (stack.unplaced, "no position in the header"),
        (stack.copies, "the same image again"),
        (stack.repeated - stack.copies, "at the position of another slice; the first one is kept"),
    )
    said = [f"{count_of(count, 'slice')} left out: {why}" for count, why in reasons if count]
    instances = Counter((frame.header.sop_instance, frame.index) for frame in stack.frames)
    if len(stack.frames) > 1 and max(instances.values()) > 1:
        said.append("slices at different positions share one SOPInstanceUID, or have none")
    return said


def _lie(stack: SliceStack) -> list[str]:
    said = []
    if stack.plane == "unknown":
        said.append("no orientation: taken as axial, lying face up")
    position = stack.frames[0].header.patient_position
    if position[2:3] == "P":
        said.append("the patient lay face down (prone), unlike most patients that detectors learn from")
    elif position[2:4] in ("DL", "DR"):
        said.append("the patient lay on the side (decubitus), unlike most patients that detectors learn from")
    if turned := _turned(stack.origin):
        said.append(f"the stored slices are {turned}: turned upright")
    if stack.geometry is None:
        return [*said, "no pixel spacing or no slice distance: volumes in ml are unknown"]
    return [*said, *_angles(stack.geometry, stack.off_axial)]


def _turned(origin: Origin) -> str:
    if origin.transposed:
        return "turned by a quarter or mirrored"
    if origin.rows_flipped and origin.columns_flipped:
        return "upside down"
    return "mirrored" if origin.rows_flipped or origin.columns_flipped else ""


def _angles(geometry: Geometry, off_axial: float) -> list[str]:
    said = []
    tilt, shift, scatter = _tilt(geometry)
    tilted = tilt > _SLIGHT_DEGREES / 2 and scatter <= _STRAIGHT * shift
    if tilted:
        said.append(
            f"gantry tilt of {tilt:.0f} degrees: each slice is shifted within its plane relative to the next"
        )
    elif off_axial > _SLIGHT_DEGREES:
        said.append(f"slightly oblique: {off_axial:.0f} degrees off axial")
    if (most := scatter if tilted else max(shift, scatter)) > np.linalg.norm(geometry.row_step):
        said.append(f"the slices are shifted irregularly within their plane, by up to {most:.1f} mm")
    in_plane = np.degrees(np.arctan2(abs(geometry.column_step[1]), abs(geometry.column_step[0])))
    if in_plane > _SLIGHT_DEGREES:
        said.append(
            f"the slices are rotated in their plane by {in_plane:.0f} degrees and are read as they are"
        )
    return said


def _tilt(geometry: Geometry) -> tuple[float, float, float]:
    """Angle in degrees between the line through the slices and their normal, and the last slice's shift in mm.

    The third value is the largest distance, in mm, of a slice from that line.
    """
    heights = geometry.heights_mm
    if len(heights) < 2:
        return 0.0, 0.0, 0.0
    shifts = geometry.positions - heights[:, None] * geometry.normal
    line = np.polynomial.polynomial.polyfit(heights, shifts, 1)
    off = np.linalg.norm(shifts - (line[0] + heights[:, None] * line[1]), axis=1)
    slope = float(np.linalg.norm(line[1]))
    return float(np.degrees(np.arctan(slope))), slope * float(np.ptp(heights)), float(off.max())


def _header(stack: SliceStack) -> list[str]:
    frame = stack.frames[0]
    header = frame.header
    said = []
    if not header.modality:
        said.append("no modality in the header: taken as CT")
    if header.body_part and not any(part in header.body_part for part in _CHEST):
        said.append(f"BodyPartExamined says {_word(header.body_part)}, not the chest; it is often wrong")
    if any(part.header.lossy or part.header.encoding.syntax in LOSSY for part in stack.frames):
        said.append("lossy compression: fine detail may be lost")
    if _PROJECTIONS.intersection(header.image_type):
        said.append("projections through several slices (such as MIP), in which findings look different")
    if header.rescale_type == "HU_MOD":
        said.append("modified Hounsfield units (RescaleType HU_MOD)")
    if not all(map(states_hu, stack.frames)):
        said.append(NO_RESCALE)
    elif (padding := _tissue_padding(frame)) is not None:
        said.append(f"PixelPaddingValue is {padding:.0f} HU, a value of tissue: such pixels became air")
    return said


def _word(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum() or letter in " _-")[:16]


def _tissue_padding(frame: DicomFrame) -> float | None:
    if frame.header.encoding.padding is None:
        return None
    hu = padding_range(frame.header.encoding)[1] * (frame.slope or 1.0) + (frame.intercept or 0.0)
    return hu if _TISSUE_HU[0] < hu < _TISSUE_HU[1] else None
