import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from groundglass.preprocess import AIR, TISSUE, Preprocessing, to_landmarks
from groundglass.scan.scan import Scan


def scan_of(pixels: np.ndarray, is_hu: bool = False) -> Scan:
    return Scan(pixels.astype(np.float32), is_hu, "x")


def test_padding_keeps_the_aspect_ratio() -> None:
    grey = Preprocessing(size=(64, 64), pad_value=1.0).grey8(scan_of(np.full((40, 80), 0.2)))
    assert (grey[:16] == 255).all()
    assert (grey[48:] == 255).all()
    assert (grey[16:48] == 51).all()


def test_stretching_fills_the_input() -> None:
    grey = Preprocessing(size=(64, 64), resize="stretch").grey8(scan_of(np.full((40, 80), 0.2)))
    assert (grey == 51).all()


def test_a_slice_of_the_input_size_passes_unchanged() -> None:
    pixels = np.arange(32 * 32).reshape(32, 32) % 256 / 255
    np.testing.assert_array_equal(Preprocessing(size=(32, 32)).grey8(scan_of(pixels)), np.rint(pixels * 255))


def test_hu_is_seen_through_the_window_and_grey_is_not() -> None:
    preprocessing = Preprocessing(size=(32, 32))
    assert (preprocessing.grey8(scan_of(np.full((32, 32), -600), is_hu=True)) == 128).all()
    assert (preprocessing.grey8(scan_of(np.full((32, 32), 1.0))) == 255).all()


def test_normalisation_by_hand() -> None:
    preprocessing = Preprocessing(size=(16, 16), mean=0.5, std=0.25, channels=3)
    image = preprocessing(scan_of(np.full((16, 16), 1.0)))
    assert image.shape == (3, 16, 16)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, 2.0)


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from(["pad", "stretch"]))
def test_the_slice_is_within_the_input(height: int, width: int, resize: str) -> None:
    box = Preprocessing(size=(64, 96), resize=resize).box(height, width)
    assert box.top >= 0
    assert box.left >= 0
    assert 1 <= box.height <= 64 - box.top
    assert 1 <= box.width <= 96 - box.left
    assert box.height == 64 or box.width == 96


def test_it_survives_being_saved() -> None:
    preprocessing = Preprocessing(size=(128, 96), resize="stretch", channels=1, mean=0.3)
    assert Preprocessing.model_validate_json(preprocessing.model_dump_json()) == preprocessing


def test_unknown_settings_and_volumes_are_refused() -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"sise": [224, 224]})
    with pytest.raises(ValueError, match="volume"):
        Preprocessing().grey8(scan_of(np.zeros((2, 8, 8))))


def test_cropping_takes_the_lungs_and_their_margin() -> None:
    pixels = np.random.default_rng(0).random((60, 80))
    lungs = np.zeros((60, 80), dtype=bool)
    lungs[20:41, 30:51] = True
    preprocessing = Preprocessing(size=(32, 32), lungs="crop", margin=0.2)
    region = preprocessing.region(60, 80, lungs)
    assert (region.top, region.left, region.height, region.width) == (15, 25, 31, 31)
    cut = scan_of(pixels[15:46, 25:56])
    np.testing.assert_array_equal(
        preprocessing.grey8(scan_of(pixels), lungs), Preprocessing(size=(32, 32)).grey8(cut)
    )
    wide = preprocessing.model_copy(update={"margin": 1.0}).region(60, 80, lungs)
    assert (wide.top, wide.left, wide.height, wide.width) == (0, 9, 60, 63)


def test_the_area_outside_the_lungs_is_masked() -> None:
    pixels = np.random.default_rng(0).random((32, 32))
    lungs = pixels > 0.5
    preprocessing = Preprocessing(size=(32, 32), lungs="mask", outside=0.2)
    masked = preprocessing.grey8(scan_of(pixels), lungs)
    assert (masked[~lungs] == 51).all()
    np.testing.assert_array_equal(masked[lungs], np.rint(pixels[lungs].astype(np.float32) * 255))
    hu = preprocessing.grey8(scan_of(pixels * 1000 - 1000, is_hu=True), lungs)
    assert (hu[~lungs] == 51).all()


