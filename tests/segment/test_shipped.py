"""The shipped segmenter on slices that it must segment and pictures that it must refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from groundglass.phantom import Lesion, make_phantom
from groundglass.scan.scan import Scan
from groundglass.segment.segmenter import Segmenter
from groundglass.segment.shares import shares

PHOTOGRAPHS = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "moon",
    "page",
    "rocket",
    "text",
)
SHAPE = (12, 256, 256)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load()


def grey_scan(grey: NDArray[np.floating]) -> Scan:
    return Scan(np.ascontiguousarray(grey, dtype=np.float32), False, "picture")


def refused(segmenter: Segmenter, grey: NDArray[np.floating]) -> str:
    return segmenter(grey_scan(grey)).problem


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_photograph_is_no_chest_ct(segmenter: Segmenter, name: str) -> None:
    from skimage import data
    from skimage.color import rgb2gray

    picture = getattr(data, name)()
    grey = rgb2gray(picture) if picture.ndim == 3 else picture / 255
    assert refused(segmenter, grey)


@pytest.mark.parametrize("name", ["grace_hopper.jpg", "Minduka_Present_Blue_Pack.png"])
def test_a_photograph_on_which_no_threshold_was_chosen_is_no_chest_ct(
    segmenter: Segmenter, name: str
) -> None:
    from matplotlib.cbook import get_sample_data

    assert refused(
        segmenter, np.asarray(Image.open(get_sample_data(name, asfileobj=False)).convert("L")) / 255
    )


@pytest.mark.parametrize("grey", [0.0, 0.3, 0.7, 1.0])
def test_a_blank_picture_is_no_chest_ct(segmenter: Segmenter, grey: float) -> None:
    assert "no lungs" in refused(segmenter, np.full((200, 300), grey))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), smooth=st.integers(1, 40))
def test_noise_is_no_chest_ct(segmenter: Segmenter, seed: int, smooth: int) -> None:
    coarse = np.random.default_rng(seed).random((256 // smooth + 1, 256 // smooth + 1))
    assert refused(segmenter, np.kron(coarse, np.ones((smooth, smooth)))[:256, :256])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_radiograph_is_no_chest_ct(segmenter: Segmenter, seed: int) -> None:
    # Other persons than the radiographs that were trained on, seen from the front and from the side.
    volume = make_phantom(seed, shape=(96, 128, 128)).scan.pixels
    for axis in (1, 2):
        depth = np.clip(1 + volume / 1000, 0, None).sum(axis=axis)
        through = np.exp(-2.5 * depth / depth.max())
        grey = 1 - (through - through.min()) / np.ptp(through)
        assert refused(segmenter, np.kron(grey, np.ones((3, 3))))


@pytest.mark.parametrize("turned", [None, "upside-down", "mirrored"])
def test_phantom_lungs_are_found_however_they_lie(segmenter: Segmenter, turned: str | None) -> None:
    phantom = make_phantom(5, shape=SHAPE)
    for index in range(4, 9):
        pixels, truth = phantom.scan.pixels[index], phantom.lungs[index]
        if turned == "upside-down":
            pixels, truth = pixels[::-1], truth[::-1]
        if turned == "mirrored":
            # The patient's right comes to lie at the picture's right, which is called left.
            pixels, truth = pixels[:, ::-1], np.array([0, 2, 1])[truth[:, ::-1]]
        found = segmenter(Scan(np.ascontiguousarray(pixels), True, "slice"))
        assert found.found
        for side in (1, 2):
            common = np.count_nonzero((found.lungs == side) & (truth == side))
            assert (
                2 * common / (np.count_nonzero(found.lungs == side) + np.count_nonzero(truth == side)) > 0.9
            )


@pytest.mark.parametrize("seed", [11, 12])
def test_the_lesion_share_grows_with_the_lesions(segmenter: Segmenter, seed: int) -> None:
    found = []
    for volume_ml in (0.0, 40.0, 160.0):
        sides = ("right", "left") if volume_ml else ()
        phantom = make_phantom(
            seed, shape=SHAPE, lesions=[Lesion("ground glass", volume_ml, side=side) for side in sides]
        )
        scans = [Scan(phantom.scan.pixels[index], True, str(index)) for index in range(3, 10)]
        areas = [shares(masks).both for _, masks in segmenter.segment_scans(scans)]
        found.append(sum(area.lesions_px for area in areas) / sum(area.lung_px for area in areas))
    assert found == sorted(found)
    assert found[0] < 0.02
    assert found[2] > found[0] + 0.02
