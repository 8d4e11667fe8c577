"""The report of a study's volume: the answer, the extent of disease, and the pictures."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from groundglass.detect.bundle import BundleFacts
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.detect.heatmap import grey_image, heatmap
from groundglass.detect.patient import BAND_SOURCE, PatientFinding
from groundglass.detect.patient_rule import LESION_FEATURES
from groundglass.detect.volume import answer_volume, segmenter_of
from groundglass.errors import ScanError
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE
from groundglass.report.page import (
    Picture,
    Report,
    SliceCard,
    Table,
    bundle_table,
    made_by_rows,
)
from groundglass.scan.studies import Study
from groundglass.segment.extent import SIDES, extent_table
from groundglass.segment.overlay import overlay
from groundglass.segment.shares import lesions_in_words, segmentation_of
from groundglass.segment.stack import StackViewer
from groundglass.segment.volume import VolumeMasks


@dataclass(frozen=True, eq=False)
class AnsweredStudy:
    """A study with the patient's answer, which includes the volume and its masks."""

    study: Study
    finding: PatientFinding


def answer_study(detector: Detector, study: Study, seen: Callable[[], object]) -> AnsweredStudy:
    """Answer for the chosen series of a study; ``seen`` is called after each slice.

    Raises
    ------
    ScanError
        If the study has no usable series, or if the series cannot be read.
    """
    if study.series is None:
        raise study.error()
    return AnsweredStudy(study, answer_volume(detector, study.series.load(), seen))


TELLING = 6
"""Number of slices shown with heatmap and masks."""
LESIONS = "Lesions can have any cause: their share shows how much of the lung is diseased, not why."


def volume_report(
    answered: AnsweredStudy,
    detector: Detector,
    sheet: Image.Image,
    frames: StackViewer | None = None,
    *,
    identities: bool = False,
) -> Report:
    """The page: the answer, the extent of disease, the montage, the most informative slices, all slices, the facts.

    Parameters
    ----------
    sheet
        The montage.
    frames
        The slices to scroll through; None for a PDF.
    identities
        Name the patient by PatientID instead of a pseudonym.
    """
    finding = answered.finding
    with_lungs = " with lungs" if any(sum(one.lungs_px) for one in finding.slices) else ""
    return Report(
        title=f"COVID-19 on chest CT: {answered.study.name}",
        headline=answer(finding),
        warnings=[
            *([] if finding.probability is None else caveats(detector.bundle.facts)),
            *(f"{warning[0].upper()}{warning[1:]}." for warning in finding.warnings),
        ],
        tables_title="The extent of disease",
        figures_of_merit=[_extent(finding)] if finding.verdict != NOT_A_CHEST_CT else [],
        pictures_title="Montage",
        pictures=[Picture(f"Slices{with_lungs}, from the head to the feet", _png(sheet))],
        slices_title="The most informative slices",
        slices_note="The slice; the areas that point to COVID-19, on the same scale for all slices; the masks. "
        + finding.masks.legend,
        slices=_cards(answered),
        stack=frames,
        facts=[
            _about(answered, detector, identities),
            _rule_table(detector),
            bundle_table(detector.bundle.facts),
        ],
    )


def answer(finding: PatientFinding) -> str:
    """The answer in one sentence."""
    if finding.probability is None:
        return f"No answer: {finding.reason}."
    openings = {POSITIVE: "COVID-19 is likely", NEGATIVE: "COVID-19 is unlikely"}
    if finding.likelihood_ratios:  # how likely it is also depends on what was known before the scan
        openings = {
            POSITIVE: "The findings favour COVID-19",
            NEGATIVE: "The findings argue against COVID-19",
        }
    opening = openings.get(finding.verdict, f"It is uncertain whether this is COVID-19 ({finding.reason})")
    share = finding.lesion_share
    found = "" if share is None else f", and there are {lesions_in_words(share, finding.type_shares)}"
    band = f" ({finding.severity})" if finding.severity else ""
    return f"{opening}: {finding.strength()}{found}{band}."


