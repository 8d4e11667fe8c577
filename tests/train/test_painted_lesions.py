import numpy as np
import pytest
from numpy.typing import NDArray

from groundglass.train.painted_lesions import KINDS, paint


@pytest.fixture
def lungs() -> NDArray[np.bool_]:
    mask = np.zeros((96, 128), bool)
    mask[16:80, 12:56] = mask[16:80, 72:116] = True
    return mask


@pytest.fixture
def grey8(lungs: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(lungs, 38, 216).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_changes_lungs_alone(
    kind: object, lungs: NDArray[np.bool_], grey8: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundglass.train.painted_lesions.KINDS", (kind,))
    changed = 0
    for seed in range(8):
        painted = paint(np.random.default_rng(seed), grey8, lungs)
        assert painted.dtype == np.uint8
        changed += int((painted != grey8)[lungs].sum())
        far = np.ones_like(lungs)
        far[14:82, 10:58] = far[14:82, 70:118] = False
        np.testing.assert_array_equal(painted[far], grey8[far])
    assert changed > 100


def test_the_same_draw_paints_the_same(lungs: NDArray[np.bool_], grey8: NDArray[np.uint8]) -> None:
    first, again, other = (paint(np.random.default_rng(seed), grey8, lungs) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_where_there_is_hardly_any_lung_nothing_is_painted(grey8: NDArray[np.uint8]) -> None:
    few = np.zeros(grey8.shape, bool)
    few[:10, :10] = True
    assert paint(np.random.default_rng(0), grey8, few) is grey8
