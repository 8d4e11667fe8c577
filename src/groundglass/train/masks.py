"""Slices with their masks of lungs and lesions, for training and validating segmenters and lesion detectors."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from groundglass.errors import GroundglassError
from groundglass.evaluation.predictions import STRUCTURES
from groundglass.preprocess import Preprocessing
from groundglass.segment.segmenter import Segmenter
from groundglass.train.slices import decode, read_slices


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
        uint8 0 or 1, shape (slices, height, width, 2): lungs with their lesions, and lesions.
    """

    rows: pd.DataFrame
    grey: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def load_masked_part(
    manifest: pd.DataFrame,
    part: str,
    preprocessing: Preprocessing,
    segmenter: Segmenter | None = None,
    *,
    show_progress: bool = False,
) -> MaskedPart:
    """Decode one part (``train``, ``val`` or ``test``) of a manifest with masks.

    Parameters
    ----------
    manifest
        With the columns ``lungs`` and ``lesions``, each the path of a mask.
    part
        Which rows.
    preprocessing
        Of the network; for slices that are augmented before they are equalised, without equalisation.
    segmenter
        Finds the lungs, where the preprocessing crops to them: the true masks must not decide what is cut out,
        because users have none.
    show_progress
        Draw a progress bar.

    Raises
    ------
    GroundglassError
        If the manifest has no masks, the part is empty, or a file cannot be read.
    """
    rows = masked_rows(manifest, part)
    paths = [Path(path) for path in rows["path"]]
    regions = None
    if segmenter is None:
        grey = decode(paths, preprocessing, show_progress=show_progress)
    else:
        grey, regions = read_slices(paths, preprocessing, segmenter, show_progress=show_progress)
    masks = np.zeros((*grey.shape, len(STRUCTURES)), dtype=np.uint8)
    for number, (_, row) in enumerate(rows.iterrows()):
        truth = np.stack(read_truth(row), axis=-1).astype(np.uint8)
        if regions is not None:
            size, region = regions[number]
            if truth.shape[:2] != size:
                raise GroundglassError(f"{row['path']}: its masks differ in size from the slice")
            truth = truth[region.slices]
        masks[number] = place_masks(truth, preprocessing).transpose(1, 2, 0)
    return MaskedPart(rows, grey, masks)


def masked_rows(manifest: pd.DataFrame, part: str) -> pd.DataFrame:
    """The rows of one part of a manifest with masks; GroundglassError where it has none, or the part is empty."""
    missing = [name for name in STRUCTURES if name not in manifest.columns]
    if missing:
        raise GroundglassError(
            f"the manifest has no column {' and no column '.join(missing)}: a segmenter is trained on masks; "
            "covid19-ct-seg has them"
        )
    rows = manifest[manifest["split"] == part].reset_index(drop=True)
    if rows.empty:
        raise GroundglassError(f"the {part} part is empty")
    return rows


def read_truth(row: "pd.Series[str]") -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The masks of a manifest's row, bool, shape (height, width): lungs with their lesions, and lesions.

    Raises
    ------
    GroundglassError
        If a mask is missing or cannot be read, or its size is not that of the other.
    """
    for name in STRUCTURES:
        if not row[name]:
            raise GroundglassError(f"{row['path']}: has no mask of its {name}, which a segmenter needs")
    lungs, lesions = (_read_mask(Path(row[name])) for name in STRUCTURES)
    if lungs.shape != lesions.shape:
        raise GroundglassError(f"{row['lesions']}: its size {lesions.shape} is not that of {row['lungs']}")
    return lungs | lesions, lesions


def _read_mask(path: Path) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly any kind
        raise GroundglassError(f"{path}: the mask cannot be read ({error})") from error
    if 0 < grey.max() <= 127:
        raise GroundglassError(f"{path}: the mask goes up to {grey.max()} only; it must hold 0 and 255")
    return grey > 127


def place_masks(masks: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Bring masks, shape (height, width, masks), to where preprocessing brings their slice.

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
    """The case of each row, numbered from 0: the patient, or the file itself where none is known."""
    return pd.factorize(rows["patient"].where(rows["patient"] != "", rows["path"]))[0]
