import numpy as np
import pytest
from numpy.typing import NDArray

from groundglass.train.pictures import with_gas, without_lungs

LUNG, TISSUE, AIR = 60, 190, 20


@pytest.fixture
def chest() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A body of tissue with two round lungs, on air; the slice and the lungs' mask."""
    rows, columns = np.mgrid[0:200, 0:240]
    body = ((rows - 100) / 85) ** 2 + ((columns - 120) / 110) ** 2 < 1
    lungs = np.zeros(body.shape, dtype=bool)
    for middle in (70, 170):
        lungs |= (rows - 100) ** 2 + (columns - middle) ** 2 < 35**2
    grey = np.where(lungs, LUNG, np.where(body, TISSUE, AIR)) + np.random.default_rng(0).normal(
        0, 4, body.shape
    )
    return np.rint(grey).clip(0, 255).astype(np.uint8), lungs.astype(np.uint8)


def test_lungs_are_filled_with_tissue_and_all_else_stays(chest) -> None:
    grey, lungs = chest
    filled = without_lungs(np.random.default_rng(1), grey, lungs)
    assert abs(float(np.median(filled[lungs > 0])) - TISSUE) < 15
    far = np.ones_like(lungs)
    far[50:150, 20:220] = 0
    np.testing.assert_array_equal(filled[far > 0], grey[far > 0])


def test_a_slice_without_lungs_is_left_as_it_is(chest) -> None:
    grey, lungs = chest
    np.testing.assert_array_equal(without_lungs(np.random.default_rng(1), grey, lungs * 0), grey)


@pytest.mark.parametrize("seed", range(8))
def test_gas_is_dark_and_never_in_the_lungs(chest, seed: int) -> None:
    grey, lungs = chest
    gassy = with_gas(np.random.default_rng(seed), grey, lungs)
    np.testing.assert_array_equal(gassy[lungs > 0], grey[lungs > 0])
    changed = np.abs(gassy.astype(int) - grey) > 60
    assert changed.sum() > 30
    assert np.median(gassy[changed]) < LUNG + 20


def test_the_draw_depends_only_on_the_seed(chest) -> None:
    grey, lungs = chest
    first, again, other = (with_gas(np.random.default_rng(seed), grey, lungs) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
