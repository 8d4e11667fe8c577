"""Slices for reports, and tables of the agreement between masks and ground truth."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from groundglass.bundle.evaluation import OverlapEvaluation
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.detect.heatmap import grey_image, heatmap
from groundglass.errors import ScanError
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN
from groundglass.report.page import SliceCard, Table
from groundglass.segment.masks import resize
from groundglass.segment.overlay import PICTURE_SIDE, overlay
from groundglass.segment.segmenter import Segmenter
from groundglass.segment.shares import lesions_in_words, shares

if TYPE_CHECKING:
    import pandas as pd


def slice_cards(
    detector: Detector, paths: Sequence[Path], labels: Mapping[Path, str] | None = None
) -> list[SliceCard]:
    """Read slices, run the detector on them again, and draw each beside its heatmap.

    ``labels`` maps paths to labels; a slice without a label is called neither right nor wrong. Files that
    have become unreadable in the meantime are left out.
    """
    return [
        slice_card(finding, (labels or {}).get(path, ""))
        for path, finding in detector.predict_files(paths)
        if not isinstance(finding, ScanError)
    ]


def slice_card(finding: SliceFinding, label: str = "") -> SliceCard:
    """The card of a finding that still has its slice and evidence; it is right if it agrees with ``label``."""
    decided = finding.verdict in (POSITIVE, NEGATIVE)
    return SliceCard(
        name=Path(finding.path).name,
        verdict=finding.verdict,
        answer=_answer(finding),
        images=_images(finding),
        truth=label,
        right=(finding.verdict == POSITIVE) == (label == POSITIVE) if label and decided else None,
        unsure=finding.verdict == UNCERTAIN,
        note="; ".join(filter(None, (finding.reason, finding.warnings))),
    )


def _images(finding: SliceFinding) -> tuple[Image.Image, ...]:
    """The slice and its heatmap; the slice alone if it is not a chest CT, or there is no evidence to draw."""
    grey = grey_image(finding)
    drawn = finding.probability is not None and finding.has_evidence
    return (grey, heatmap(finding)) if drawn else (grey,)


def _answer(finding: SliceFinding) -> str:
    if finding.probability is None:
        return ""
    answer = finding.strength()
    if finding.predicted_class not in ("", POSITIVE):
        answer += f", of {finding.predicted_class} {finding.probabilities[finding.predicted_class]:.2f}"
    share = finding.lesion_share
    return answer if share is None else f"{answer}, {lesions_in_words(share, finding.type_shares)}"


def mask_cards(segmenter: Segmenter, paths: Sequence[Path]) -> list[SliceCard]:
    """Segment slices, and draw each beside its masks; a file that cannot be read is left out."""
    preprocessing = segmenter.bundle.facts.preprocessing
    cards = []
    for path, answer in segmenter.segment_files(paths):
        if isinstance(answer, ScanError):
            continue
        scan, segmentation = answer
        picture = Image.fromarray(preprocessing.picture(scan))
        # Drawn at the report's size, which keeps contours visible and saves memory.
        picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
        grey8 = np.asarray(picture)
        drawn = overlay(grey8, resize(segmentation, grey8.shape), line=2)
        both = shares(segmentation).both
        found = "" if both.lesion_share is None else lesions_in_words(both.lesion_share, both.type_shares)
        cards.append(
            SliceCard(
                name=path.name,
                verdict=NOT_A_CHEST_CT if segmentation.problem else "lungs found",
                answer="" if segmentation.problem else found,
                images=(picture, drawn),
                note="; ".join(filter(None, (segmentation.problem, *scan.warnings))),
                drawn="lungs and lesions drawn over the slice",
            )
        )
    return cards


SHOWN = 24
"""Number of slices in a report."""


def overlap_tables(evaluation: OverlapEvaluation, cases: "pd.DataFrame") -> list[Table]:
    """The figures with their intervals, and Dice and distance of each case."""
    figures = Table("Masks against the reference", ("figure", "value (95% interval)"), evaluation.rows())
    by_case = [
        (row["case"], row["structure"], str(row["slices"]), f"{row['dice']:.3f}", _distance(row["hd95"]))
        for row in cases.to_dict("records")
    ]
    header = ("case", "structure", "slices", "Dice", "HD95 in pixels, mean over slices")
    return [figures, Table("Case by case", header, by_case, " ".join(evaluation.notes))]


def worst_slices(table: "pd.DataFrame") -> list[Path]:
    """The slices with the least lesion Dice, worst first; those without lesions in either mask are left out."""
    both = table["true_px"] + table["predicted_px"]
    lesions = table[(table["structure"] == "lesions") & (both > 0)]
    dice = 2 * lesions["common_px"] / both
    return [Path(path) for path in lesions.assign(dice=dice).nsmallest(SHOWN, "dice")["path"]]


def _distance(pixels: float) -> str:
    return "" if math.isnan(pixels) else f"{pixels:.1f}"
