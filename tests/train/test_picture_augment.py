from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from groundglass.preprocess import AIR, Preprocessing
from groundglass.recipe.tasks import SegmentationAugmentation
from groundglass.scan.scan import Scan
from groundglass.train.augment import WIDEST_MARGIN, PictureAugment
from groundglass.train.losses import UNKNOWN
from groundglass.train.masks import place_masks
from groundglass.train.pictures import draw_marks, not_ct, radiograph

SIZE = (64, 64)
PREPROCESSING = Preprocessing(size=SIZE, channels=1)
GEOMETRY: dict[str, Any] = {
    "flip": 0.5, "upside_down": 0.4, "crop": 0.5, "piece": 0.1, "zoom_out": 0.2,
    "rotation": 12.0, "aspect": 0.12, "shear": 0.06,
}  # fmt: skip
LOOKS: dict[str, Any] = {
    "gas": 0.3, "frame": 0.3, "window": 0.75, "mediastinal": 0.1, "marks": 0.4, "jpeg": 0.4, "gamma": 0.4,
    "bias": 0.08, "noise": 0.08, "blur": 1.5, "resolution": 2.5,
}  # fmt: skip
Picture = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(autouse=True)
def _few_radiographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phantoms take seconds to make, and one is enough."""
    made = [np.linspace(0, 1, 96 * 128, dtype=np.float32).reshape(96, 128)]
    monkeypatch.setattr("groundglass.train.pictures._radiographs", lambda: made)


def chest(size: tuple[int, int] = SIZE) -> Picture:
    """Two dark lungs in a grey body, one of them with a bright square, and the masks of lungs and square."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    y, x = rows / height, columns / width
    body = ((x - 0.5) / 0.45) ** 2 + ((y - 0.5) / 0.4) ** 2 < 1
    lungs = np.zeros(size, dtype=bool)
    for middle in (0.3, 0.7):
        lungs |= ((x - middle) / 0.15) ** 2 + ((y - 0.5) / 0.28) ** 2 < 1
    square = (np.abs(x - 0.31) < 0.12) & (np.abs(y - 0.5) < 0.17)
    grey = np.where(square, 205, np.where(lungs, 40, np.where(body, 120, 60))).astype(np.uint8)
    return grey, np.stack([lungs | square, square], axis=-1).astype(np.uint8)


def drawn(seed: int, picture: Picture | None = None, size: tuple[int, int] = SIZE, **spec: Any) -> Picture:
    augment = PictureAugment(SegmentationAugmentation(**spec))
    preprocessing = PREPROCESSING.model_copy(update={"size": size})
    return augment(*(picture or chest(size)), preprocessing, (seed, 0, 0))


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    both = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / both if both else 1.0


@pytest.mark.parametrize("spec", [GEOMETRY, LOOKS, {"not_ct": 1.0}], ids=["geometry", "looks", "not ct"])
def test_the_same_seed_draws_the_same_picture_and_another_seed_another(spec: dict[str, Any]) -> None:
    pictures = [drawn(seed, **spec) for seed in range(12)]
    for seed, picture in enumerate(pictures):
        for one, other in zip(drawn(seed, **spec), picture, strict=True):
            np.testing.assert_array_equal(one, other)
    assert len({grey.tobytes() for grey, _ in pictures}) >= 11


def test_every_part_of_the_seed_counts() -> None:
    augment = PictureAugment(SegmentationAugmentation(**GEOMETRY))
    seeds = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0))
    assert len({augment(*chest(), PREPROCESSING, seed)[0].tobytes() for seed in seeds}) == 4


