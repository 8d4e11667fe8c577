"""``groundglass sheet``: a contact sheet of random slices with their masks, to assess a segmenter visually."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from groundglass.data.registry import DATASETS
from groundglass.detect.findings import Failure
from groundglass.errors import GroundglassError, ScanError
from groundglass.files import refuse_overwriting, replacing, write_csv
from groundglass.preprocess import Preprocessing
from groundglass.progress import track
from groundglass.scan.find import find_scans
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.overlay import contact_sheet, overlay
from groundglass.segment.segmenter import Segmenter, answer_files
from groundglass.segment.shares import TYPE_COLUMNS, shares

UPSIDE_DOWN, MIRRORED = "upside-down", "mirrored"
"""Upside down, which keeps right and left, and mirrored left to right."""
COLUMNS = ("number", "file", "turned", "lungs_share", "lesion_share", "quality", "problem", "verdict")
TILE = 256
"""Side in pixels of a slice on the sheet."""
DIGITS = 4


@dataclass(frozen=True)
class Sheet:
    """The contact sheet's file, and the slices that could not be read and are not on it."""

    picture: Path
    failures: list[Failure]


def sheet(
    dataset_or_paths: Sequence[str],
    folder: Path,
    *,
    segmenter: Segmenter,
    count: int = 60,
    seed: int = 0,
    turned: float = 0.34,
) -> Sheet:
    """Segment random slices, some of them turned, and put them on one sheet to look at.

    ``sheet.png`` shows each slice with its masks, its number, its file's name and how it was turned.
    ``sheet.csv`` has a row for each: the measurements on the drawn masks, even if there is a problem, and a
    blank ``verdict`` for the reader.

    Parameters
    ----------
    dataset_or_paths
        Known datasets, manifests (CSV), folders, files or patterns.
    folder
        Where to write.
    segmenter
        The segmenter.
    count
        Number of slices to draw; all if there are fewer.
    seed
        The same seed draws the same slices from the same files.
    turned
        The share of slices that is turned before segmentation: alternately upside down and mirrored.

    Raises
    ------
    GroundglassError
        If nothing is found or can be read, ``count`` or ``turned`` is out of range, or a slice would be
        overwritten.
    """
    if count < 1 or not 0 <= turned <= 1:
        raise GroundglassError("a sheet needs at least one slice, and a share of turned slices from 0 to 1")
    picture, table = folder / "sheet.png", folder / "sheet.csv"
    files = slice_files(dataset_or_paths)
    refuse_overwriting(files, (picture, table))
    order = np.random.default_rng(seed).choice(len(files), size=min(count, len(files)), replace=False)
    chosen = [files[index] for index in order]
    turns = dict(zip(chosen, _turns(len(chosen), turned), strict=True))
    tiles: list[tuple[Image.Image, str]] = []
    rows: list[dict[str, str]] = []
    failures: list[Failure] = []
    for path, answer in track(_segmented(segmenter, turns), "Segmenting slices", len(chosen)):
        if isinstance(answer, ScanError):
            failures.append(Failure.of(answer))
            continue
        tiles.append(
            (_tile(*answer, segmenter.bundle.facts.preprocessing), f"{path.name} {turns[path]}".strip())
        )
        rows.append(
            {"number": str(len(tiles)), "file": str(path), "turned": turns[path], **_figures(answer[1])}
        )
    if not tiles:
        raise GroundglassError(f"none of the {len(chosen)} slices could be read; {failures[0].problem}")
    with replacing(picture, "wb") as handle:
        contact_sheet(tiles, tile=TILE).save(handle, "PNG")
    types = [name for name in TYPE_COLUMNS if any(name in row for row in rows)]
    write_csv(table, (*COLUMNS, *types), rows)
    return Sheet(picture, failures)


def slice_files(dataset_or_paths: Iterable[str]) -> list[Path]:
    """The slices of known datasets, manifests, folders, files and patterns, each once, in their order.

    Raises
    ------
    GroundglassError
        If there is no such dataset, file or folder, or it holds no slice.
    """
    found: dict[Path, None] = {}
    for name in dataset_or_paths:
        if name in DATASETS or name.lower().endswith(".csv"):
            from groundglass.data.datasets import load_dataset  # needs pandas

            files = [Path(path) for path in load_dataset(name)["path"]]
        else:
            files = find_scans([name])
        found.update(dict.fromkeys(files))
    if not found:
        raise GroundglassError(f"{', '.join(dataset_or_paths)}: no slice")
    return list(found)


def _turns(count: int, share: float) -> list[str]:
    """How each of ``count`` slices is turned; "" if it is not. The turned ones are spread evenly."""
    before = np.floor(np.arange(count + 1) * share).astype(int)
    kinds = UPSIDE_DOWN, MIRRORED
    return [kinds[before[i] % 2] if before[i + 1] > before[i] else "" for i in range(count)]


def _segmented(
    segmenter: Segmenter, turns: dict[Path, str]
) -> Iterator[tuple[Path, tuple[Scan, Segmentation] | ScanError]]:
    def turn(scan: Scan) -> Scan:
        how = turns[scan.source] if scan.source else ""
        if not how:
            return scan
        return replace(
            scan, pixels=np.ascontiguousarray(np.flip(scan.pixels, 0 if how == UPSIDE_DOWN else 1))
        )

    return answer_files(list(turns), lambda scans: segmenter.segment_scans(map(turn, scans)))


def _tile(scan: Scan, masks: Segmentation, preprocessing: Preprocessing) -> Image.Image:
    """The overlay, no larger than on the sheet, so that a sheet of many large slices needs little memory."""
    drawn = overlay(preprocessing.picture(scan), masks)
    drawn.thumbnail((TILE, TILE), Image.Resampling.BILINEAR)
    return drawn


def _figures(masks: Segmentation) -> dict[str, str]:
    measured = shares(masks).both
    lesion = measured.lesion_share
    return {
        "lungs_share": f"{measured.lung_px / masks.lungs.size:.{DIGITS}f}",
        "lesion_share": "" if lesion is None else f"{lesion:.{DIGITS}f}",
        **{name: f"{share:.{DIGITS}f}" for name, share in measured.type_shares.items()},
        "quality": f"{masks.quality:.{DIGITS}f}",
        "problem": masks.problem,
        "verdict": "",
    }
