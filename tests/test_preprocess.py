import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from groundglass.preprocess import Preprocessing
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
def test_the_slice_lies_within_the_input(height: int, width: int, resize: str) -> None:
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
