from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.masks import LEFT, RIGHT, Segmentation
from groundglass.train.masks import load_masked_part
from groundglass.train.slices import BalancedBatches

ONLY = Preprocessing(size=(32, 64), resize="stretch", lungs="only", margin=0.0, outside=0.15)


@pytest.fixture
def rows(tmp_path: Path) -> pd.DataFrame:
    """A slice with two lungs; the left half of each is lesion."""
    lungs, lesions = np.zeros((64, 96), bool), np.zeros((64, 96), bool)
    for left in (8, 56):
        lungs[16:48, left : left + 32] = True
        lesions[16:48, left : left + 16] = True
    grey = np.where(lungs, 30, 200)
    for name, pixels in {"slice": grey, "lungs": 255 * lungs, "lesions": 255 * lesions}.items():
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    names = {"path": "slice", "lungs": "lungs", "lesions": "lesions"}
    return pd.DataFrame(
        [{column: str(tmp_path / f"{name}.png") for column, name in names.items()} | {"split": "train"}]
    )


class _Marked:
    """A segmenter that marks dark pixels as lungs."""

    def segment_scans(self, scans: Iterable[Scan]) -> Iterator[tuple[Scan, Segmentation]]:
        for scan in scans:
            dark = scan.pixels < 0.5
            sides = np.where(dark, np.where(np.arange(96) < 48, RIGHT, LEFT), 0).astype(np.uint8)
            yield scan, Segmentation(sides, np.zeros_like(dark), 1.0, "")


def test_masks_are_cut_out_as_their_slice_is(rows: pd.DataFrame) -> None:
    part = load_masked_part(rows, "train", ONLY, _Marked())  # type: ignore[arg-type]
    assert part.grey.shape == (1, 32, 64)
    assert part.masks.shape == (1, 32, 64, 2)
    inside = part.masks[0, ..., 0] > 0
    assert inside.mean() > 0.6  # the lungs fill the box around them
    assert part.grey[0][inside].max() < 100
    share = part.masks[0, ..., 1].sum() / part.masks[0, ..., 0].sum()
    assert share == pytest.approx(0.5, abs=0.06)


def test_a_slice_that_cannot_be_read_is_named(rows: pd.DataFrame) -> None:
    Path(rows["path"][0]).write_bytes(b"no picture")
    with pytest.raises(GroundglassError, match=r"slice\.png"):
        load_masked_part(rows, "train", ONLY, _Marked())  # type: ignore[arg-type]


def test_a_mask_of_another_size_is_refused(rows: pd.DataFrame) -> None:
    for name in ("lungs", "lesions"):
        Image.new("L", (48, 32)).save(rows[name][0])
    with pytest.raises(GroundglassError, match="differ in size from the slice"):
        load_masked_part(rows, "train", ONLY, _Marked())  # type: ignore[arg-type]


def test_each_stratum_has_its_share_of_every_batch() -> None:
    strata = np.repeat([0, 1, 2, 3], [100, 3, 10, 1])
    batches = BalancedBatches(strata, size=8, steps=12, seed=0)
    drawn = list(batches)
    assert len(drawn) == len(batches) == 12
    assert all(Counter(strata[rows]) == {0: 2, 1: 2, 2: 2, 3: 2} for rows in drawn)
    rare = [row for rows in drawn for row in rows if strata[row] == 1]
    assert all(len(set(rare[start : start + 3])) == 3 for start in range(0, 24, 3))


def test_remainders_rotate_among_the_strata() -> None:
    strata = np.arange(3)
    drawn = Counter(row for rows in BalancedBatches(strata, size=4, steps=6, seed=0) for row in rows)
    assert drawn == {0: 8, 1: 8, 2: 8}


def test_an_epoch_is_the_same_however_it_was_reached() -> None:
    strata = np.repeat([0, 1], 20)
    first, second = (BalancedBatches(strata, 4, 5, seed=1) for _ in range(2))
    for epoch in range(3):
        first.set_epoch(epoch)
        list(first)
    second.set_epoch(2)
    again = list(second)
    first.set_epoch(2)
    assert list(first) == again
    second.set_epoch(1)
    assert list(second) != again