@pytest.mark.parametrize("lungs", ["crop", "mask"])
def test_a_slice_without_lungs_is_left_as_it_is(lungs: str) -> None:
    scan = scan_of(np.random.default_rng(0).random((50, 70)))
    preprocessing = Preprocessing(size=(32, 48), lungs=lungs, outside=1.0)
    np.testing.assert_array_equal(
        preprocessing.grey8(scan, np.zeros((50, 70), dtype=bool)), Preprocessing(size=(32, 48)).grey8(scan)
    )


@pytest.mark.parametrize("lungs", ["crop", "mask"])
def test_lungs_that_are_needed_and_not_given_are_refused(lungs: str) -> None:
    preprocessing, scan = Preprocessing(size=(32, 32), lungs=lungs), scan_of(np.ones((50, 70)))
    for mask in (None, np.ones((70, 50), dtype=bool), np.ones((2, 50, 70), dtype=bool)):
        with pytest.raises(ValueError, match=r"mask of the lungs of shape \(50, 70\)"):
            preprocessing(scan, mask)
    Preprocessing(size=(32, 32))(scan, np.ones((70, 50), dtype=bool))  # a mask that is not needed is ignored


@given(st.integers(32, 90), st.integers(32, 90), st.floats(0, 1), st.data())
def test_the_region_is_within_the_slice_and_contains_the_lungs(
    height: int, width: int, margin: float, data: st.DataObject
) -> None:
    lungs = np.zeros((height, width), dtype=bool)
    for _ in range(data.draw(st.integers(1, 3))):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        lungs[top : top + data.draw(st.integers(1, 40)), left : left + data.draw(st.integers(1, 40))] = True
    preprocessing = Preprocessing(size=(48, 32), lungs="crop", margin=margin, clahe=2.0)
    region = preprocessing.region(height, width, lungs)
    assert 0 <= region.top < region.top + region.height <= height
    assert 0 <= region.left < region.left + region.width <= width
    assert lungs[region.slices].sum() == lungs.sum()
    pixels = np.arange(height * width).reshape(height, width) / (height * width)
    assert preprocessing.grey8(scan_of(pixels), lungs).shape == (48, 32)


def soft_picture(height: int, width: int) -> np.ndarray:
    """A faint texture between 0.4 and 0.5."""
    rows, columns = np.mgrid[0:height, 0:width]
    return 0.45 + 0.05 * np.sin(rows / 3) * np.cos(columns / 5)


def test_equalising_widens_contrast_and_leaves_the_padding() -> None:
    scan = scan_of(soft_picture(40, 80))
    plain, equal = (
        Preprocessing(size=(64, 64), pad_value=1.0, clahe=clahe).grey8(scan) for clahe in (None, 4.0)
    )
    assert equal[16:48].std() > 2 * plain[16:48].std()
    assert (equal[:16] == 255).all()
    assert (equal[48:] == 255).all()
    # The padding is not equalised.
    black = Preprocessing(size=(64, 64), pad_value=0.0, clahe=4.0).grey8(scan)
    np.testing.assert_array_equal(black[16:48], equal[16:48])
    np.testing.assert_array_equal(Preprocessing(size=(32, 64), clahe=4.0).grey8(scan), equal[16:48])


def test_equalising_removes_the_window() -> None:
    """Slices shown in different windows become similar; without equalisation they do not."""
    picture = np.random.default_rng(0).random((256, 256))
    shown = scan_of(picture), scan_of(0.3 + 0.5 * picture)

    def distance(clahe: float | None) -> float:
        one, other = (Preprocessing(size=(256, 256), clahe=clahe).grey8(scan).astype(float) for scan in shown)
        return float(np.abs(one - other).mean())

    assert distance(40.0) < 0.25 * distance(None)


