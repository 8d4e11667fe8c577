"""``groundglass segment``: masks of lungs and lesions, and how much of each lung is diseased."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE, Facts
from groundglass.detect.findings import Failure
from groundglass.errors import ScanError, count_of
from groundglass.files import refuse_overwriting, replacing, unique_names
from groundglass.preprocess import Preprocessing
from groundglass.progress import track
from groundglass.report.page import Report, Table, bundle_table, write_report
from groundglass.report.slices import mask_cards
from groundglass.scan.find import find_series
from groundglass.scan.scan import Scan
from groundglass.scan.studies import find_studies, key_of
from groundglass.segment.masks import Segmentation
from groundglass.segment.overlay import legend, overlay
from groundglass.segment.segmenter import AHEAD, Segmenter
from groundglass.segment.shares import (
    TYPE_COLUMNS,
    TYPE_NAMES,
    Area,
    ShareRow,
    percent,
    shares,
    write_shares_csv,
)

SHOWN = 60
"""Slices that the report shows with their masks."""
LISTED = 1000
"""Slices that the report lists; shares.csv has them all."""
WARNINGS = [
    "Lesions can have any cause: their share shows how much of the lung is diseased, not why.",
    "Right and left are the patient's, if the slice is oriented as a radiologist views it, with the right lung on "
    "the left of the picture. A mirrored picture swaps them.",
]


@dataclass(frozen=True)
class SegmentResult:
    """The result of segmenting slices and volumes.

    Attributes
    ----------
    rows
        One for each single slice.
    failures
        The files that could not be read.
    document
        Everything for other programs, ready for JSON. A slice with a problem has no figures.
    volumes
        One for each volume, see :func:`groundglass.commands.segment_volumes.columns`.
    """

    rows: list[ShareRow]
    failures: list[Failure]
    document: dict[str, Any]
    volumes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def tables(self) -> list[str]:
        """The files in the output folder that summarise the masks."""
        return [
            *(["volumes.csv"] if self.volumes else []),
            *(["shares.csv", "report.html"] if self.rows else []),
        ]


def segment_paths(
    paths: Sequence[str], folder: Path, *, segmenter: Segmenter, overlays: bool = True
) -> SegmentResult:
    """Segment the scans in the paths: single slices by :func:`segment`, volumes by ``segment_volumes``.

    Parameters
    ----------
    paths
        Files, folders and patterns, as ``groundglass predict`` takes them.
    folder, segmenter, overlays
        As for :func:`segment`.

    Raises
    ------
    GroundglassError
        If a file cannot be written, a path does not exist, or one of the slices would be overwritten.
    """
    listing = find_series(paths)
    studies = find_studies(listing, key_of(folder)) if listing.series else []
    slices, stacks = list(listing.pictures), []
    for study in studies:
        if study.series is not None and study.series.slices == 1 and study.series.source.is_file():
            slices.append(study.series.source)
        else:
            stacks.append(study)
    failures = [Failure.of(error) for error in listing.failures]
    rows: list[ShareRow] = []
    volumes: list[dict[str, Any]] = []
    if slices:
        result = segment(slices, folder, segmenter=segmenter, overlays=overlays)
        rows, failures = result.rows, [*failures, *result.failures]
    if stacks:
        # This loads nibabel, which pictures do not need.
        from groundglass.commands.segment_volumes import segment_volumes

        volumes, failed = segment_volumes(stacks, folder, segmenter=segmenter, overlays=overlays)
        failures += failed
    document = _document(segmenter.bundle.facts, rows, failures) | {"volumes": volumes}
    return SegmentResult(rows, failures, document, volumes)


def segment(
    files: Sequence[Path], folder: Path, *, segmenter: Segmenter, overlays: bool = True
) -> SegmentResult:
    """Write masks of lungs and lesions, and their areas.

    ``NAME_lungs.png``, lesions included, and ``NAME_lesions.png`` are 8-bit grey, 0 and 255, of the slice's
    size. If the segmenter distinguishes lesion types, ``NAME_lesion_types.png`` has 127 in ground glass and
    254 in consolidation, as masks for training do. If no reliable lungs were found, the masks are empty, and
    ``overlays/NAME.png`` shows the rejected candidates. NAME is the file's stem, or ``NAME-2`` for the second
    file with that stem.

    Parameters
    ----------
    files
        The files to read, as groundglass.scan.find.find_scans lists them.
    folder
        Where to write the masks, ``shares.csv`` and ``report.html``.
    segmenter
        Finds the lungs and lesions.
    overlays
        Also draw the masks over each slice, in ``overlays/``, and show them in the report.

    Returns
    -------
    The areas; a file that cannot be read is listed in ``failures``, and the remaining files are still segmented.

    Raises
    ------
    GroundglassError
        If a file cannot be written, or one of ``files`` would be overwritten.
    """
    names = unique_names(files)
    written = [folder / picture for name in names.values() for picture in _pictures(name)]
    refuse_overwriting(files, written)
    preprocessing = segmenter.bundle.facts.preprocessing if overlays else None
    rows: list[ShareRow] = []
    failures: list[Failure] = []
    with ThreadPoolExecutor(2) as pool:
        drawn: deque[Future[None]] = deque()
        for path, answer in track(segmenter.segment_files(files), "Segmenting slices", len(files)):
            if isinstance(answer, ScanError):
                failures.append(Failure.of(answer))
                continue
            drawn.append(pool.submit(_write_masks, folder, names[path], *answer, preprocessing))
            # Writing is slower than segmenting: waiting for it limits the slices in memory.
            if len(drawn) > AHEAD:
                drawn.popleft().result()
            rows.append(_row(path, names[path], *answer))
        for waiting in drawn:
            waiting.result()
    write_shares_csv(folder / "shares.csv", rows)
    write_report(_report(segmenter, rows, failures, overlays), folder / "report.html")
    return SegmentResult(rows, failures, _document(segmenter.bundle.facts, rows, failures))


def _pictures(name: str) -> tuple[str, str, str, str]:
    return f"{name}_lungs.png", f"{name}_lesions.png", f"{name}_lesion_types.png", f"overlays/{name}.png"


def _write_masks(
    folder: Path, name: str, scan: Scan, masks: Segmentation, preprocessing: Preprocessing | None
) -> None:
    """Write the masks of a slice and, with a preprocessing that gives its grey, the overlay."""
    lungs, lesions, types, drawn = _pictures(name)
    for picture, mask in ((lungs, masks.trusted_lungs), (lesions, masks.trusted_lesions)):
        _write_png(folder / picture, Image.fromarray(mask.astype(np.uint8) * np.uint8(255)))
    if masks.consolidation is not None:
        kind = masks.trusted_lesions * np.uint8(1) + (masks.trusted_lesions & masks.consolidation)
        _write_png(folder / types, Image.fromarray(kind * np.uint8(127)))
    if preprocessing is not None:
        _write_png(folder / drawn, overlay(preprocessing.picture(scan), masks))


def _write_png(path: Path, image: Image.Image) -> None:
    with replacing(path, "wb") as handle:
        image.save(handle, "PNG", compress_level=1)


def _row(path: Path, name: str, scan: Scan, masks: Segmentation) -> ShareRow:
    measured = shares(masks, scan.spacing)
    return ShareRow(str(path), name, measured, masks.quality, masks.problem, "; ".join(scan.warnings))


def _share(row: ShareRow) -> float | None:
    return None if row.problem else row.shares.both.lesion_share


def _document(facts: Facts, rows: Sequence[ShareRow], failures: Sequence[Failure]) -> dict[str, Any]:
    return {
        "groundglass": __version__,
        "research_use": RESEARCH_USE,
        "bundle": {"name": facts.name, "graph_sha256": facts.graph_sha256},
        "slices": [_entry(row) for row in rows],
        "failures": [asdict(failure) for failure in failures],
    }


def _entry(row: ShareRow) -> dict[str, Any]:
    *masks, _ = _pictures(row.name)
    kinds = ("lungs", "lesions", *(["lesion_types"] if row.shares.both.consolidation_px is not None else []))
    sides = {"both": row.shares.both, "right": row.shares.right, "left": row.shares.left}
    return {
        "path": row.path,
        "masks": dict(zip(kinds, masks, strict=False)),
        **{side: None if row.problem else _figures(area) for side, area in sides.items()},
        "quality": round(row.quality, 6),
        "problem": row.problem,
        "warnings": row.warnings,
    }


def _figures(area: Area) -> dict[str, float | int | None]:
    areas = {name: value for name, value in asdict(area).items() if name != "consolidation_px"}
    share, types = area.lesion_share, {name: round(value, 6) for name, value in area.type_shares.items()}
    return {**areas, "lesion_share": None if share is None else round(share, 6), **types}


def _report(
    segmenter: Segmenter,
    rows: Sequence[ShareRow],
    failures: Sequence[Failure],
    overlays: bool,
) -> Report:
    ranked = sorted(rows, key=lambda row: -1.0 if (share := _share(row)) is None else share, reverse=True)
    typed = segmenter.bundle.facts.typed
    listed = [(row.name, *_cells(row, typed)) for row in ranked[:LISTED]]
    more = f"{len(rows) - LISTED} more are in shares.csv." if len(rows) > LISTED else ""
    types = TYPE_NAMES if typed else ()
    lesions = ("lesions in the lungs", *types, "lesions in the right lung", "in the left lung")
    header = ("slice", *lesions, "file, or problem")
    tables = [Table("All slices, the most diseased first", header, listed, more)]
    if failures:
        reasons = [(Path(f.path).name, "; ".join(filter(None, (f.problem, f.remedy)))) for f in failures]
        tables.append(Table("Not read", ("file", "reason"), reasons))
    shown = [Path(row.path) for row in ranked[:SHOWN]] if overlays else []
    return Report(
        title="Lungs and lesions on chest CT slices",
        headline=_headline(rows, failures),
        warnings=WARNINGS,
        slices_title="The slices with the most lesion",
        slices_note=f"Right: the masks. {legend(typed)}",
        slices=mask_cards(segmenter, shown),
        facts=[*tables, bundle_table(segmenter.bundle.facts)],
    )


def _cells(row: ShareRow, typed: bool) -> list[str]:
    both, right, left = row.shares.both, row.shares.right, row.shares.left
    types = [both.type_shares.get(name) for name in TYPE_COLUMNS] if typed else []
    shown = (both.lesion_share, *types, right.lesion_share, left.lesion_share)
    return [*("" if row.problem else percent(share) for share in shown), row.problem or row.path]


def _headline(rows: Sequence[ShareRow], failures: Sequence[Failure]) -> str:
    known = [share for row in rows if (share := _share(row)) is not None]
    diseased = sum(share > 0 for share in known)
    text = f"{len(known)} of {len(rows)} slices show lungs, {diseased} of these with lesions."
    if known:
        text += f" The median lesion share of the lungs is {median(known):.1%}, the highest {max(known):.1%}."
    return text + (f" Could not be read: {count_of(len(failures), 'file')}." if failures else "")
