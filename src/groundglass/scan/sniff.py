"""Sniff: what kind of file this is, by its first bytes, without loading a library that reads it."""

from pathlib import PurePath
from typing import Literal

from groundglass.scan.image import SUFFIXES

Kind = Literal["dicom", "nifti", "picture", "zip", "other"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".dic"})
_NIFTI_ENDINGS = (".nii", ".nii.gz")
_GROUPS = {b"\x02\x00", b"\x08\x00"}
_FIRST_VRS = {b"UL", b"UI", b"CS", b"OB", b"SH", b"LO", b"DA", b"TM"}


def by_name(name: str) -> Kind:
    """What a file's name alone says of it; DICOM files have any name."""
    lower = name.lower()
    if lower.endswith(_NIFTI_ENDINGS):
        return "nifti"
    return "picture" if PurePath(lower).suffix in SUFFIXES else "other"


def is_dicom(head: bytes) -> bool:
    """Whether a file's first bytes are those of DICOM: its mark at 128 (PS3.10 7.1), or a dataset without preamble.

    Such a dataset begins with an element of group 2 or 8, of low number, with a known VR or a short value.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16 or head[:2] not in _GROUPS or head[3] != 0:
        return False
    return head[4:6] in _FIRST_VRS or int.from_bytes(head[4:8], "little") <= 64


def is_zip(head: bytes) -> bool:
    """Whether a file's first bytes are those of a ZIP with something in it, or an empty one."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")
