"""De-identification by the Basic Application Level Confidentiality Profile of DICOM (PS3.15 annex E).

The table of attributes and actions is Table E.1-1 of the edition that ``basic_profile.tsv`` names. Where the
table offers a choice, such as X/Z/D, the last action is taken, which is valid in any IOD: X/Z empties the value,
and X/D, Z/D and X/Z/D replace it with a dummy.
"""

import hmac
import uuid
from collections.abc import Callable, Collection
from functools import cache
from importlib.resources import files
from typing import Any

from highdicom.sr import CodedConcept
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

_STANDARD_UIDS = "1.2.840.10008."
_DUMMY_TEXT = "ANONYMOUS"
_DUMMIES: dict[str, Any] = {
    "DA": "19000101",
    "TM": "000000",
    "DT": "19000101000000",
    "AS": "000Y",
    "UR": "https://anonymous.invalid",
    "DS": "0",
    "IS": "0",
}
_NUMBERS = {"FL", "FD", "SL", "SS", "SV", "UL", "US", "UV", "AT"}
_BYTES = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}

METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113104": "Clean Structured Content Option",
    "113105": "Clean Descriptors Option",
}
"""Codes of CID 7050 (PS3.16)."""
_STRUCTURED = "ContentSequence"


def deidentify(dataset: Dataset, key: bytes, *, clean: Collection[str] = ()) -> None:
    """De-identify a dataset in place.

    Private attributes are removed. Each UID of an instance, series, study, frame of reference or the like is
    replaced with one derived from it and the key, so references among objects treated with the same key remain
    valid. PatientID becomes such a pseudonym too, or stays empty. The pixels are not examined.

    Parameters
    ----------
    dataset
        Any DICOM object.
    key
        Keep it secret, or make a new one each time: anyone who has it can find the replacement of a known UID or a
        guessed PatientID.
    clean
        Keywords of attributes that the caller itself wrote and that reveal nothing about the patient. They are
        kept, and only the items within them are de-identified; (0012,0064) then names the options Clean Structured
        Content, for ContentSequence, and Clean Descriptors, for other attributes.

    Notes
    -----
    PS3.15 E.1.1, E.2 and E.3; the actions are those of Table E.1-1a.
    """
    kept = frozenset(Tag(keyword) for keyword in clean)
    done: dict[int, Dataset] = {}
    for part in (dataset, getattr(dataset, "file_meta", Dataset())):
        _treat(part, key, kept, done)
    options = {"113104" if keyword == _STRUCTURED else "113105" for keyword in clean}
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    names = ["113100", *sorted(options)]
    dataset.DeidentificationMethod = [METHODS[name] for name in names]
    dataset.DeidentificationMethodCodeSequence = [CodedConcept(name, "DCM", METHODS[name]) for name in names]


def pseudonym(value: str, key: bytes) -> str:
    """16 hexadecimal characters that depend only on the value and the key."""
    return hmac.digest(key, value.encode("utf-8", "surrogateescape"), "sha256").hex()[:16].upper()


def new_uid(uid: str, key: bytes) -> str:
    """The replacement of ``uid``; UIDs that the standard defines are kept."""
    if not uid or uid.startswith(_STANDARD_UIDS):
        return uid
    digest = hmac.digest(key, uid.encode("utf-8", "surrogateescape"), "sha256")
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


def _treat(dataset: Dataset, key: bytes, kept: frozenset[BaseTag], done: dict[int, Dataset]) -> None:
    if id(dataset) in done:  # a dataset created in memory may contain the same item in several places
        return
    done[id(dataset)] = dataset
    for tag in list(dataset.keys()):
        action = "" if tag in kept else _action(tag)
        if action == "X":
            del dataset[tag]
            continue
        element = dataset[tag]
        if action:
            _ACTIONS[action](element, key)
        if element.VR == "SQ" and "D" not in action:
            for item in element.value or ():
                _treat(item, key, kept, done)


def _action(tag: BaseTag) -> str:
    if tag.is_private:
        return "X"
    group = tag.group
    if 0x5000 <= group < 0x5100:
        return "X"
    if 0x6000 <= group < 0x6100:
        return "X" if tag.element in (0x3000, 0x4000) else ""
    return _table().get(int(tag), "")


@cache
def _table() -> dict[int, str]:
    text = (files("groundglass.dicom_out") / "basic_profile.tsv").read_text(encoding="ascii")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return {int(tag.replace(",", ""), 16): action for tag, action in rows if "x" not in tag}


def _replace_uid(element: DataElement, key: bytes) -> None:
    if element.VR != "UI":  # U* for a sequence refers to the UIDs within it
        return
    value = element.value
    if value:
        element.value = (
            new_uid(value, key) if isinstance(value, str) else [new_uid(one, key) for one in value]
        )


def _empty(element: DataElement, key: bytes) -> None:
    element.value = Sequence() if element.VR == "SQ" else None


def _dummy(element: DataElement, key: bytes) -> None:
    if element.VR == "UI":
        _replace_uid(element, key)
    elif element.VR == "SQ":
        for item in element.value or ():
            for inner in item:
                _dummy(inner, key)
    elif element.keyword == "PatientID":  # patients without an id must not become one patient
        element.value = pseudonym(str(element.value), key) if element.value else ""
    elif element.VR in _NUMBERS:
        element.value = 0
    elif element.VR in _BYTES:
        element.value = b"\0\0"
    else:
        element.value = _DUMMIES.get(element.VR, _DUMMY_TEXT)


_ACTIONS: dict[str, Callable[[DataElement, bytes], None]] = {
    **dict.fromkeys(("Z", "X/Z"), _empty),
    **dict.fromkeys(("D", "Z/D", "X/D", "X/Z/D"), _dummy),
    **dict.fromkeys(("U", "X/Z/U*"), _replace_uid),
}
