"""Slices as a report shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from groundglass.detect.detector import Detector
from groundglass.detect.heatmap import grey_image, heatmap
from groundglass.errors import ScanError
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.report.page import SliceCard


def slice_cards(
    detector: Detector, paths: Sequence[Path], labels: Mapping[Path, str] | None = None
) -> list[SliceCard]:
    """Read and answer slices once more, and draw each beside its heatmap.

    ``labels`` maps a path to its label; a slice without one is shown without a judgement. A file that has
    become unreadable in the meantime is left out.
    """
    preprocessing = detector.bundle.facts.preprocessing
    cards = []
    for path, finding in detector.predict_files(paths):
        if isinstance(finding, ScanError):
            continue
        label = (labels or {}).get(path, "")
        decided = finding.verdict in (POSITIVE, NEGATIVE)
        cards.append(
            SliceCard(
                name=path.name,
                verdict=finding.verdict,
                probability=finding.probability,
                images=(grey_image(finding, preprocessing), heatmap(finding, preprocessing)),
                truth=label,
                right=(finding.verdict == POSITIVE) == (label == POSITIVE) if label and decided else None,
                note="; ".join(finding.scan.warnings),
            )
        )
    return cards
