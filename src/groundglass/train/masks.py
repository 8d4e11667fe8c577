"""Slices with their masks of lungs and lesions, for training and validating segmenters and lesion detectors."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from groundglass.data.convert import CONSOLIDATION, GROUND_GLASS
from groundglass.errors import GroundglassError, ScanError
from groundglass.evaluation.predictions import STRUCTURES
from groundglass.labels import NO_LESIONS
from groundglass.preprocess import Preprocessing
from groundglass.segment.segmenter import Segmenter
from groundglass.train.losses import UNKNOWN
from groundglass.train.slices import decode

PLANES = (*STRUCTURES, "consolidation")
"""The planes of training masks: lungs with their lesions, lesions of either type, and consolidation."""
MASK_COLUMNS = (*STRUCTURES, "lesion_types")

Masks = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class MaskedPart:
    """The decoded slices of one part, with their masks.

    Attributes
    ----------
    rows
        The manifest's rows.
    grey
        uint8, shape (slices, height, width) of the input.
    masks
        uint8 0 or 1, with groundglass.train.losses.UNKNOWN added where nobody marked it, shape (slices, height,
        width, planes): the first planes of :data:`PLANES`.
    """

    rows: pd.DataFrame
    grey: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    @property
    def taught(self) -> NDArray[np.bool_]:
        """Which planes of each slice are known, bool, shape (slices, planes)."""
        return self.masks.max(axis=(1, 2)) < UNKNOWN


def load_masked_part(
    manifest: pd.DataFrame,
    part: str,
    preprocessing: Preprocessing,
    *,
    lungs_from: Segmenter | None = None,
    planes: int = len(STRUCTURES),
    show_progress: bool = False,
) -> MaskedPart:
    """Decode one part (``train``, ``val`` or ``test``) of a manifest with masks.

    Parameters
    ----------
    manifest
        With the columns ``lungs`` and ``lesions``, each the path of a mask; with ``lungs_from``, any of these
        and ``lesion_types`` may be blank or missing.
    part
        Which rows.
    preprocessing
        The network's preprocessing; without equalisation for slices that are augmented before it.
    lungs_from
        Finds the lungs of slices without lung masks; these are not targets. Slices with no marks are left
        out. None refuses slices without masks of lungs and lesions.
    planes
        Number of :data:`PLANES` that the masks have.
    show_progress
        Draw a progress bar.

    Raises
    ------
    GroundglassError
        If the manifest has no masks, the part is empty, or a file cannot be read.
    """
    rows = masked_rows(manifest, part, every=lungs_from is None)
    paths = [Path(path) for path in rows["path"]]
    grey = decode(paths, preprocessing, show_progress=show_progress)
    masks = np.zeros((*grey.shape, planes), dtype=np.uint8)
    found = {} if lungs_from is None else _found_lungs(lungs_from, rows)
    for number, (_, row) in enumerate(rows.iterrows()):
        truth = read_truth(row)
        stack = stacked(truth, found.get(row["path"]), planes)
        placed = place_masks(stack, preprocessing).transpose(1, 2, 0)
        masks[number] = placed + np.array(
            [0 if name in truth else UNKNOWN for name in PLANES[:planes]], np.uint8
        )
    return MaskedPart(rows, grey, masks)


def masked_rows(manifest: pd.DataFrame, part: str, *, every: bool = True) -> pd.DataFrame:
    """The rows of one part of a manifest with masks.

    Parameters
    ----------
    manifest, part
        As in :func:`load_masked_part`.
    every
        Require masks of lungs and lesions; otherwise rows with any mask, or known to show no lesion, are returned.

    Raises
    ------
    GroundglassError
        If there are no masks, or the part is empty.
    """
    missing = [name for name in STRUCTURES if name not in manifest.columns]
    if missing and (every or not set(MASK_COLUMNS) & set(manifest)):
        raise GroundglassError(
            f"the manifest has no column {' and no column '.join(missing)}: a segmenter is trained on masks; "
            "covid19-ct-seg has them"
        )
    rows = manifest[manifest["split"] == part].reset_index(drop=True)
    if not every:
        rows = rows.assign(**{name: "" for name in MASK_COLUMNS if name not in rows})
        rows = rows[(rows[list(MASK_COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    if rows.empty:
        raise GroundglassError(f"the {part} set is empty")
    for name in STRUCTURES if every else ():
        for path in rows["path"][rows[name] == ""].head(1):
            raise GroundglassError(
                f"{path}: has no mask of its {name}; a segmenter needs one, unless its recipe names another "
                "segmenter in training.lungs_from"
            )
    return rows


def read_truth(row: "pd.Series[str]") -> Masks:
    """The known masks of a slice in a manifest's row, by the names of :data:`PLANES`.

    Returns
    -------
    Each bool, shape (height, width); lungs hold their lesions, if these are known. An unknown plane is left
    out. If the slice is known to show no lesion and there is no mask, ``lesions`` and ``consolidation`` have
    the shape (1, 1).

    Raises
    ------
    GroundglassError
        If a mask is missing or cannot be read, or their sizes differ.
    """
    named = {name: str(row.get(name, "")) for name in MASK_COLUMNS}
    free = named["lesions"] == NO_LESIONS
    grey = {name: _read_mask(Path(path)) for name, path in named.items() if path not in ("", NO_LESIONS)}
    first = next(iter(grey), "")
    for name, mask in grey.items():
        if mask.shape != grey[first].shape:
            raise GroundglassError(
                f"{named[name]}: its size {mask.shape} differs from that of {named[first]}"
            )
    truth = {name: _binary(grey[name], named[name]) for name in STRUCTURES if name in grey}
    if "lesion_types" in grey:
        types = grey["lesion_types"]
        truth.setdefault("lesions", types > GROUND_GLASS // 2)
        truth["consolidation"] = types > (GROUND_GLASS + CONSOLIDATION) // 2
    elif free:
        truth["lesions"] = truth["consolidation"] = np.zeros(
            grey[first].shape if grey else (1, 1), dtype=bool
        )
    if "lungs" in truth and "lesions" in truth:
        truth["lungs"] = truth["lungs"] | truth["lesions"]
    return truth


def stacked(truth: Masks, lungs: NDArray[np.bool_] | None, planes: int) -> NDArray[np.uint8]:
    """The masks of a slice as planes, uint8 0 or 1, shape (height, width, planes).

    Parameters
    ----------
    truth
        As :func:`read_truth` gives it; unknown planes become 0.
    lungs
        Lungs that a segmenter found, used if the true ones are unknown.
    planes
        Number of :data:`PLANES`.
    """
    shape = np.broadcast_shapes(
        *(mask.shape for mask in truth.values()), () if lungs is None else lungs.shape
    )
    masks = np.zeros((*shape, planes), dtype=np.uint8)
    for number, name in enumerate(PLANES[:planes]):
        if name in truth:
            masks[..., number] = truth[name]
    if "lungs" not in truth and lungs is not None:
        masks[..., 0] = lungs | truth.get("lesions", np.False_)
    return masks


def _found_lungs(segmenter: Segmenter, rows: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """The lungs, by path, of the rows that have no lung mask."""
    without = [Path(path) for path in rows["path"][rows["lungs"] == ""]]
    found = {}
    for path, answer in segmenter.segment_files(without):
        if isinstance(answer, ScanError):
            raise answer
        found[str(path)] = answer[1].trusted_lungs
    return found


def _read_mask(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except Exception as error:  # Pillow's decoders raise almost any exception on damaged bytes
        raise GroundglassError(f"{path}: the mask cannot be read ({error})") from error
    return grey


def _binary(grey: NDArray[np.uint8], path: str) -> NDArray[np.bool_]:
    if 0 < grey.max() <= 127:
        raise GroundglassError(f"{path}: the mask's values reach only {grey.max()}; it must hold 0 and 255")
    return grey > 127


def place_masks(masks: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Transform masks, shape (height, width, masks), as preprocessing transforms their slice.

    Returns
    -------
    uint8 0 or 1, shape (masks, height, width) of the input; 0 on the padding.
    """
    box = preprocessing.box(*masks.shape[:2])
    placed = np.zeros((masks.shape[2], *preprocessing.size), dtype=np.uint8)
    for number in range(masks.shape[2]):
        size = (box.width, box.height)
        share = cv2.resize(masks[..., number] * np.uint8(255), size, interpolation=cv2.INTER_LINEAR)
        placed[number][box.slices] = share > 127
    return placed


def case_codes(rows: pd.DataFrame) -> NDArray[np.intp]:
    """The case of each row, numbered from 0: the patient, or the file itself if none is known."""
    return pd.factorize(rows["patient"].where(rows["patient"] != "", rows["path"]))[0]