def test_equalising_is_the_same_each_time_and_in_a_saved_preprocessing() -> None:
    preprocessing, scan = Preprocessing(size=(48, 64), clahe=2.0), scan_of(soft_picture(50, 70))
    again = Preprocessing.model_validate_json(preprocessing.model_dump_json())
    np.testing.assert_array_equal(preprocessing.grey8(scan), again.grey8(scan))


@pytest.mark.parametrize(
    "wrong",
    [{"clahe": 0}, {"clahe": 41}, {"margin": -0.1}, {"margin": 1.1}, {"outside": 2}, {"lungs": "box"}],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Preprocessing.model_validate(wrong)


def two_lungs() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A body with two lungs; a dense lesion at the back of the right one is not marked as lung."""
    grey = np.full((80, 120), 0.02, np.float32)
    grey[8:72, 6:114] = 0.7
    lungs = np.zeros(grey.shape, bool)
    lungs[20:60, 16:52] = lungs[20:60, 68:104] = True
    grey[lungs] = 0.2
    grey[50:60, 25:40] = 0.65
    lungs[50:60, 25:40] = False
    return grey, lungs


def test_only_the_lungs_and_what_their_hulls_hold_are_seen() -> None:
    grey, lungs = two_lungs()
    seen = Preprocessing(size=(64, 128), lungs="only", margin=0.1, outside=0.4, resize="stretch")
    small = seen.grey8(scan_of(grey), lungs)
    lesion = np.abs(small - 255 * 0.65) < 4
    assert lesion[:, :64].sum() > 100  # it was not marked as lung
    assert small[32, 64] == pytest.approx(255 * 0.4, abs=1)  # between the lungs
    assert small[0, 0] == pytest.approx(255 * 0.4, abs=1)


@pytest.mark.parametrize("lungs", ["crop", "mask", "only"])
def test_windows_agree_at_the_landmarks(lungs: str) -> None:
    grey, mask = two_lungs()
    grey += np.random.default_rng(0).normal(0, 0.01, grey.shape).astype(np.float32)
    settings = Preprocessing.model_validate({"size": (64, 128), "lungs": lungs, "greys": "landmarks"})
    first = settings.grey8(scan_of(grey.clip(0, 1)), mask)
    other = settings.grey8(scan_of((0.1 + 0.6 * grey).clip(0, 1)), mask)
    seen = first > 20
    assert np.abs(first[seen].astype(int) - other[seen]).mean() < 2
    assert np.percentile(first[20:40, 25:45], 50) == pytest.approx(255 * AIR, abs=12)


def test_hu_and_a_window_of_it_give_the_same_result() -> None:
    grey, mask = two_lungs()
    settings = Preprocessing(size=(64, 128), lungs="only", greys="landmarks", outside=AIR)
    hu = settings.grey8(scan_of(grey * 1500 - 1350, is_hu=True), mask)
    np.testing.assert_allclose(hu, settings.grey8(scan_of(grey), mask), atol=1)


def test_the_landmarks_are_fixed_greys() -> None:
    grey, mask = two_lungs()
    placed = to_landmarks(grey, mask.astype(np.uint8))
    assert np.median(placed[mask]) == pytest.approx(AIR, abs=0.01)
    assert np.median(placed[10:18, 30:90]) == pytest.approx(TISSUE, abs=0.01)
    assert placed.min() >= 0


def test_flat_lungs_and_lungs_that_fill_the_picture_have_landmarks_too() -> None:
    flat = np.full((32, 48), 0.5, np.float32)
    for mask in (np.ones((32, 48), np.uint8), np.zeros((32, 48), np.uint8)):
        placed = to_landmarks(flat, mask)
        assert np.isfinite(placed).all()


def test_landmarks_need_lungs() -> None:
    with pytest.raises(ValidationError, match="landmarks are found around the lungs"):
        Preprocessing(greys="landmarks")