def caveats(facts: BundleFacts) -> list[str]:
    """Caveats that apply to every answer of a bundle."""
    rule = facts.patient
    if rule is None or not set(rule.weights) <= LESION_FEATURES:
        return [LESIONS, *uncertainty(facts)]
    return [
        LESIONS,
        *uncertainty(facts),
        "By this bundle's rule for patients, the patient's probability depends only on the amount of "
        "lesion. The answers for slices below also take the appearance of the lesions into account.",
    ]


def uncertainty(facts: BundleFacts) -> list[str]:
    """The meaning of ``uncertain`` for a patient, if the bundle states it."""
    rule = facts.patient
    return [] if rule is None or rule.abstention is None else [rule.abstention.meaning("patients")]


def _extent(finding: PatientFinding) -> Table:
    band = (
        f"Severity band {finding.severity}: {BAND_SOURCE}."
        if finding.severity
        else "No severity band is given."
    )
    if len(finding.extent) > len(SIDES):
        zones = "The thirds divide the height of the lungs and are the same for both lungs."
    elif "right" in finding.extent:
        zones = "The thirds of each lung are not given because the lungs extend beyond the volume."
    else:
        zones = (
            "Figures for each lung and its thirds are not given because the volume's orientation is unknown."
        )
    header, rows = extent_table(finding.extent)
    return Table("", header, rows, f"{zones} {band}")


def _cards(answered: AnsweredStudy) -> list[SliceCard]:
    return [
        card
        for one in answered.finding.most_telling(TELLING)
        if (card := _card(answered.finding.masks, one)) is not None
    ]


def _card(masks: VolumeMasks, one: SliceFinding) -> SliceCard | None:
    try:
        scan = masks.volume.slice(one.number - 1)
    except ScanError:
        return None
    finding = one.with_pixels(scan)
    grey = grey_image(finding)
    drawn = overlay(np.asarray(grey), segmentation_of(masks.labels[one.number - 1]))
    return SliceCard(
        name=f"slice {one.number}",
        verdict=lesions_in_words(one.lesion_share or 0, one.type_shares),
        answer=finding.strength(),
        images=(grey, heatmap(finding), drawn) if finding.has_evidence else (grey, drawn),
        drawn="heatmap or masks over the slice",
    )


def _about(answered: AnsweredStudy, detector: Detector, identities: bool) -> Table:
    """The series that were read and not read, and the networks used."""
    study, masks = answered.study, answered.finding.masks
    volume, series, spacing = masks.volume, study.series, masks.volume.spacing
    patient = series.patient if identities and series else study.patient
    rows = [
        ("Study", study.name),
        ("Patient", patient or "not stated in the files"),
        *made_by_rows(detector.bundle.facts, segmenter_of(detector).bundle.facts),
        ("Slices", f"{volume.shape[0]} of {volume.shape[1]} x {volume.shape[2]} pixels"),
        ("Spacing", "not known" if spacing is None else " x ".join(f"{mm:.3g}" for mm in spacing) + " mm"),
        ("Pixels", "Hounsfield units" if volume.is_hu else "grey"),
        ("Slices that count", f"{len(answered.finding.counted)} with enough lung"),
    ]
    if series is not None and series.kind == "dicom":
        rows.append(
            ("Series", f"number {series.number or 'not stated'}, kernel {series.kernel or 'not stated'}")
        )
    rows += [
        (f"Not read: slice {number + 1}", str(error.problem))
        for number, error in sorted(masks.damaged.items())
    ]
    rows += [(f"Not used: series {other.number}", reason) for other, reason in study.others]
    return Table("About this report", (), rows)


def _rule_table(detector: Detector) -> Table:
    rule = detector.bundle.facts.patient
    if rule is None:
        return Table("From slices to the patient", (), [("Rule", "none was chosen for this bundle")])
    abstention = rule.abstention
    rows = [("Aggregation", rule.aggregation), ("Threshold", f"{rule.threshold:.3f}")]
    if abstention is not None:
        rows[1:] = [
            ("Verdict", abstention.ends()),
            *(("Uncertain", str(choice)) for choice in abstention.chosen),
        ]
    return Table(
        "From slices to the patient", (), [*rows, *(("Chosen", str(choice)) for choice in rule.chosen)]
    )


def _png(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()
