"""Checks: why a stack of DICOM frames cannot be read as a chest CT volume, and what the user can do."""

import math
from typing import NamedTuple

from pydicom import config, uid

from groundglass.scan.dicom.codecs import NATIVE, supported
from groundglass.scan.dicom.frame import Frame
from groundglass.scan.dicom.grouping import localizer
from groundglass.scan.image import MIN_SIDE

MAX_PIXELS = 4096 * 4096
MAX_FRAMES = 20_000
LEAST_AIR_HU = -500
"""A rescale that cannot give a value as low as this gives no HU: it leaves out lung and air."""

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
    "OT": "images of no stated kind",
    "SC": "a secondary capture",
    "REG": "a registration",
}
_NOT_HU = frozenset({"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"})
_CT_NEEDED = "name the folder of the patient's chest CT"
_EXPORT = "export the original CT series"


class Problem(NamedTuple):
    """What is wrong, and what the user can do about it; both "" where nothing is."""

    text: str = ""
    remedy: str = ""


FINE = Problem()


def object_problem(frame: Frame) -> Problem:
    """Why what a file holds is no CT slice, whatever its pixels are."""
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


def pixel_problem(frame: Frame) -> Problem:
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
        return Problem(f"its header claims {encoding.frames} frames", "it is damaged, get it anew")
    if encoding.frames > 1 and frame.position is None:
        return Problem(f"its {encoding.frames} frames state no positions", _EXPORT)
    if encoding.samples != 1 or encoding.photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        return Problem(f"has colour pixels ({_plain(encoding.photometric)}), not CT values", _EXPORT)
    return _bits_problem(frame)


def _bits_problem(frame: Frame) -> Problem:
    encoding = frame.header.encoding
    if not supported(encoding.syntax):
        name = _plain(uid.UID(encoding.syntax, config.IGNORE).name)
        return Problem(
            f"its transfer syntax cannot be read ({name})",
            "convert it, such as with dcmtk's dcmconv or gdcmconv --raw, to little endian explicit",
        )
    if encoding.extent is not None and not encoding.extent.integer:
        return Problem("has floating-point pixels, not CT values", _EXPORT)
    used = encoding.high_bit + 1 - encoding.stored
    if encoding.allocated not in (8, 16, 32) or not 0 < encoding.stored <= encoding.allocated or used < 0:
        return Problem(
            f"{encoding.stored} bits stored in {encoding.allocated} cannot be read", "export it anew"
        )
    if encoding.extent is not None and encoding.extent.encapsulated == (encoding.syntax in NATIVE):
        return Problem("its pixels are not stored as its transfer syntax says", "export it anew")
    return _rescale_problem(frame)


def _rescale_problem(frame: Frame) -> Problem:
    header = frame.header
    if header.rescale_type in _NOT_HU:
        return Problem(f"its values are {header.rescale_type}, not Hounsfield units", _EXPORT)
    if frame.slope == 0:
        return Problem("its RescaleSlope is 0, so that all pixels are the same", "export it anew")
    if any(value is not None and math.isnan(value) for value in (frame.slope, frame.intercept)):
        return Problem("its RescaleSlope or RescaleIntercept is no number", "export it anew")
    if header.encoding.stored <= 8 and not states_hu(frame):
        return Problem("its 8-bit values are grey levels of a window, not Hounsfield units", _EXPORT)
    return FINE


def states_hu(frame: Frame) -> bool:
    """Whether the header's rescale leads to values that can be HU."""
    if frame.intercept is None:
        return False
    encoding = frame.header.encoding
    lowest = -(1 << (encoding.stored - 1)) if encoding.signed else 0
    ends = (lowest, lowest + (1 << encoding.stored) - 1)
    slope = 1.0 if frame.slope is None else frame.slope
    return min(slope * end for end in ends) + frame.intercept <= LEAST_AIR_HU


def _plain(text: str) -> str:
    """A header's word, fit for a message."""
    return "".join(letter for letter in text if letter.isprintable())[:48]
