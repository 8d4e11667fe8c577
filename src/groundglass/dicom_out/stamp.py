"""Stamp: what all objects of one run have in common, and the UIDs they get."""

import hashlib
import uuid
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from highdicom.base import SOPClass
from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from groundglass import __version__
from groundglass.dicom_out.codes import NAME

_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""What any object must have, be it empty."""


def uid_of(seed: str, name: str) -> str:
    """A UID made of a UUID (PS3.5 B.2), the same for the same seed and name."""
    digest = hashlib.sha256(f"groundglass\0{seed}\0{name}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


@dataclass(frozen=True)
class Stamp:
    """What is the same in all objects that one run writes.

    Attributes
    ----------
    seed
        All new UIDs follow from it.
    when
        The date and time of their content.
    """

    seed: str
    when: datetime

    def uid(self, name: str) -> str:
        """The UID of this name in this run."""
        return uid_of(self.seed, name)

    @property
    def date(self) -> str:
        """As DICOM's DA."""
        return f"{self.when:%Y%m%d}"

    @property
    def time(self) -> str:
        """As DICOM's TM."""
        return f"{self.when:%H%M%S}"

    def series(self, kind: str, number: int, description: str) -> dict[str, Any]:
        """The arguments that highdicom's constructors take for a series of one object of a ``kind``."""
        return {
            "series_instance_uid": self.uid(f"{kind} series"),
            "series_number": number,
            "series_description": f"{NAME} {description} (research use)",
            "sop_instance_uid": self.uid(kind),
            "instance_number": 1,
            "manufacturer": NAME,
            "manufacturer_model_name": NAME,
            "software_versions": __version__,
            "content_date": self.date,
            "content_time": self.time,
        }

    def finish(self, written: SOPClass, person: Dataset) -> None:
        """Give a new object the source's patient and study, and this run's times in place of highdicom's.

        highdicom itself sees no name or id, since it writes doubtful ones to a log.
        """
        for keyword in _TYPE_2:
            setattr(written, keyword, "")
        written.update(deepcopy(person))
        written.SpecificCharacterSet = "ISO_IR 192"
        written.InstanceCreationDate = written.SeriesDate = DA(self.date)
        written.InstanceCreationTime = written.SeriesTime = TM(self.time)
        for equipment in written.get("ContributingEquipmentSequence", []):
            equipment.ContributionDateTime = self.date + self.time


def blank_image(study: str, series: str, sop_class: str, sop_instance: str) -> Dataset:
    """The least that highdicom takes as a source image; it names no patient."""
    image = Dataset()
    for keyword in _TYPE_2:
        setattr(image, keyword, "")
    image.Modality = "CT"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.SOPClassUID, image.SOPInstanceUID = sop_class, sop_instance
    return image


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """A code as an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
