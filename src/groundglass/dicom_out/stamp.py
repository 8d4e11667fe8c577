"""What all result objects share: the measurements, the codes, and the identity and time of a run."""

import hashlib
import uuid
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from highdicom import AlgorithmIdentificationSequence
from highdicom.base import SOPClass
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import AlgorithmIdentification, CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DA, TM

from groundglass import __version__
from groundglass.detect.setting import CONTROLS, LikelihoodRatio
from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN
from groundglass.segment.extent import DiseaseExtent


class ResultsError(GroundglassError):
    """The source images, the masks or the picture cannot be made into DICOM results."""


@dataclass(frozen=True)
class Measured:
    """The answer for one CT series.

    Its texts must reveal nothing about the patient: the report contains all of them, even if it is anonymised.

    Attributes
    ----------
    probability
        Probability of COVID-19, in [0, 1]; None if there is none.
    verdict
        As in :mod:`groundglass.labels`, or another class's name.
    severity
        The severity band for the share of the lungs that is affected; "" if there is none.
    severity_source
        Where the bands come from, such as a paper.
    extent
        Lung and lesions of each region, see groundglass.segment.extent.disease_extent.
    bundle_name, bundle_sha256
        Name of the detector's bundle and hash of its graph.
    segmenter_name, segmenter_sha256
        The same for the segmenter; "" if none was used.
    slices_used
        Number of slices that the answer is based on.
    likelihood_ratios
        The likelihood ratios of COVID-19 for each setting; empty if the detector has no settings.
    """

    probability: float | None
    verdict: str
    severity: str
    severity_source: str
    extent: Mapping[str, DiseaseExtent]
    bundle_name: str
    bundle_sha256: str
    segmenter_name: str
    segmenter_sha256: str
    slices_used: int
    likelihood_ratios: tuple[LikelihoodRatio, ...] = ()


@dataclass(frozen=True)
class Written:
    """The files written, with notes on assumptions and omissions.

    Attributes
    ----------
    sr
        The Comprehensive 3D SR.
    seg
        The Segmentation; None if there is none, and ``warnings`` says why.
    sc
        The Secondary Capture; None if no picture was given.
    warnings
        Plain text that does not identify the patient.
    """

    sr: Path
    seg: Path | None
    sc: Path | None
    warnings: tuple[str, ...]


NAME = "Groundglass"
SCHEME = "99GROUNDGLASS"
"""Private coding schemes begin with 99 (PS3.16 section 8)."""

RIGHT_LUNG = Code("3341006", "SCT", "Right lung")
LEFT_LUNG = Code("44029006", "SCT", "Left lung")
BOTH_LUNGS = Code("74101002", "SCT", "Both lungs")
LUNGS = {"right": RIGHT_LUNG, "left": LEFT_LUNG, "both": BOTH_LUNGS}
SIDES = {"right": codes.SCT.Right, "left": codes.SCT.Left}
ZONES = {
    "upper": codes.SCT.UpperZoneOfLung,
    "middle": codes.SCT.MiddleZoneOfLung,
    "lower": codes.SCT.LowerZoneOfLung,
}
"""CID 6171 of PS3.16, Zone of Lung."""
ORGAN = codes.SCT.AnatomicalStructure
ABNORMAL = codes.SCT.MorphologicallyAbnormalStructure
LESION = codes.SCT.Lesion
GROUND_GLASS = codes.DCM.GroundGlassOpacity
"""In CID 6104 of PS3.16, Abnormal Opacity Finding or Feature."""
CONSOLIDATION = Code("95436008", "SCT", "Lung consolidation")
"""SNOMED CT's; no context group of PS3.16 has a consolidation."""
COVID = Code("840539006", "SCT", "COVID-19")
CT_OF_CHEST = Code("169069000", "SCT", "CT of chest")
VOLUME = codes.SCT.Volume
SEVERITY = Code("246112005", "SCT", "Severity")
COMMENT = codes.DCM.Comment
MILLILITRE = Code("ml", "UCUM", "milliliter")
PERCENT = codes.UCUM.Percent
ONE = codes.UCUM.NoUnits
ENGLISH = CodedConcept("en-GB", "RFC5646", "English (United Kingdom)")
AI = codes.DCM.ArtificialIntelligence

