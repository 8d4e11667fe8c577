"""Slices and their masks in memory, for training and validating a segmenter."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from groundglass.errors import GroundglassError
from groundglass.evaluate.predictions import STRUCTURES
from groundglass.preprocess import Preprocessing
from groundglass.train.segmentation.augment import place_masks
from groundglass.train.slices import Batches, decode


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
    manifest: pd.DataFrame, part: str, preprocessing: Preprocessing, *, show_progress: bool = False
) -> MaskedPart:
    """Decode one part (``train``, ``val`` or ``test``) of a manifest with masks.

    Parameters
    ----------
    manifest
        With the columns ``lungs`` and ``lesions``, each the path of a mask.
    part
        Which rows.
    preprocessing
        Of the network; of what is to be augmented, without equalising, which comes after that.
    show_progress
        Draw a progress bar.

    Raises
    ------
    GroundglassError
        If the manifest has no masks, the part is empty, or a file cannot be read.
    """
    rows = masked_rows(manifest, part)
    grey = decode([Path(path) for path in rows["path"]], preprocessing, show_progress=show_progress)
    masks = np.stack([_placed(row, preprocessing) for _, row in rows.iterrows()])
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


def _placed(row: "pd.Series[str]", preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The masks where preprocessing brings their slice, shape (height, width, 2)."""
    both = np.stack(read_truth(row), axis=-1).astype(np.uint8)
    return np.ascontiguousarray(place_masks(both, preprocessing).transpose(1, 2, 0))


def _read_mask(path: Path) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly any kind
        raise GroundglassError(f"{path}: the mask cannot be read ({error})") from error
    if 0 < grey.max() <= 127:
        raise GroundglassError(f"{path}: the mask goes up to {grey.max()} only; it must hold 0 and 255")
    return grey > 127


class MaskedSlices(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Slices and their masks, indexed by a whole batch at a time, with their row numbers."""

    def __init__(self, part: MaskedPart) -> None:
        self.grey = torch.from_numpy(part.grey)
        self.masks = torch.from_numpy(part.masks)

    def __len__(self) -> int:
        return len(self.grey)

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        return torch.tensor(rows), self.grey[rows], self.masks[rows]


def make_masked_loader(
    part: MaskedPart, batch_size: int, *, seed: int | None = None
) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
    """A loader over slices in memory: in order, or shuffled where a seed is given."""
    batches = Batches(len(part.grey), batch_size, seed=seed)
    return DataLoader(MaskedSlices(part), batch_size=None, sampler=batches)


def case_codes(rows: pd.DataFrame) -> NDArray[np.intp]:
    """The case of each row, numbered from 0: the patient, or the file itself where none is known."""
    return pd.factorize(rows["patient"].where(rows["patient"] != "", rows["path"]))[0]
