"""The page about one volume."""

import io

import numpy as np
from PIL import Image

from groundglass.commands.volume_pictures import AnsweredStudy
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.detect.heatmap import grey_image, heatmap
from groundglass.detect.patient import BAND_SOURCE, PatientFinding
from groundglass.detect.patient_rule import LESION_FEATURES
from groundglass.errors import ScanError
from groundglass.labels import NOT_A_CHEST_CT
from groundglass.report.page import Picture, Report, SliceCard, StackViewer, Table, bundle_table
from groundglass.segment.overlay import overlay
from groundglass.segment.shares import segmentation_of
from groundglass.segment.volume import SIDES

TELLING = 6
"""Slices that are shown with heatmap and masks."""
LESIONS = "Lesions are of any cause: their share says how much lung is diseased, not by what."


def volume_report(
    answered: AnsweredStudy, detector: Detector, sheet: Image.Image, frames: StackViewer
) -> Report:
    """The page: the answer, the extent of disease, the montage, the most telling slices, all slices, the facts."""
    finding = answered.finding
    caveats = [] if finding.probability is None else _caveats(detector)
    with_lungs = " with lungs" if any(sum(one.lungs_px) for one in finding.slices) else ""
    return Report(
        title=f"COVID-19 on chest CT: {answered.study.name}",
        headline=f"{headline(finding)}.",
        warnings=[
            *caveats,
            *(f"{warning[0].upper()}{warning[1:]}." for warning in finding.warnings),
        ],
        tables_title="The extent of disease",
        figures_of_merit=[_extent(finding)] if finding.verdict != NOT_A_CHEST_CT else [],
        pictures_title="Montage",
        pictures=[Picture(f"Slices{with_lungs}, from the head to the feet", _png(sheet))],
        slices_title="The most telling slices",
        slices_note="The slice, the places that speak for COVID-19, in one scale for all slices, and the masks: "
        "the right lung in blue, the left one in yellow, lesions in orange.",
        slices=_cards(answered, detector),
        stack=frames,
        facts=[_volume_table(answered), _rule_table(detector), bundle_table(detector.bundle.facts)],
    )


def _caveats(detector: Detector) -> list[str]:
    """What must be known of every answer."""
    rule = detector.bundle.facts.patient
    if rule is None or not set(rule.weights) <= LESION_FEATURES:
        return [LESIONS, *uncertainty(detector)]
    return [
        LESIONS,
        *uncertainty(detector),
        "The probability follows from the lesions alone, which this bundle's rule for patients weighs: the answers "
        "for slices, which judge what lesions look like too, stand below.",
    ]


def uncertainty(detector: Detector) -> list[str]:
    """What ``uncertain`` means of a patient, where the bundle can say it."""
    rule = detector.bundle.facts.patient
    return [] if rule is None or rule.abstention is None else [rule.abstention.meaning("patients")]


def headline(finding: PatientFinding) -> str:
    """The one sentence that says what came out, without a full stop."""
    if finding.probability is None:
        return f"{finding.verdict}: {finding.reason}"
    share = finding.extent["both"].lesion_share or 0.0
    reason = f" ({finding.reason})" if finding.reason else ""
    return (
        f"{finding.verdict}{reason}: probability of COVID-19 {finding.probability:.2f}; lesions in {share:.1%} of "
        f"the lungs ({finding.severity})"
    )


def _extent(finding: PatientFinding) -> Table:
    rows = []
    for side in SIDES:
        extent = finding.extent[side]
        share = extent.lesion_share
        rows.append(
            (
                "both lungs" if side == "both" else f"{side} lung",
                ml(extent.lung_ml),
                ml(extent.lesion_ml),
                "" if share is None else f"{share:.1%}",
            )
        )
    note = f"Severity band {finding.severity}: {BAND_SOURCE}."
    return Table("", ("", "lung", "lesions", "share of the lung"), rows, note)


def ml(volume: float | None) -> str:
    """A volume in words."""
    return "spacing not known" if volume is None else f"{volume:.0f} ml"


def _cards(answered: AnsweredStudy, detector: Detector) -> list[SliceCard]:
    return [
        card
        for one in answered.finding.most_telling(TELLING)
        if (card := _card(answered, detector, one)) is not None
    ]


def _card(answered: AnsweredStudy, detector: Detector, one: SliceFinding) -> SliceCard | None:
    number, preprocessing = one.number - 1, detector.bundle.facts.preprocessing
    try:
        scan = answered.volume.slice(number)
    except ScanError:
        return None
    finding = one.with_pixels(scan)
    grey = grey_image(finding, preprocessing)
    drawn = overlay(np.asarray(grey), segmentation_of(answered.answer.labels[number]))
    return SliceCard(
        name=f"slice {one.number}",
        verdict=f"lesions {one.lesion_share or 0:.1%} of the lungs",
        answer=f"slice probability {finding.probability:.2f}",
        images=(grey, heatmap(finding, preprocessing), drawn),
        drawn="heatmap or masks over the slice",
    )


def _volume_table(answered: AnsweredStudy) -> Table:
    volume, series = answered.volume, answered.study.series
    spacing = None if volume.geometry is None else volume.geometry.spacing
    rows = [
        ("Slices", f"{volume.shape[0]} of {volume.shape[1]} x {volume.shape[2]} pixels"),
        ("Spacing", "not known" if spacing is None else " x ".join(f"{mm:.3g}" for mm in spacing) + " mm"),
        ("Pixels", "Hounsfield units" if volume.is_hu else "grey"),
        ("Slices that count", f"{len(answered.finding.counted)}, those with enough lung"),
    ]
    if series is not None and series.kind == "dicom":
        rows.append(
            ("Series", f"number {series.number or 'not stated'}, kernel {series.kernel or 'not stated'}")
        )
    rows += [(f"Not asked: series {other.number}", reason) for other, reason in answered.study.others]
    return Table("The volume", (), rows)


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
