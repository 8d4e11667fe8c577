"""What is reported of one CT series, as plain numbers, and the files that were written of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """The answer for one CT series.

    No text in it may tell of the patient: the report holds all of them, also where it is anonymised.

    Attributes
    ----------
    probability
        Of COVID-19, in [0, 1]; None where there is none.
    verdict
        As in :mod:`groundglass.labels`, or another class's name, which must hold no text on the patient.
    severity
        The band of the share of the lungs that is affected; "" where there is none.
    severity_source
        Where the bands come from, such as a paper; without a text on the patient.
    lung_ml, lesion_ml
        Volumes in ml, under ``right``, ``left`` and ``both``; None, or no entry, where they are not known.
    lesion_share
        Share of each lung and of both that is ground glass or consolidation, in [0, 1], likewise.
    bundle_name, bundle_sha256
        Of the detector's bundle and its graph; a name without a text on the patient.
    segmenter_name, segmenter_sha256
        Of the segmenter's, likewise; "" where none was used.
    slices_used
        How many slices the answer rests on.
    """

    probability: float | None
    verdict: str
    severity: str
    severity_source: str
    lung_ml: Mapping[str, float | None]
    lesion_ml: Mapping[str, float | None]
    lesion_share: Mapping[str, float | None]
    bundle_name: str
    bundle_sha256: str
    segmenter_name: str
    segmenter_sha256: str
    slices_used: int


@dataclass(frozen=True)
class Written:
    """The files that were written, and what had to be assumed or left out.

    Attributes
    ----------
    sr
        The Comprehensive 3D SR.
    seg
        The Segmentation; None where there is none, ``warnings`` say why.
    sc
        The Secondary Capture; None where no picture was given.
    warnings
        In words, without anything that tells who the patient is.
    """

    sr: Path
    seg: Path | None
    sc: Path | None
    warnings: tuple[str, ...]
