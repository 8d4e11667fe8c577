"""The DICOM conformance statement, generated from the code."""

from collections.abc import Iterator

from pydicom.uid import UID

from groundglass.node.config import DicomConfig
from groundglass.node.receive import IMPLEMENTATION, PDU
from groundglass.scan.dicom.headers import CT_CLASSES
from groundglass.scan.dicom.pixels import syntaxes

ECHO = "1.2.840.10008.1.1"
RESULTS = ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.7")
QUERIES = ("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3")


def statement() -> str:
    """The statement, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    config = DicomConfig()
    yield f"Implementation class UID: `{IMPLEMENTATION}`. Version name: `GROUNDGLASS_` and the version."
    yield ""
    yield "| SOP class | UID | role |"
    yield "|---|---|---|"
    for uid, role in (
        (ECHO, "SCP and SCU"),
        *((one, "SCP of C-STORE, also within C-GET") for one in map(str, CT_CLASSES)),
        *((one, "SCU of C-STORE") for one in RESULTS),
        *((one, "SCU") for one in QUERIES),
    ):
        yield f"| {UID(uid).name} | `{uid}` | {role} |"
    yield ""
    yield "Images are accepted in these transfer syntaxes; the first in this list that is offered is chosen:"
    yield ""
    for syntax in syntaxes():
        yield f"- {UID(syntax).name} (`{syntax}`)"
    yield ""
    yield "Results are sent in the transfer syntax in which they were written, or as Implicit VR Little Endian."
    yield ""
    yield "| property | value |"
    yield "|---|---|"
    yield f"| associations at a time | {config.associations} (`associations`); more are rejected as transient |"
    yield f"| longest PDU | {PDU} bytes |"
    yield f"| idle time after which an association is aborted | {config.idle_seconds:g} s (`idle_seconds`) |"
    yield f"| largest instance | {config.object_mb:g} MB (`object_mb`); then the association is aborted |"
    yield "| unknown AE titles or addresses | rejected permanently: calling or called AE title not recognised |"
    yield "| status 0x0000 of C-STORE | the instance is stored durably and survives a power failure |"
    yield "| status 0xA700 of C-STORE | the disk is full; no part of the instance is kept |"
    yield "| C-STORE responses accepted as success | 0x0000, warnings 0xBxxx, and 0x0111 (already there) |"
    yield "| asynchronous operations, storage commitment, user identity | not supported |"
    yield "| DICOMweb server | STOW-RS: `POST /dicom-web/studies` with `application/dicom` |"
    yield "| DICOMweb client | QIDO-RS, WADO-RS, STOW-RS |"
    yield "| security | DICOM TLS with certificates on both sides |"