LESION_VOLUME = Code("lesion-volume", SCHEME, "Volume of ground-glass opacity or consolidation")
LESION_SHARE = Code("lesion-share", SCHEME, "Share that is ground-glass opacity or consolidation")
TYPE_SHARE = Code("finding-share", SCHEME, "Share of the region that is this finding")
PROBABILITY = Code("probability", SCHEME, "Probability of COVID-19")
LIKELIHOOD_RATIO = Code("likelihood-ratio", SCHEME, "Likelihood ratio of COVID-19")
LIKELIHOOD_RATIOS = {
    setting: Code(f"lr-{setting}", SCHEME, f"Likelihood ratio of COVID-19, setting {setting}")
    for setting in CONTROLS
}
VERDICT = Code("verdict", SCHEME, "Verdict of the detector")
SEVERITY_SOURCE = Code("severity-source", SCHEME, "Source of the severity bands")
SLICES_USED = Code("slices-used", SCHEME, "Number of slices used")

VERDICTS = {
    POSITIVE: Code("260373001", "SCT", "Detected"),
    NEGATIVE: Code("260415000", "SCT", "Not detected"),
    UNCERTAIN: Code("419984006", "SCT", "Inconclusive"),
    NOT_A_CHEST_CT: Code("not-a-chest-ct", SCHEME, "Not a chest CT"),
}


def scheme() -> CodingSchemeIdentificationItem:
    """The description of our own coding scheme, for objects that use it."""
    return CodingSchemeIdentificationItem(SCHEME, name="Groundglass", responsible_organization="Groundglass")


def algorithm_of_report(measured: Measured) -> AlgorithmIdentification:
    """TID 4019 of PS3.16: program, version, bundle and the hash of its graph."""
    parameters = [f"{name}={value}" for name, value in _parameters(measured).items()]
    return AlgorithmIdentification(NAME, __version__, parameters=parameters, family=AI, manufacturer=NAME)


def algorithm_of_segments(measured: Measured) -> AlgorithmIdentificationSequence:
    """The same, by the Algorithm Identification Macro (PS3.3 10.16)."""
    return AlgorithmIdentificationSequence(NAME, AI, __version__, NAME, _parameters(measured))


def _parameters(measured: Measured) -> dict[str, str]:
    values = {
        "bundle": measured.bundle_name,
        "bundle graph sha256": measured.bundle_sha256,
        "segmenter": measured.segmenter_name,
        "segmenter graph sha256": measured.segmenter_sha256,
    }
    return {name: value for name, value in values.items() if value}


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
"""Attributes that every object must have, even if they are empty (type 2)."""


def uid_of(seed: str, name: str) -> str:
    """A UID made of a UUID (PS3.5 B.2), the same for the same seed and name."""
    digest = hashlib.sha256(f"groundglass\0{seed}\0{name}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


@dataclass(frozen=True)
class Stamp:
    """Values shared by all objects of one run.

    Attributes
    ----------
    seed
        All new UIDs are derived from it.
    when
        The date and time of their content.
    later
        Whether they replace objects of earlier images of the study; their descriptions then say so.
    """

    seed: str
    when: datetime
    later: bool = False

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
        """Arguments of highdicom's constructors for a new series with one object of this ``kind``."""
        return {
            "series_instance_uid": self.uid(f"{kind} series"),
            "series_number": number,
            "series_description": f"{NAME} {description}{', updated' if self.later else ''} (research use)",
            "sop_instance_uid": self.uid(kind),
            "instance_number": 1,
            "manufacturer": NAME,
            "manufacturer_model_name": NAME,
            "software_versions": __version__,
            "content_date": self.date,
            "content_time": self.time,
        }

    def finish(self, written: SOPClass, person: Dataset) -> None:
        """Give a new object the source's patient and study, and replace highdicom's times by this run's.

        highdicom never sees a name or id, since it writes doubtful ones to a log.
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
    """The smallest dataset that highdicom accepts as a source image; it names no patient."""
    image = Dataset()
    for keyword in _TYPE_2:
        setattr(image, keyword, "")
    image.Modality = "CT"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.SOPClassUID, image.SOPInstanceUID = sop_class, sop_instance
    return image
