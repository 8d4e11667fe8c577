import cv2
import numpy as np
import pytest

from groundglass.similarity import NeighbourIndex, small_pictures, unit_vectors


def pictures(count, side=128):
    return np.random.default_rng(count).integers(0, 256, (count, side, side), dtype=np.uint8)


def test_products_are_correlations_whatever_brightness_and_contrast():
    # As smooth as slices are: rounding to whole grey levels must not decide.
    grey = np.stack([cv2.GaussianBlur(one, (0, 0), 4) for one in pictures(4)])
    grey = np.stack([cv2.normalize(one, None, 0, 255, cv2.NORM_MINMAX) for one in grey])
    vectors = unit_vectors(small_pictures(grey, 16))
    cells = grey.reshape(4, 16, 8, 16, 8).mean(axis=(2, 4)).reshape(4, -1)
    np.testing.assert_allclose(vectors @ vectors.T, np.corrcoef(cells), atol=0.004)
    paler = unit_vectors(small_pictures((grey // 2 + 60).astype(np.uint8), 16))
    assert (vectors * paler).sum(axis=1).min() > 0.995
    assert not unit_vectors(np.full((1, 16, 16), 7, dtype=np.uint8)).any()


def test_windows_are_cut_before_they_are_averaged():
    grey = pictures(3)
    cut = small_pictures(grey, 16, (0.5, 0.25, 0.5))
    np.testing.assert_array_equal(cut, small_pictures(np.ascontiguousarray(grey[:, 64:, 32:96]), 16))
    assert small_pictures(grey[:0], 16).shape == (0, 16, 16)


@pytest.mark.parametrize("exact", [True, False])
def test_the_nearest_vectors_come_first(exact):
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    likeness, places = NeighbourIndex(vectors, exact=exact).search(vectors[:5], 3)
    products = vectors[:5] @ vectors.T
    np.testing.assert_array_equal(places, np.argsort(-products, axis=1)[:, :3])
    np.testing.assert_allclose(likeness, -np.sort(-products, axis=1)[:, :3], rtol=1e-5)


def test_where_there_are_too_few_places_are_missing():
    assert (
        NeighbourIndex(np.eye(2, dtype=np.float32)).search(np.eye(2, dtype=np.float32), 3)[1][0].tolist()[2]
        == -1
    )
