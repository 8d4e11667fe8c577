import cv2
import numpy as np
import pytest
from scipy.stats import entropy

from groundglass.audit.picture_features import (
    MARGIN,
    border_ring,
    grey_statistics,
    lung_box,
    outside_lungs,
    thumbnail,
)

SIDE = 128


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8)


def lungs(count=3, top=40, bottom=90, left=30, right=100):
    """Two triangles that touch every side of their box."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    box = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    slope = (rows - top) / (bottom - top) * (right - left) / 2
    inside = (columns - left <= slope) | (right - 1 - columns <= slope)
    return np.repeat((box & inside)[None], count, axis=0)


def test_grey_statistics_are_numpys(grey):
    kept = np.random.default_rng(1).random(grey.shape) < 0.3
    found = grey_statistics(grey, kept)
    assert found.dtype == np.float32
    for picture, counts, features in zip(grey, kept, found, strict=True):
        levels = picture[counts]
        shares = np.bincount(levels, minlength=256) / len(levels)
        percentiles = np.percentile(levels, [1, 5, 25, 50, 75, 95, 99], method="inverted_cdf")
        expected = [levels.mean(), levels.std(), *percentiles, entropy(shares, base=2)]
        assert features[:32] == pytest.approx(np.histogram(levels, 32, (0, 256))[0] / len(levels))
        assert features[32:] == pytest.approx(expected, rel=1e-5)
    whole = grey_statistics(grey, np.ones(grey.shape, dtype=bool))
    assert np.array_equal(whole, grey_statistics(grey))


def test_a_percentile_is_reached_where_the_share_is_met_exactly():
    hundred = np.arange(100, dtype=np.uint8).reshape(1, 10, 10)
    assert grey_statistics(hundred)[0, 34:41].tolist() == [0, 4, 24, 49, 74, 94, 98]


def test_grey_statistics_know_no_place(grey):
    shuffled = np.random.default_rng(2).permutation(grey.reshape(3, -1), axis=1).reshape(grey.shape)
    assert np.array_equal(grey_statistics(shuffled), grey_statistics(grey))


def test_the_thumbnail_is_the_mean_of_cells(grey):
    expected = [
        cv2.resize(picture.astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA) for picture in grey
    ]
    assert thumbnail(grey) == pytest.approx(np.reshape(expected, (3, 256)), abs=1e-3)
    assert thumbnail(grey, side=8).shape == (3, 64)
    with pytest.raises(ValueError, match="128 x 128 cannot be cut into 7 x 7"):
        thumbnail(grey, side=7)


def test_an_empty_cell_of_a_thumbnail_takes_the_mean_of_the_rest():
    grey = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    kept = np.ones((1, 4, 4), dtype=bool)
    kept[0, :2, :2] = False
    kept[0, 0, 3] = False
    # Cells of 2 x 2: nothing; 2, 6 and 7; 8, 9, 12 and 13; 10, 11, 14 and 15.
    assert thumbnail(grey, 2, kept)[0] == pytest.approx([107 / 11, 5, 10.5, 12.5])


def test_nothing_in_the_lungs_box_reaches_the_outside(grey):
    mask = lungs()
    changed = grey.copy()
    changed[:, 40:90, 30:100] = 255 - changed[:, 40:90, 30:100]
    assert np.array_equal(outside_lungs(changed, mask), outside_lungs(grey, mask))
    assert np.array_equal(border_ring(changed, mask), border_ring(grey, mask))
    full = np.zeros_like(mask)
    full[:, 40:90, 30:100] = True
    assert np.array_equal(outside_lungs(grey, full), outside_lungs(grey, mask))


def test_the_outside_ends_a_margin_off_the_box(grey):
    mask = lungs()
    near, far = grey.copy(), grey.copy()
    near[:, 40 - MARGIN, 60] ^= 255
    far[:, 40 - MARGIN - 1, 60] ^= 255
    assert np.array_equal(outside_lungs(near, mask), outside_lungs(grey, mask))
    assert (outside_lungs(far, mask) != outside_lungs(grey, mask)).any(axis=1).all()


def test_lungs_that_reach_the_border_stay_out_of_the_ring(grey):
    mask = lungs(top=60, bottom=128, left=0, right=128)
    changed = np.where(mask, 255 - grey, grey)
    assert (grey[:, 120:, :40] != changed[:, 120:, :40]).any()
    assert np.array_equal(border_ring(changed, mask), border_ring(grey, mask))
    near, far = grey.copy(), grey.copy()
    near[:, 60 - MARGIN, 0] ^= 255
    far[:, 60 - MARGIN - 1, 0] ^= 255
    assert np.array_equal(border_ring(near, mask), border_ring(grey, mask))
    assert (border_ring(far, mask) != border_ring(grey, mask)).any(axis=1).all()


def test_the_ring_ends_where_it_should(grey):
    nowhere = np.zeros(grey.shape, dtype=bool)
    inner, outer = grey.copy(), grey.copy()
    inner[:, 13:-13, 13:-13] = 0
    outer[:, 12, 64] ^= 255
    assert np.array_equal(border_ring(inner, nowhere), border_ring(grey, nowhere))
    assert (border_ring(outer, nowhere) != border_ring(grey, nowhere)).any(axis=1).all()
    # 16 x 16 cells minus the 12 x 12 that a ring of 13 pixels does not touch; 60 of them at 6 pixels.
    assert border_ring(grey, nowhere).shape == (3, 112 + 42)
    assert border_ring(grey, nowhere, width=0.05).shape == (3, 60 + 42)


def test_the_box_is_that_of_the_lungs():
    assert lung_box(lungs(1)).tolist() == [[40, 89, 30, 99]]
    assert lung_box(np.zeros((1, SIDE, SIDE), dtype=bool)).tolist() == [[0, 127, 0, 127]]


def test_a_slice_that_is_all_lung_shows_nothing(grey):
    everywhere = np.ones(grey.shape, dtype=bool)
    assert not outside_lungs(grey, everywhere).any()
    assert not border_ring(grey, everywhere).any()