def test_nothing_is_changed_in_place() -> None:
    grey, masks = chest()
    before = grey.copy(), masks.copy()
    for seed in range(20):
        drawn(seed, (grey, masks), **GEOMETRY, **{**LOOKS, "frame": 1.0, "marks": 1.0})
    np.testing.assert_array_equal(grey, before[0])
    np.testing.assert_array_equal(masks, before[1])


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (128, 64)], ids=str)
def test_masks_follow_the_picture(size: tuple[int, int]) -> None:
    """Nothing else in the slice is as bright as the square, so the picture shows where it went."""
    grey, masks = chest(size)
    seen = 0
    for seed in range(30):
        picture, (lungs, square) = drawn(seed, (grey, masks), size, **GEOMETRY)
        bright = (picture > 140) & (picture < 232)
        _, labels = cv2.connectedComponents(bright.astype(np.uint8))
        # What belongs to the square touches its mask; the edge of a white border beside the slice does not.
        of_square = np.isin(labels, np.unique(labels[square > 0])) & bright
        assert lungs[square > 0].all()
        if square.sum() < 200:  # cropped away
            continue
        seen += 1
        assert dice(of_square, square > 0) > 0.9, seed
    assert seen > 20


def test_the_lungs_are_where_the_picture_is_dark() -> None:
    for seed in range(30):
        picture, (lungs, square) = drawn(seed, **{**GEOMETRY, "piece": 0.0})
        dark = (picture < 50) & (cv2.erode(lungs, np.ones((3, 3), np.uint8)) > 0)
        inner = (cv2.erode(lungs, np.ones((3, 3), np.uint8)) > 0) & (square == 0)
        if inner.sum() > 50:
            assert dark.sum() / inner.sum() > 0.7, seed


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 64), (160, 32)], ids=str)
@pytest.mark.parametrize("clahe", [None, 2.0])
def test_without_any_chance_it_is_plain_preprocessing(size: tuple[int, int], clahe: float | None) -> None:
    grey, masks = chest(size)
    preprocessing = Preprocessing(size=size, channels=1, clahe=clahe)
    expected = preprocessing.grey8(Scan((grey / np.float32(255)).astype(np.float32), False, "x"))
    for seed in range(5):
        picture, placed = PictureAugment(SegmentationAugmentation())(grey, masks, preprocessing, (seed,))
        np.testing.assert_array_equal(picture, expected)
        np.testing.assert_array_equal(placed, masks.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("spec", "moved"),
    [
        ({"flip": 1.0}, lambda picture: picture[:, ::-1]),
        ({"upside_down": 1.0}, lambda picture: picture[::-1]),
        ({"flip": 1.0, "upside_down": 1.0}, lambda picture: picture[::-1, ::-1]),
    ],
    ids=["left to right", "top to bottom", "both"],
)
def test_a_mirrored_picture_is_mirrored(spec: dict[str, Any], moved: Any) -> None:
    """Except for the outermost rows and columns, which resampling may lose."""
    grey, masks = chest()
    picture, placed = drawn(3, (grey, masks), **spec)
    for got, source in ((picture, grey), (placed[0], masks[..., 0]), (placed[1], masks[..., 1])):
        wanted = moved(source)
        shifts = [np.roll(got, (row, column), (0, 1)) for row in (0, -1) for column in (0, -1)]
        inner = np.s_[2:-2, 2:-2]
        assert any((shifted[inner] == wanted[inner]).all() for shifted in shifts)


def test_a_crop_keeps_the_lungs_nearly_whole() -> None:
    grey, masks = chest()
    for seed in range(20):
        picture, (lungs, _) = drawn(seed, (grey, masks), crop=1.0)
        assert lungs.mean() > 0.9 * masks[..., 0].mean(), seed
        assert picture.shape == SIZE
    assert (
        max(drawn(seed, (grey, masks), crop=1.0)[1][0].mean() for seed in range(20))
        > 1.3 * masks[..., 0].mean()
    )


def test_zooming_out_leaves_a_border_without_lungs() -> None:
    areas = [drawn(seed, zoom_out=1.0)[1][0].mean() for seed in range(10)]
    assert max(areas) < chest()[1][..., 0].mean()
    assert min(areas) > 0.4 * chest()[1][..., 0].mean()


