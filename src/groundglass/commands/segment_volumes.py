"""``groundglass segment`` on volumes: NIfTI masks, a montage, and the volumes of lung and lesions in ml."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from groundglass.detect.findings import Failure
from groundglass.errors import ScanError
from groundglass.files import replacing, write_csv
from groundglass.progress import SHORT, counting, track
from groundglass.scan.studies import Study
from groundglass.scan.volume import mark_results
from groundglass.segment.extent import extent_cells, extent_columns
from groundglass.segment.segmenter import Segmenter
from groundglass.segment.volume import VolumeMasks


def columns(types: bool) -> tuple[str, ...]:
    """The columns of ``volumes.csv``, with lesion types if the segmenter distinguishes them."""
    return ("study", "source", "slices", *extent_columns(types), "warnings")


def segment_volumes(
    studies: Sequence[Study], folder: Path, *, segmenter: Segmenter, overlays: bool = True
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Write the masks of each study's volume, and its volumes of lung and lesions.

    Parameters
    ----------
    studies
        As groundglass.scan.studies.find_studies lists them, each with a series of several slices, or with none.
    folder
        Where to write ``volumes.csv`` and a folder for each study, with ``lungs.nii.gz`` (1 in the right lung, 2 in
        the left, lesions included), ``lesions.nii.gz`` (1, or 1 for ground glass and 2 for consolidation) and
        ``montage.png``.
    segmenter
        Finds the lungs and lesions; processes may divide the studies (groundglass.scale.files.divided).
    overlays
        Draw the montage.

    Returns
    -------
    A row for each volume, see :func:`columns`, with None for unknown values; and the studies that could not be
    read.

    Raises
    ------
    GroundglassError
        If a file cannot be written.
    """
    names = columns(segmenter.bundle.facts.typed)
    work = partial(_segmented, folder=folder, overlays=overlays, bar=len(studies) <= SHORT)
    rows: list[dict[str, Any]] = []
    failures: list[Failure] = []
    for outcome in track(segmenter.each(work, studies), "Segmenting volumes", len(studies)):
        if isinstance(outcome, ScanError):
            failures.append(Failure.of(outcome))
        else:
            rows.append(dict.fromkeys(names) | outcome)
    cells = (
        {name: f"{one:.6f}" if isinstance(one, float) else one for name, one in row.items()} for row in rows
    )
    write_csv(folder / "volumes.csv", names, cells)
    return rows, failures


def _segmented(
    segmenter: Segmenter, study: Study, *, folder: Path, overlays: bool, bar: bool
) -> dict[str, Any] | ScanError:
    """Write the masks of a study and return its row, or why it cannot be read; with a bar over its slices."""
    try:
        if study.series is None:
            raise study.error()
        masks = VolumeMasks(study.series.load(), segmenter.bundle.facts.preprocessing)
        with counting("Segmenting slices", masks.volume.shape[0] if bar else 0) as advance:
            masks.filled_by(segmenter, lambda: advance(1))
    except ScanError as error:
        return error
    notes = masks.write(folder / study.name)
    mark_results(folder / study.name)
    if overlays:
        with replacing(folder / study.name / "montage.png", "wb") as handle:
            masks.picture().save(handle, "PNG", compress_level=3)
    return _row(study, masks, notes)


def _row(study: Study, masks: VolumeMasks, notes: Sequence[str]) -> dict[str, Any]:
    figures = {region: one.figures() for region, one in masks.extent().items()}
    return {
        "study": study.name,
        "source": str(study.source),
        "slices": masks.volume.shape[0],
        **extent_cells(figures),
        "warnings": "; ".join((*masks.warnings, *notes)),
    }
