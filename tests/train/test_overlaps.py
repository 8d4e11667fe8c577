import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from groundglass.evaluation.predictions import OVERLAP_COLUMNS, check_overlaps
from groundglass.train.overlaps import hausdorff95, overlap_row

Mask = NDArray[np.bool_]


def square(row: int, column: int, side: int = 20, size: int = 64) -> Mask:
    mask = np.zeros((size, size), bool)
    mask[row : row + side, column : column + side] = True
    return mask


@pytest.mark.parametrize("shift", [0, 1, 3, 7, 30])
def test_shifted_squares_have_the_distance_of_the_shift(shift: int) -> None:
    assert hausdorff95(square(5, 5), square(5, 5 + shift)) == shift
    assert hausdorff95(square(5 + shift, 5), square(5, 5)) == shift


def test_a_stray_pixel_is_not_the_distance() -> None:
    true = square(5, 5)
    predicted = true.copy()
    predicted[60, 60] = True  # 1 of 77 outline pixels
    assert hausdorff95(predicted, true) == 0


def test_the_greater_of_both_directions_counts() -> None:
    one, two = square(2, 2), square(2, 2) | square(40, 40)
    # Every outline pixel of the one is on the other's outline, but not vice versa.
    assert hausdorff95(one, two) == hausdorff95(two, one)
    distance = hausdorff95(one, two)
    assert distance is not None
    assert distance > 40


def test_it_is_the_percentile_of_distances_between_all_outline_pixels() -> None:
    rows, columns = np.mgrid[0:64, 0:64]
    true = (rows - 30) ** 2 / 200 + (columns - 28) ** 2 / 420 < 1
    predicted = ((rows - 34) ** 2 / 330 + (columns - 33) ** 2 / 260 < 1) & (rows % 17 > 2)

    def outline(mask: Mask) -> NDArray[np.intp]:
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    distances = cdist(outline(predicted), outline(true))
    expected = max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))
    assert expected > 3
    assert hausdorff95(predicted, true) == pytest.approx(expected, rel=1e-5)


def test_masks_that_fill_the_image_have_an_outline() -> None:
    full = np.ones((32, 32), bool)
    assert hausdorff95(full, full) == 0


def test_empty_masks_have_no_distance_and_no_warning() -> None:
    empty = np.zeros((64, 64), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hausdorff95(empty, square(5, 5)) is None
        assert hausdorff95(square(5, 5), empty) is None
        assert hausdorff95(empty, empty) is None
        assert hausdorff95(square(5, 5), square(5, 6)) == 1


@pytest.mark.parametrize(
    "mask", [np.ones((64, 64), np.uint8), np.ones((1, 64, 64), bool), np.ones((64, 63), bool)]
)
def test_other_arrays_are_refused(mask: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="masks"):
        hausdorff95(mask, square(5, 5))  # type: ignore[arg-type]


def test_rows_make_a_table() -> None:
    empty = np.zeros((64, 64), bool)
    rows = [
        overlap_row("a.png", "p1", "lungs", square(5, 8), square(5, 5)),
        overlap_row("a.png", "p1", "lesions", empty, square(5, 5, side=2)),
        overlap_row("b.png", "p1", "lesions", empty, empty),
    ]
    assert rows[0] == {
        "path": "a.png",
        "case": "p1",
        "structure": "lungs",
        "true_px": 400,
        "predicted_px": 400,
        "common_px": 20 * 17,
        "hd95": 3.0,
    }
    table = check_overlaps(pd.DataFrame(rows))
    assert tuple(table.columns) == OVERLAP_COLUMNS
    assert table["true_px"].tolist() == [400, 4, 0]
    assert table["predicted_px"].tolist() == [400, 0, 0]
    assert table["hd95"].isna().tolist() == [False, True, True]
