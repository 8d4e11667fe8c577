import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.transform import rotate

from groundglass.audit.detector.lungs import on_background_of, only_lungs, without_lungs
from groundglass.audit.detector.robustness import ROBUSTNESS
from groundglass.scan.scan import apply_window
from groundglass.segment.masks import Segmentation

RING = np.float32(0.7)


def smooth(shape: tuple[int, int] = (60, 80)) -> NDArray[np.float32]:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    grey = 0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 7)
    return np.asarray(grey, dtype=np.float32)


def lungs_at(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (60, 80)) -> Segmentation:
    """Lungs that fill boxes of (top, bottom, left, right)."""
    lungs = np.zeros(shape, dtype=np.uint8)
    for side, (top, bottom, left, right) in enumerate(boxes, start=1):
        lungs[top:bottom, left:right] = side
    return Segmentation(lungs, np.zeros(shape, dtype=bool), 1.0)


TWO_LUNGS = lungs_at((20, 40, 10, 25), (15, 45, 50, 70))
NOWHERE = Segmentation(np.zeros((60, 80), np.uint8), np.zeros((60, 80), bool), 0.0, "no lungs found")


def test_the_box_over_the_lungs_leaves_nothing_of_them_and_all_else() -> None:
    picture = smooth()
    changed = without_lungs(picture, TWO_LUNGS)
    black = changed == 0
    rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
    # 60 pixels wide: the margin is 5% of them, and one more for rounding.
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (11, 48, 6, 73)
    assert black[11:49, 6:74].all()
    np.testing.assert_array_equal(changed[~black], picture[~black])
    assert (picture > 0).all()


def test_only_the_lungs_are_left() -> None:
    picture, inside = smooth(), TWO_LUNGS.lungs > 0
    changed = only_lungs(picture, TWO_LUNGS)
    np.testing.assert_array_equal(changed[inside], picture[inside])
    assert not changed[~inside].any()
    assert changed.dtype == np.float32


def test_without_lungs_there_is_nothing_to_black_out() -> None:
    np.testing.assert_array_equal(without_lungs(smooth(), NOWHERE), smooth())


def test_lungs_are_put_on_the_other_background() -> None:
    """The box of one slice becomes the box of the other, twice as high and wide; the other's own lungs are gone."""
    small = lungs_at((10, 20, 10, 15), (10, 20, 20, 30))
    large = lungs_at((20, 40, 20, 40), (20, 40, 40, 60))
    picture = np.where(small.lungs > 0, np.float32(0.3), np.float32(0.9))
    other = np.where(large.lungs > 0, np.float32(0.1), RING)
    other[0, :] = 0.4
    changed = on_background_of(picture, small, other, large)
    outside = large.lungs == 0
    np.testing.assert_array_equal(changed[outside], other[outside])
    assert changed[21:39, 21:29] == pytest.approx(0.3)
    assert changed[21:39, 41:59] == pytest.approx(0.3)
    assert changed[21:39, 32:39] == pytest.approx(RING)


def test_lungs_on_their_own_background_stay_as_they_are() -> None:
    picture = smooth()
    np.testing.assert_allclose(
        on_background_of(picture, TWO_LUNGS, picture, TWO_LUNGS)[TWO_LUNGS.lungs > 0],
        picture[TWO_LUNGS.lungs > 0],
        atol=1e-6,
    )


def test_the_background_may_have_another_size() -> None:
    other = smooth((100, 50))
    lungs = lungs_at((30, 70, 10, 20), (30, 70, 25, 45), shape=(100, 50))
    changed = on_background_of(smooth(), TWO_LUNGS, other, lungs)
    assert changed.shape == (100, 50)
    assert changed.dtype == np.float32


def test_swapping_without_lungs_is_refused() -> None:
    with pytest.raises(ValueError, match="on which they were found"):
        on_background_of(smooth(), TWO_LUNGS, smooth(), NOWHERE)


@pytest.mark.parametrize("name", ROBUSTNESS)
@pytest.mark.parametrize(
    "picture", [smooth(), smooth((33, 32)), np.ones((40, 40), np.float32)], ids=("even", "odd", "white")
)
def test_a_harmless_change_gives_a_picture_and_always_the_same(
    name: str, picture: NDArray[np.float32]
) -> None:
    before = picture.copy()
    changed = ROBUSTNESS[name](picture)
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert changed.shape == picture.shape or "cropped" in name
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(changed, ROBUSTNESS[name](picture))


def change(words: str) -> NDArray[np.float32]:
    (name,) = (name for name in ROBUSTNESS if words in name)
    return ROBUSTNESS[name](smooth())


@pytest.mark.parametrize(("words", "degrees"), [("to the left", 5), ("to the right", -5)])
def test_turning_is_that_of_scikit_image(words: str, degrees: int) -> None:
    expected = rotate(smooth(), degrees, order=1, mode="reflect")
    np.testing.assert_allclose(change(words), expected, atol=0.01)


def test_mirrored_and_cropped() -> None:
    np.testing.assert_array_equal(change("mirrored"), np.fliplr(smooth()))
    np.testing.assert_array_equal(change("cropped"), smooth()[3:-3, 4:-4])


@pytest.mark.parametrize(
    ("words", "level", "width"),
    [("darker", 105, 1), ("brighter", -105, 1), ("wider", 0, 1.2), ("narrower", 0, 1 / 1.2)],
)
def test_a_window_change_is_that_of_the_scanner(words: str, level: float, width: float) -> None:
    """The change of grey equals that of another lung window on the original HU."""
    hu = smooth() * 1500 - 1350
    np.testing.assert_allclose(change(words), apply_window(hu, -600 + level, 1500 * width), atol=1e-5)


def test_gammas() -> None:
    np.testing.assert_allclose(change("gamma of 0.8"), smooth() ** 0.8, atol=1e-6)
    np.testing.assert_allclose(change("gamma of 1.25"), smooth() ** 1.25, atol=1e-6)


def test_jpeg_is_that_of_pillow() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(smooth() * 255).astype(np.uint8)).save(buffer, "JPEG", quality=50)
    expected = np.asarray(Image.open(buffer)) / 255
    np.testing.assert_allclose(change("JPEG"), expected, atol=2 / 255)
    assert np.abs(change("JPEG") - smooth()).max() > 1 / 255


def test_half_the_resolution_loses_single_pixels_alone() -> None:
    (halve,) = (change for name, change in ROBUSTNESS.items() if "resolution" in name)
    chequered = np.indices((40, 40)).sum(axis=0) % 2
    np.testing.assert_allclose(halve(chequered.astype(np.float32)), 0.5)
    np.testing.assert_allclose(halve(smooth()), smooth(), atol=0.03)


def test_noise_is_of_the_strength_named() -> None:
    difference = change("noise of 2%") - smooth()
    assert difference.std() == pytest.approx(0.02, rel=0.05)
    assert abs(difference.mean()) < 0.001
