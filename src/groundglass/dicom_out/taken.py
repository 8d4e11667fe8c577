"""Taken: what is taken over from a source's header, left blank or mended where it is not valid DICOM."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat, validate_value

from groundglass.dicom_out.stamp import code_item
from groundglass.scan.dicom import values

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