def test_what_a_frame_covers_is_not_lung() -> None:
    grey, masks = np.full(SIZE, 100, np.uint8), np.ones((*SIZE, 2), np.uint8)
    for seed in range(20):
        picture, placed = drawn(seed, (grey, masks), frame=1.0)
        covered = picture != 100
        np.testing.assert_array_equal(placed[0] == 0, covered)
        np.testing.assert_array_equal(placed[1] == 0, covered)
        assert set(np.unique(picture[covered])) <= {0, 255}


@pytest.mark.parametrize(
    "spec",
    [
        {"window": 1.0},
        {"window": 1.0, "mediastinal": 1.0},
        {"marks": 1.0},
        {"jpeg": 1.0},
        {"gamma": 0.4},
        {"bias": 0.08},
        {"noise": 0.08},
        {"blur": 1.5},
        {"resolution": 2.5},
        {"gas": 1.0},
    ],
    ids=str,
)
def test_looks_change_grey_and_no_mask(spec: dict[str, Any]) -> None:
    grey, masks = chest()
    pictures = [drawn(seed, (grey, masks), **spec) for seed in range(25)]
    assert any((picture != grey).any() for picture, _ in pictures)
    for _, placed in pictures:
        np.testing.assert_array_equal(placed, masks.transpose(2, 0, 1))


