from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from groundglass.phantom import Lesion, make_phantom
from groundglass.scan.scan import LUNG_WINDOW, apply_window
from groundglass.segment.masks import LEFT, RIGHT, PostProcessing, Segmentation, resize, segmentation

SIZE = 256
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE] + 0.5


def ellipse(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    return ((COLUMNS - x) / half_width) ** 2 + ((ROWS - y) / half_height) ** 2 <= 1


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    picture = np.zeros((SIZE, SIZE), dtype=bool)
    picture[top:bottom, left:right] = True
    return picture


RIGHT_LUNG, LEFT_LUNG = ellipse(76, 130, 40, 70), ellipse(178, 124, 38, 66)
BODY = ellipse(128, 128, 115, 100)


@dataclass
class Chest:
    """A slice, and a possible network output for it."""

    lung: np.ndarray
    lesion: np.ndarray = field(default_factory=lambda: np.zeros((SIZE, SIZE), dtype=bool))
    body: np.ndarray = field(default_factory=BODY.copy)

    @property
    def maps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities of lung and lesion, and grey; lesions are nearly as bright as the body."""
        lung = np.where(self.lung, 0.96, 0.001).astype(np.float32)
        lesion = np.where(self.lesion, 0.9, 0.001).astype(np.float32)
        grey = np.where(self.lesion, 0.7, np.where(self.lung, 0.15, np.where(self.body, 0.9, 0.0)))
        return lung, lesion, grey.astype(np.float32)

    def segmented(self) -> Segmentation:
        return segmentation(*self.maps)


def test_two_lungs_are_found_as_they_are() -> None:
    lesion = ellipse(60, 170, 10, 10)
    found = Chest(RIGHT_LUNG | LEFT_LUNG, lesion).segmented()
    np.testing.assert_array_equal(found.lungs, RIGHT * RIGHT_LUNG + LEFT * LEFT_LUNG)
    np.testing.assert_array_equal(found.lesions, lesion)
    assert found.found
    assert found.quality > 0.9


def test_a_lesion_at_the_pleura_that_the_lungs_lack_is_joined_to_its_lung() -> None:
    lesion = RIGHT_LUNG & ellipse(40, 130, 16, 30)
    found = Chest((RIGHT_LUNG | LEFT_LUNG) & ~lesion, lesion).segmented()
    np.testing.assert_array_equal(found.lungs, RIGHT * RIGHT_LUNG + LEFT * LEFT_LUNG)
    np.testing.assert_array_equal(found.lesions, lesion)
    assert found.found


def test_a_lesion_that_touches_no_lung_is_none() -> None:
    found = Chest(RIGHT_LUNG | LEFT_LUNG, ellipse(128, 40, 5, 5)).segmented()
    assert not found.lesions.any()
    assert not found.lungs[40, 128]


@pytest.mark.parametrize(("probability", "given_back"), [(0.3, True), (0.1, False)])
def test_a_notch_is_given_back_only_where_a_lesion_is_possible(probability: float, given_back: bool) -> None:
    notch = RIGHT_LUNG & box(0, 127, 46, 132)
    lung, lesion, grey = Chest((RIGHT_LUNG | LEFT_LUNG) & ~notch).maps
    lesion[notch] = probability
    found = segmentation(lung, lesion, grey)
    # The closing leaves the notch's mouth a little hollow.
    assert (found.lungs[notch] == RIGHT).mean() == pytest.approx(1.0 if given_back else 0.0, abs=0.15)
    assert not found.lungs[~(RIGHT_LUNG | LEFT_LUNG)].any()
    assert not found.lesions.any()


def test_closing_never_bridges_the_lungs() -> None:
    lungs = box(40, 60, 127, 200) | box(131, 60, 216, 200)
    lung, lesion, grey = Chest(lungs).maps
    lesion[:, 127:131] = 0.4
    np.testing.assert_array_equal(segmentation(lung, lesion, grey).lungs > 0, lungs)


def test_vessels_are_filled_and_the_mediastinum_is_not() -> None:
    lungs = RIGHT_LUNG | LEFT_LUNG | box(76, 75, 178, 80) | box(76, 180, 178, 185)
    vessels = ellipse(76, 110, 5, 7) | ellipse(186, 140, 3, 3)
    found = Chest(lungs & ~vessels).segmented()
    np.testing.assert_array_equal(found.lungs > 0, lungs)
    assert (found.lungs[vessels] > 0).all()


@pytest.mark.parametrize(("probability", "filled"), [(0.05, False), (0.3, True)])
def test_a_larger_hole_is_the_diaphragm_unless_a_lesion_is_possible(probability: float, filled: bool) -> None:
    dome = ellipse(76, 130, 20, 24)
    lung, lesion, grey = Chest((RIGHT_LUNG | LEFT_LUNG) & ~dome).maps
    lesion[dome] = probability
    assert (segmentation(lung, lesion, grey).lungs[dome] == (RIGHT if filled else 0)).all()


@pytest.mark.parametrize("thickness", [1, 12, 40])
def test_touching_lungs_are_cut_where_they_are_thinnest(thickness: int) -> None:
    junction = box(100, 90, 150, 90 + thickness) & ~RIGHT_LUNG & ~LEFT_LUNG
    sides = Chest(RIGHT_LUNG | LEFT_LUNG | junction).segmented().lungs
    assert (sides[RIGHT_LUNG] == RIGHT).all()
    assert (sides[LEFT_LUNG] == LEFT).all()
    assert (sides[junction] > 0).all()


def test_a_recess_behind_the_heart_stays_with_its_lung() -> None:
    junction, recess = box(100, 80, 150, 84), box(90, 150, 136, 156)
    sides = Chest(RIGHT_LUNG | LEFT_LUNG | junction | recess).segmented().lungs
    assert (sides[recess] == RIGHT).all()
    assert (sides[LEFT_LUNG] == LEFT).all()


def test_specks_are_removed() -> None:
    lungs, speck, lesion_speck = RIGHT_LUNG | LEFT_LUNG, box(126, 20, 130, 24), box(70, 100, 71, 103)
    found = Chest(lungs | speck, lesion_speck).segmented()
    np.testing.assert_array_equal(found.lungs > 0, lungs)
    assert not found.lesions.any()


@pytest.mark.parametrize(("lung", "side"), [(RIGHT_LUNG, RIGHT), (LEFT_LUNG, LEFT)])
def test_a_single_lung_gets_its_side_from_the_body(lung: np.ndarray, side: int) -> None:
    for shift in (-12, 12):  # a body that is not in the middle of the picture
        shifted = Chest(np.roll(lung, shift, 1), body=np.roll(BODY, shift, 1))
        np.testing.assert_array_equal(shifted.segmented().lungs, side * shifted.lung)


def test_one_lung_that_crosses_the_midline_is_not_cut() -> None:
    lung = ellipse(110, 128, 60, 70)
    np.testing.assert_array_equal(Chest(lung).segmented().lungs, RIGHT * lung)


def test_the_apices_of_lungs_and_lungs_in_pieces_are_found() -> None:
    right, left = ellipse(100, 120, 8, 10), ellipse(156, 120, 6, 5) | ellipse(158, 136, 5, 4)
    found = Chest(right | left).segmented()
    np.testing.assert_array_equal(found.lungs, RIGHT * right + LEFT * left)
    assert found.found


def swapped(sides: np.ndarray) -> np.ndarray:
    return np.array([0, LEFT, RIGHT], dtype=np.uint8)[sides]


JUNCTION = Chest(
    RIGHT_LUNG | LEFT_LUNG | box(100, 90, 150, 95) | box(76, 180, 178, 183),
    ellipse(40, 130, 12, 20) | ellipse(190, 150, 6, 6) | ellipse(170, 192, 12, 4),
)


@pytest.mark.parametrize("chest", [Chest(RIGHT_LUNG), Chest(RIGHT_LUNG | LEFT_LUNG), JUNCTION])
def test_a_turned_picture_gives_the_turned_result(chest: Chest) -> None:
    found = chest.segmented()
    upside_down = segmentation(*(picture[::-1] for picture in chest.maps))
    np.testing.assert_array_equal(upside_down.lungs[::-1], found.lungs)
    np.testing.assert_array_equal(upside_down.lesions[::-1], found.lesions)
    mirrored = segmentation(*(picture[:, ::-1] for picture in chest.maps))
    np.testing.assert_array_equal(swapped(mirrored.lungs[:, ::-1]), found.lungs)
    np.testing.assert_array_equal(mirrored.lesions[:, ::-1], found.lesions)
    assert mirrored.quality == pytest.approx(found.quality)
    assert upside_down.problem == mirrored.problem == found.problem == ""


def test_what_is_no_chest_is_told_with_its_figures() -> None:
    rng = np.random.default_rng(1)
    _, no_lesion, grey = Chest(RIGHT_LUNG | LEFT_LUNG).maps
    nothing = np.zeros_like(grey)
    noise = rng.random(grey.shape, dtype=np.float32)
    assert segmentation(nothing, no_lesion, grey).problem == (
        "no lungs found: 0.00% of the picture is lung (at least 0.30% is needed)"
    )
    assert "0.1" in segmentation(ellipse(80, 80, 5, 5).astype(np.float32), nothing, grey).problem
    assert "Dice" in segmentation(np.full_like(grey, 0.4) + 0.2 * RIGHT_LUNG, nothing, grey).problem
    for probability in (noise, np.ones_like(grey)):
        for picture in (grey, nothing, noise):
            assert segmentation(probability.astype(np.float32), nothing, picture).problem


def test_lungs_must_be_darker_than_what_surrounds_them() -> None:
    lung, lesion, grey = Chest(RIGHT_LUNG | LEFT_LUNG).maps
    assert segmentation(lung, lesion, grey).found
    inverted = segmentation(lung, lesion, 1 - grey)
    assert inverted.problem.startswith("no lungs found: the apparent lungs are not darker")
    assert segmentation(lung, lesion, 1 - grey, PostProcessing(least_darkness=-1)).found


@pytest.mark.parametrize("shape", [(512, 512), (630, 401), (190, 201), (200, 400)])
def test_resizing_keeps_shares(shape: tuple[int, int]) -> None:
    found = JUNCTION.segmented()
    larger = resize(found, shape)
    assert larger.lungs.shape == larger.lesions.shape == shape
    assert not larger.lesions[larger.lungs == 0].any()
    for side in (RIGHT, LEFT):
        before, after = found.lungs == side, larger.lungs == side
        assert after.mean() == pytest.approx(before.mean(), rel=0.01)
        assert larger.lesions[after].mean() == pytest.approx(found.lesions[before].mean(), abs=0.01)
    assert larger.quality == found.quality
    back = resize(larger, found.lungs.shape).lungs
    assert (back != found.lungs).mean() < 0.005


def test_unlike_shapes_and_unknown_rules_are_refused() -> None:
    lung, lesion, grey = JUNCTION.maps
    with pytest.raises(ValueError, match=r"\(128, 256\)"):
        segmentation(lung, lesion[::2], grey)
    with pytest.raises(ValidationError):
        PostProcessing.model_validate({"lung_treshold": 0.5})


def test_the_sides_of_phantoms_are_told_and_no_lesion_is_lost() -> None:
    for seed in range(2):
        wanted = (Lesion("consolidation", volume_ml=150), Lesion("ground glass", volume_ml=150))
        phantom = make_phantom(seed, shape=(12, 128, 128), lesions=wanted)
        grey = apply_window(phantom.scan.pixels, *LUNG_WINDOW)
        for truth, lesions, picture in zip(phantom.lungs, phantom.lesions, grey, strict=True):
            aerated = (truth > 0) & (lesions == 0)
            found = segmentation(aerated.astype(np.float32), (lesions > 0).astype(np.float32), picture)
            if found.found:
                assert (found.lungs != truth).mean() < 0.005
                assert (found.lesions != (lesions > 0)).mean() < 0.002
            else:
                assert (truth > 0).mean() < 0.01


PROBABILITIES = st.sampled_from([0.0, 0.01, 0.19, 0.2, 0.49, 0.5, 0.51, 0.99, 1.0])


@st.composite
def map_triples(draw: st.DrawFn) -> list[np.ndarray]:
    """Coarse random pictures blown up to odd sizes, so that they hold components, holes and bridges."""
    shape = draw(st.sampled_from([(1, 1), (1, 40), (40, 1), (2, 3), (17, 300), (33, 47), (64, 63)]))
    coarse = tuple(-(-side // draw(st.sampled_from([1, 3, 8]))) for side in shape)
    fill = draw(PROBABILITIES)
    maps = []
    for _ in range(3):
        values = draw(hnp.arrays(np.float32, coarse, elements=PROBABILITIES, fill=st.just(fill)))
        rows, columns = (-(-side // small) for side, small in zip(shape, coarse, strict=True))
        maps.append(np.kron(values, np.ones((rows, columns), np.float32))[: shape[0], : shape[1]])
    return maps


@settings(max_examples=150, deadline=None)
@given(map_triples())
def test_any_probabilities_give_a_sound_segmentation(maps: list[np.ndarray]) -> None:
    found = segmentation(*maps)
    assert found.lungs.dtype == np.uint8
    assert found.lesions.dtype == np.bool_
    assert found.lungs.shape == found.lesions.shape == maps[0].shape
    assert set(np.unique(found.lungs)) <= {0, RIGHT, LEFT}
    assert not found.lesions[found.lungs == 0].any()
    assert not found.lesions[maps[1] < 0.5].any()
    assert 0 <= found.quality <= 1
    upside_down = segmentation(*(picture[::-1] for picture in maps))
    np.testing.assert_array_equal(upside_down.lungs[::-1], found.lungs)
    np.testing.assert_array_equal(upside_down.lesions[::-1], found.lesions)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([(17, 300), (129, 128)]))
def test_noise_never_passes_for_a_chest(seed: int, level: float, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    lung, lesion, grey = (rng.random(shape, dtype=np.float32) for _ in range(3))
    assert not segmentation(lung * np.float32(level), lesion * np.float32(level), grey).found


def test_small_lungs_are_allowed_a_lower_quality() -> None:
    lung = np.where(ellipse(128, 128, 14, 14) > 0, 0.75, 0.0).astype(np.float32)
    grey = np.where(lung > 0, 0.2, 0.7).astype(np.float32)
    strict = PostProcessing(least_quality=0.9)
    problem = segmentation(lung, np.zeros_like(lung), grey, strict).problem
    assert problem.startswith("no lungs recognised with certainty")
    lenient = strict.model_copy(update={"small_lungs_allowance": 5.0})
    assert segmentation(lung, np.zeros_like(lung), grey, lenient).found
    large = np.where(ellipse(128, 128, 60, 60) > 0, 0.75, 0.0).astype(np.float32)
    grey = np.where(large > 0, 0.2, 0.7).astype(np.float32)
    assert not segmentation(large, np.zeros_like(large), grey, lenient).found
