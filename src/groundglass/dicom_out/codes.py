"""Coded concepts of the results: SNOMED CT (SCT), DICOM (DCM) and UCUM, and own ones where these have none."""

from highdicom import AlgorithmIdentificationSequence
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import AlgorithmIdentification, CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from groundglass import __version__
from groundglass.dicom_out.measured import Measured
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

NAME = "Groundglass"
SCHEME = "99GROUNDGLASS"
"""Private coding schemes begin with 99 (PS3.16 section 8)."""

RIGHT_LUNG = Code("3341006", "SCT", "Right lung")
LEFT_LUNG = Code("44029006", "SCT", "Left lung")
BOTH_LUNGS = Code("74101002", "SCT", "Both lungs")
LUNGS = {"right": RIGHT_LUNG, "left": LEFT_LUNG, "both": BOTH_LUNGS}
ORGAN = codes.SCT.AnatomicalStructure
ABNORMAL = codes.SCT.MorphologicallyAbnormalStructure
LESION = codes.SCT.Lesion
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
PROBABILITY = Code("probability", SCHEME, "Probability of COVID-19")
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
    """The own coding scheme, as an object that uses it describes it."""
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
