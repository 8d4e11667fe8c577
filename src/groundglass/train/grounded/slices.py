"""The slices that train a grounded detector: some with an answer, some with masks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from groundglass.errors import GroundglassError, ScanError
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.segmenter import Segmenter, answer_files
from groundglass.train.segmentation.augment import place_masks
from groundglass.train.segmentation.slices import read_truth
from groundglass.train.slices import EpochSampler


@dataclass(frozen=True)
class MaskedSlices:
    """Slices with masks, as the detector sees slices.

    Attributes
    ----------
    grey
        uint8, shape (slices, height, width).
    masks
        uint8, shape (slices, 2, height, width): 1 in the lungs with their lesions, and in the lesions.
    """

    grey: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def load_masked_slices(
    rows: pd.DataFrame, preprocessing: Preprocessing, segmenter: Segmenter, *, show_progress: bool = False
) -> MaskedSlices:
    """Decode manifest rows with masks; the lungs that preprocessing needs are the segmenter's, as for users.

    Raises
    ------
    GroundglassError
        If a slice or a mask cannot be read.
    """
    truths = {row["path"]: np.stack(read_truth(row), axis=-1) for _, row in rows.iterrows()}

    def prepare(scans: Iterable[Scan]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        for scan, segmentation in segmenter.segment_scans(scans):
            lungs = segmentation.trusted_lungs
            truth = truths[str(scan.source)].astype(np.uint8)
            height, width = scan.pixels.shape
            if truth.shape[:2] != (height, width):
                raise GroundglassError(f"{scan.source}: its masks have another size than the slice")
            region = preprocessing.region(height, width, lungs)
            yield preprocessing.grey8(scan, lungs), place_masks(truth[region.slices], preprocessing)

    paths = [Path(path) for path in rows["path"]]
    results = track(
        answer_files(paths, prepare),
        "Decoding slices with masks",
        total=len(paths),
        disable=not show_progress,
        transient=True,
    )
    greys, masks = [], []
    for path, result in results:
        if isinstance(result, ScanError):
            raise GroundglassError(f"{path}: {result.problem}; {result.remedy}")
        greys.append(result[0])
        masks.append(result[1])
    return MaskedSlices(np.stack(greys), np.stack(masks))


class BalancedBatches(EpochSampler):
    """Batches of row numbers in which each stratum has the same share, however many rows it holds.

    The rows of a stratum come in random order, each once before any comes again within an epoch. An epoch is the
    same whether the run reached it in one go or was resumed there.

    Parameters
    ----------
    strata
        The stratum of each row, numbered from 0, shape (rows,).
    size, steps
        Rows of a batch, and batches of an epoch.
    seed
        Of the order.
    """

    def __init__(self, strata: NDArray[np.intp], size: int, steps: int, seed: int) -> None:
        self.members = [np.flatnonzero(strata == one) for one in np.unique(strata)]
        self.size = size
        self.steps = steps
        self.seed = seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        endless = [_endless(rows, random) for rows in self.members]
        for step in range(self.steps):
            # What does not divide evenly goes round the strata.
            yield [next(endless[(step + number) % len(endless)]) for number in range(self.size)]


def _endless(rows: NDArray[np.intp], random: np.random.Generator) -> Iterator[int]:
    while True:
        yield from random.permutation(rows).tolist()
