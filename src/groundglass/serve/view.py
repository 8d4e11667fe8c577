"""The data for the page's viewer, in a folder beside a study's results.

For a volume, ``view.json`` gives the slices' positions, and three files contain the pixels:

- ``slices``: int16, little-endian, every slice from the feet to the head, in HU or in thousandths of grey. They are
  written while the detector reads them, so nothing is decoded twice.
- ``masks``: gzip of each slice's masks as runs, uint32, little-endian: a label of
  groundglass.segment.shares.label_plane in the upper 4 bits, and the number of pixels in the lower 28.
- ``heat``: gzip of the evidence for COVID-19, uint8, of the slices that have any.

For pictures, there is one PNG per picture, named after the stored file.
"""

import gzip
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.detect.findings import SliceFinding
from groundglass.detect.heatmap import ANCHORS, FULL_SCALE, OPACITY, evidence_strength
from groundglass.detect.patient import PatientFinding
from groundglass.errors import ScanError
from groundglass.files import replacing, write_json
from groundglass.preprocess import Preprocessing
from groundglass.scan.read import read_scan
from groundglass.scan.volume import Series, Volume
from groundglass.segment.overlay import (
    CONSOLIDATION_COLOUR,
    LEFT_COLOUR,
    LESION_COLOUR,
    LESION_OPACITY,
    RIGHT_COLOUR,
)

VIEW, INDEX = "view", "view.json"
SLICES, MASKS, HEAT = "slices", "masks", "heat"
PACKED = (MASKS, HEAT)
GREY_STEPS = 1000
"""Number of grey levels, which are stored as integers."""
HEAT_SIDE = 128
"""Longest side in pixels of a heatmap, which is smooth."""
RUN_BITS = np.uint32(28)
"""Bits of a run's length; its label is in the bits above."""
LIMITS = np.iinfo(np.int16)


def new_view(study: Path) -> Path:
    """Create an empty folder for the view of the study in this folder."""
    folder = study / VIEW
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def recorded(series: Series, folder: Path) -> Series:
    """The series, with a volume whose slices are also written to the view as they are read."""

    def opened() -> Volume:
        volume = series.load()
        path, scale = folder / SLICES, 1 if volume.is_hu else GREY_STEPS
        size = 2 * volume.shape[1] * volume.shape[2]
        with path.open("wb") as handle:
            handle.truncate(size * volume.shape[0])

        def read(number: int) -> NDArray[np.float32]:
            pixels = volume.read(number)
            stored = np.rint(pixels * scale).clip(LIMITS.min, LIMITS.max).astype("<i2")
            with path.open("r+b") as handle:
                handle.seek(size * number)
                handle.write(stored.tobytes())
            return pixels

        return replace(volume, read=read)

    return replace(series, open=opened)


def write_volume_view(folder: Path, finding: PatientFinding) -> None:
    """Write everything but the slices; raises OSError if the disk is full.

    Parameters
    ----------
    folder
        The view's folder.
    finding
        The finding on the volume, which must still contain it.
    """
    masks, volume = finding.masks, finding.masks.volume
    geometry = volume.geometry
    heat = {one.number: _heat(one, volume.shape[1:]) for one in finding.slices if one.has_evidence}
    shown = [number for number, map_ in heat.items() if map_.any()]
    _pack(folder / HEAT, b"".join(heat[number].tobytes() for number in shown))
    runs = [_runs(plane) for plane in masks.labels]
    _pack(folder / MASKS, b"".join(one.tobytes() for one in runs))
    window = masks.preprocessing.window
    index: dict[str, Any] = {
        "kind": "volume",
        "shape": list(volume.shape),
        "is_hu": volume.is_hu,
        "scale": 1 if volume.is_hu else GREY_STEPS,
        "window": [window.level, window.width] if volume.is_hu else [0.5, 1.0],
        "oriented": volume.oriented,
        "unread": {str(number + 1): error.problem for number, error in masks.damaged.items()},
        "geometry": None
        if geometry is None
        else {
            "positions": geometry.positions.round(4).tolist(),
            "row_step": geometry.row_step.round(6).tolist(),
            "column_step": geometry.column_step.round(6).tolist(),
        },
        "typed": masks.typed,
        "runs": [len(one) for one in runs],
        "heat": {
            "slices": shown,
            "shape": list(heat[shown[0]].shape) if shown else [0, 0],
            "full_scale": FULL_SCALE,
            "opacity": OPACITY,
            "colours": ANCHORS.astype(int).tolist(),
        },
        "colours": {
            "right": RIGHT_COLOUR,
            "left": LEFT_COLOUR,
            "ground_glass": LESION_COLOUR,
            "consolidation": CONSOLIDATION_COLOUR,
            "opacity": LESION_OPACITY,
        },
    }
    write_json(folder / INDEX, index)


def write_picture_view(folder: Path, paths: Sequence[Path], preprocessing: Preprocessing) -> None:
    """Write each readable picture as an 8-bit grey PNG; raises OSError if the disk is full."""
    names = []
    for path in paths:
        try:
            picture = Image.fromarray(preprocessing.picture(read_scan(path)))
        except ScanError:  # it is listed among the failures
            continue
        names.append(f"{path.name}.png")
        with replacing(folder / names[-1], "wb") as handle:
            picture.save(handle, "PNG", compress_level=1)
    write_json(folder / INDEX, {"kind": "pictures", "pictures": names})


def _heat(finding: SliceFinding, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The evidence of a slice, in 8 bits and at reduced size."""
    strength = evidence_strength(finding, shape)
    scale = min(1.0, HEAT_SIDE / max(shape))
    size = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
    return np.asarray(cv2.resize(strength, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _runs(plane: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """A slice's labels as runs, along its rows."""
    flat = plane.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(starts, append=flat.size)
    return ((flat[starts].astype(np.uint32) << RUN_BITS) | lengths.astype(np.uint32)).astype("<u4")


def _pack(path: Path, content: bytes) -> None:
    with replacing(path, "wb") as handle:
        handle.write(gzip.compress(content, 1, mtime=0))
