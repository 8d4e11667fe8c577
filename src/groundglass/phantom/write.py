"""Write phantoms as pictures: slices as a viewer shows them, their masks and their ground truth."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from groundglass.errors import GroundglassError
from groundglass.files import replacing, write_bytes, write_json
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.phantom.lesions import SIDE_LABELS, random_lesions
from groundglass.phantom.phantom import Phantom, make_phantom
from groundglass.scan.scan import LUNG_WINDOW, apply_window

MIN_LUNG_SHARE = 0.03
"""A slice is written only if the lungs cover more than this share of the picture."""
MIXED = ("covid", "other", "none")
"""The diseases that ``mixed`` alternates between."""
FOLDERS = ("slices", "lungs", "lesions")


def write_phantom(phantom: Phantom, folder: Path, *, name: str | None = None, every: int = 1) -> list[Path]:
    """Write a phantom's slices, masks, volume and truth.

    ``slices/NAME_zzz.png`` is slice zzz in the lung window, 8 bit grey; ``lungs/`` and ``lesions/`` hold its
    masks (0 and 255) under the same file name. ``NAME.npz`` holds the arrays ``hu`` (int16), ``lungs`` and
    ``lesions`` (uint8), as in :class:`Phantom`, with ``spacing``. ``NAME.json`` holds the ground truth.
    Slices in which the lungs cover 3% of the picture or less are only in the volume.

    Parameters
    ----------
    phantom
        What to write.
    folder
        Output folder, created if needed.
    name
        Start of the file names; None for the scan's id.
    every
        Write every n-th slice.

    Returns
    -------
    The paths of the pictures in ``slices``, from the feet to the head.

    Raises
    ------
    GroundglassError
        If a file cannot be written, or ``every`` is under 1.
    """
    if every < 1:
        raise GroundglassError(f"every must be at least 1, got {every}")
    name = name or phantom.scan.scan_id
    grey = np.rint(apply_window(phantom.scan.pixels, *LUNG_WINDOW) * 255).astype(np.uint8)
    shown = _shown(phantom)[::every]
    paths = []
    for index in shown:
        file = f"{name}_{index:03d}.png"
        pictures = (grey[index], _picture(phantom.lungs[index]), _picture(phantom.lesions[index]))
        for sub, picture in zip(FOLDERS, pictures, strict=True):
            _write_png(folder / sub / file, picture)
        paths.append(folder / FOLDERS[0] / file)
    with replacing(folder / f"{name}.npz", "wb") as handle:
        np.savez_compressed(
            handle,
            hu=phantom.scan.pixels.astype(np.int16),
            lungs=phantom.lungs,
            lesions=phantom.lesions,
            spacing=np.array(phantom.scan.spacing),
        )
    write_json(folder / f"{name}.json", _truth(phantom, shown, paths))
    return paths


def write_phantom_set(
    folder: Path,
    *,
    count: int,
    disease: str = "mixed",
    seed: int = 0,
    shape: tuple[int, int, int] = (32, 256, 256),
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, str]]:
    """Write phantoms of seeds ``seed``, ``seed + 1``, ... and list their slices for a manifest.

    Parameters
    ----------
    folder
        Output folder; use one per call, since files of the same names are replaced.
    count
        Number of phantoms.
    disease
        ``"covid"``, ``"other"``, ``"none"``, or ``"mixed"``, which alternates between them.
    shape
        (slices, height, width) of each volume, over which a whole chest is spread.
    progress
        Called after each phantom with the number done and ``count``.

    Returns
    -------
    A row for each slice: ``path`` (absolute), ``label``, ``patient`` (``phantom-`` and the seed), ``split``
    (blank), ``source`` (``phantom``), and ``lungs`` and ``lesions``, the paths of its masks. A slice is
    COVID-19 if it shows ground glass or consolidation of a covid phantom; the other slices of such a phantom
    are left out, since they show no sign of the disease.

    Raises
    ------
    GroundglassError
        If an argument is out of range or a file cannot be written.
    """
    folder = Path(folder).absolute()
    rows: list[dict[str, str]] = []
    for number, (this, phantom) in enumerate(phantoms(count, disease, seed, shape)):
        for index, path in zip(_shown(phantom), write_phantom(phantom, folder), strict=True):
            if this != "covid" or phantom.lesions[index].any():
                rows.append(_row(path, phantom.scan.scan_id, POSITIVE if this == "covid" else NEGATIVE))
        if progress is not None:
            progress(number + 1, count)
    return rows


def phantoms(
    count: int, disease: str, seed: int, shape: tuple[int, int, int]
) -> Iterator[tuple[str, Phantom]]:
    """Phantoms of seeds ``seed``, ``seed + 1``, ... and their diseases; arguments as :func:`write_phantom_set`."""
    if count < 1:
        raise GroundglassError(f"a set needs at least one phantom, got {count}")
    for number in range(count):
        this = MIXED[number % len(MIXED)] if disease == "mixed" else disease
        yield this, make_phantom(seed + number, shape=shape, lesions=random_lesions(seed + number, this))


def ml_by_side(phantom: Phantom, mask: NDArray[np.bool_]) -> dict[str, float]:
    """The volume in ml that a mask covers in each lung."""
    return {
        name: int(np.count_nonzero(mask & (phantom.lungs == label))) * phantom.voxel_ml
        for name, label in SIDE_LABELS.items()
    }


def _shown(phantom: Phantom) -> list[int]:
    """The slices that show enough lung."""
    share = (phantom.lungs > 0).mean(axis=(1, 2))
    return [int(index) for index in np.flatnonzero(share > MIN_LUNG_SHARE)]


def _row(path: Path, patient: str, label: str) -> dict[str, str]:
    masks = {mask: str(path.parents[1] / mask / path.name) for mask in FOLDERS[1:]}
    return {"path": str(path), "label": label, "patient": patient, "split": "", "source": "phantom", **masks}


def _truth(phantom: Phantom, shown: list[int], paths: list[Path]) -> dict[str, Any]:
    """The ground truth of a phantom, for its JSON file."""
    area = (phantom.lungs > 0).sum(axis=(1, 2))
    lesion = (phantom.lesions > 0).sum(axis=(1, 2))
    return {
        "about": "a synthetic phantom, made from geometry: not a patient, and not a measure of accuracy",
        "seed": phantom.seed,
        "shape": phantom.lungs.shape,
        "spacing_mm": phantom.scan.spacing,
        "orientation": phantom.scan.orientation,
        "lung_ml": ml_by_side(phantom, phantom.lungs > 0),
        "lesion_ml": int(lesion.sum()) * phantom.voxel_ml,
        "lesions": [asdict(record) for record in phantom.lesion_records],
        "slices": [
            {
                "file": path.relative_to(path.parents[1]).as_posix(),
                "index": index,
                "lung_share": float(area[index] / phantom.lungs[index].size),
                "lesion_share_of_lung": float(lesion[index] / area[index]),
            }
            for index, path in zip(shown, paths, strict=True)
        ],
    }


def _picture(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(mask > 0, np.uint8(255), np.uint8(0))


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