def test_a_picture_of_something_else_has_empty_masks() -> None:
    for seed in range(40):
        _, placed = drawn(seed, not_ct=1.0)
        assert placed.shape == (2, *SIZE)
        assert placed.max() == 0
    shares = [drawn(seed, not_ct=0.3)[1].any() for seed in range(200)]
    assert 0.6 < np.mean(shares) < 0.8


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(32, 32), (64, 64), (64, 96), (160, 32), (16, 16), (33, 57)]),
    st.sampled_from(["pad", "stretch"]),
    st.sampled_from([None, 2.0]),
    st.sampled_from(["chest", "no lungs", "all lung", "one pixel"]),
)
def test_any_draw_is_a_valid_picture(
    seed: int, size: tuple[int, int], resize: str, clahe: float | None, kind: str
) -> None:
    grey, masks = chest(size)
    if kind != "chest":
        masks = np.full_like(masks, kind == "all lung")
        masks[size[0] // 2, size[1] // 3] = kind != "no lungs"
    preprocessing = Preprocessing(size=size, resize=resize, clahe=clahe, channels=1)
    spec = SegmentationAugmentation(**{**GEOMETRY, **LOOKS, "no_lungs": 0.3, "not_ct": 0.1})
    picture, placed = PictureAugment(spec)(grey, masks, preprocessing, (seed,))
    assert (picture.shape, picture.dtype) == (size, np.uint8)
    assert (placed.shape, placed.dtype) == ((2, *size), np.uint8)
    assert placed.flags.c_contiguous
    assert set(np.unique(placed)) <= {0, 1}
    assert (placed[1] <= placed[0]).all()


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_masks_are_placed_where_their_slice_is(resize: str) -> None:
    """A slice that is bright only in its mask, resized to a smaller input: half-bright pixels are the border."""
    rng = np.random.default_rng(0)
    coarse = rng.random((5, 9)) < 0.4
    mask = np.kron(coarse, np.ones((24, 24))).astype(np.uint8)
    preprocessing = Preprocessing(size=(64, 64), resize=resize, channels=1)
    grey8 = preprocessing.grey8(Scan(mask.astype(np.float32), False, "x"))
    placed = place_masks(np.stack([mask, 1 - mask], axis=-1), preprocessing)
    assert placed.shape == (2, 64, 64)
    inside = np.zeros((64, 64), dtype=bool)
    inside[preprocessing.box(*mask.shape).slices] = True
    sure = (grey8 < 60) | (grey8 > 195)
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(placed[0][sure], (grey8 > 127)[sure])
    np.testing.assert_array_equal(placed[1][sure & inside], (grey8 < 127)[sure & inside])
    assert not placed[:, ~inside].any()


def test_gas_is_dark_and_outside_the_lungs() -> None:
    size = (256, 256)
    grey, masks = chest(size)
    changed = 0
    for seed in range(10):
        picture, placed = drawn(seed, (grey, masks), size, gas=1.0)
        pocket = np.abs(picture.astype(int) - grey) > 30
        assert not pocket[masks[..., 0] > 0].any()
        assert (picture[pocket] < grey[pocket]).all()
        np.testing.assert_array_equal(placed, masks.transpose(2, 0, 1))
        changed += bool(pocket.any())
    assert changed > 5


def test_lungs_can_be_filled_up_with_tissue() -> None:
    size = (256, 256)
    grey, masks = chest(size)
    for seed in range(10):
        picture, placed = drawn(seed, (grey, masks), size, no_lungs=1.0)
        assert placed.max() == 0
        assert np.median(picture[masks[..., 0] > 0]) > 100


def test_distractors_are_sound() -> None:
    shapes, greys = set(), []
    for seed in range(40):
        picture = not_ct(np.random.default_rng(seed), 64)
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 1
        shapes.add(picture.shape)
        greys.append(len(np.unique(picture)))
        np.testing.assert_array_equal(picture, not_ct(np.random.default_rng(seed), 64))
    assert len(shapes) > 10
    assert greys.count(1) >= 2  # one grey
    assert max(greys) == 256  # noise
    assert sum(10 < count < 250 for count in greys) > 5
    changed = 0
    for seed in range(20):
        grey = np.full((60, 90), 77, np.uint8)
        draw_marks(np.random.default_rng(seed), grey)
        assert (grey == 77).mean() > 0.3
        changed += bool((grey != 77).any())
    assert changed > 15


def test_a_radiograph_shows_bone_bright_and_air_dark() -> None:
    volume = np.full((20, 30, 40), -1000, np.float32)
    volume[:, 5:25, 5:35] = 0
    volume[:, 10:20, 8:16] = -850
    volume[:, 10:20, 18:22] = 700
    picture = radiograph(volume)
    assert picture.shape == (20, 40)
    assert picture[10, 20] > picture[10, 30] > picture[10, 12] > picture[10, 1]
    assert 0 <= picture.min() <= picture.max() <= 1


def test_chances_of_framing_exclude_one_another() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        SegmentationAugmentation(crop=0.6, piece=0.3, zoom_out=0.2)


def test_what_is_not_taught_stays_so_and_moves_with_the_picture() -> None:
    grey, masks = chest()
    for seed in range(10):
        picture, placed = drawn(seed, **GEOMETRY)
        again, untaught = drawn(seed, (grey, masks + np.array([UNKNOWN, 0], np.uint8)), **GEOMETRY)
        np.testing.assert_array_equal(again, picture)
        np.testing.assert_array_equal(untaught, placed + np.array([[[UNKNOWN]], [[0]]], np.uint8))


def test_another_picture_teaches_all_even_if_the_slice_does_not() -> None:
    grey, masks = chest()
    _, placed = drawn(0, (grey, masks + np.uint8(UNKNOWN)), not_ct=1.0)
    assert not placed.any()


def test_a_focused_picture_is_cropped_to_lungs_with_fixed_greys() -> None:
    for seed in range(10):
        picture, (lungs, square) = drawn(seed, focus=1.0, window=1.0)
        rows, columns = (np.flatnonzero(lungs.any(axis=axis)) for axis in (1, 0))
        assert (
            max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
            >= lungs.shape[1] / (1 + 2 * WIDEST_MARGIN) - 3
        )
        aerated = cv2.erode(lungs & (1 - square), np.ones((5, 5), np.uint8)) > 0
        assert np.median(picture[aerated]) == pytest.approx(255 * AIR, abs=8)
        assert np.median(picture[aerated]) < np.median(picture[square > 0])
