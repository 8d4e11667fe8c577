"""The shipped segmenter refuses pictures that are not axial chest CT, and accepts chest slices in every window."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from groundglass.phantom import Phantom
from groundglass.scan.scan import Scan, apply_window
from groundglass.scan.volume import Volume
from groundglass.segment.chest import ChestModel
from groundglass.segment.segmenter import Segmenter

WINDOWS = ((40, 400), (40, 300), (-600, 1500), (50, 350), (-500, 1400), (-160, 1600))
SIDE = 320


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load()


def picture(hu: NDArray[np.float32], window: tuple[float, float]) -> Scan:
    grey = np.rint(apply_window(hu.astype(np.float32), *window) * 255) / 255
    return Scan(grey.astype(np.float32), is_hu=False, scan_id="picture")


def body(shapes: list[tuple[float, float, float, float, float]], seed: int) -> NDArray[np.float32]:
    """Ellipses (column, row, half width, half height, HU), with their mirror images, blur and noise."""
    random = np.random.default_rng(seed)
    hu = np.full((SIDE, SIDE), -1000, dtype=np.float32)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    for x, y, width, height, value in shapes:
        for place in (x, 1 - x):
            hu[((columns - place) / width) ** 2 + ((rows - y) / height) ** 2 < 1] = value
    hu[hu > -900] += 25 * cv2.GaussianBlur(random.normal(0, 3, hu.shape), (0, 0), 2)[hu > -900]
    return cv2.GaussianBlur(hu, (0, 0), 1) + random.normal(0, 12, hu.shape)


SHOULDERS = [
    (0.5, 0.52, 0.47, 0.24, -100),
    (0.5, 0.52, 0.41, 0.18, 45),
    (0.27, 0.5, 0.07, 0.12, -100),
    (0.15, 0.5, 0.05, 0.06, 350),
    (0.34, 0.6, 0.07, 0.015, 400),
    (0.5, 0.45, 0.03, 0.025, -980),
    (0.5, 0.6, 0.06, 0.05, 300),
]
PELVIS = [
    (0.5, 0.5, 0.47, 0.32, -100),
    (0.5, 0.5, 0.42, 0.27, 50),
    (0.5, 0.48, 0.2, 0.2, -95),
    (0.25, 0.55, 0.07, 0.1, 500),
    (0.5, 0.42, 0.11, 0.09, 10),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shapes", [SHOULDERS, PELVIS], ids=["shoulders", "pelvis"])
def test_fat_is_not_lung(
    segmenter: Segmenter, shapes: list[tuple[float, float, float, float, float]], window: tuple[float, float]
) -> None:
    found = [segmenter(picture(body(shapes, seed), window)).found for seed in range(3)]
    assert not any(found)


@pytest.mark.parametrize("window", WINDOWS)
def test_chest_slices_pass_in_every_window(
    segmenter: Segmenter, covid_phantom: Phantom, window: tuple[float, float]
) -> None:
    areas = (covid_phantom.lungs > 0).mean(axis=(1, 2))
    for number in np.flatnonzero(areas > 0.1):
        found = segmenter(picture(covid_phantom.scan.pixels[number], window))
        assert found.found, (number, window, found.problem)


@pytest.mark.parametrize("shapes", [SHOULDERS, PELVIS], ids=["shoulders", "pelvis"])
def test_slices_of_one_stack_do_not_vouch_for_fat(
    segmenter: Segmenter, shapes: list[tuple[float, float, float, float, float]]
) -> None:
    stack = np.stack([body(shapes, seed) for seed in range(8)]).astype(np.float32)
    masks = segmenter(Volume(stack.shape, True, "ct", Path("x"), stack.__getitem__))
    assert not masks.labels.any()


def test_coronal_planes_are_refused(segmenter: Segmenter, covid_phantom: Phantom) -> None:
    hu = covid_phantom.scan.pixels[::-1]
    planes = (cv2.resize(hu[:, row], (SIDE, SIDE)) for row in range(hu.shape[1] // 3, hu.shape[1] // 2, 8))
    assert not any(segmenter(picture(plane, (-600, 1500))).found for plane in planes)


def test_the_score_is_that_of_the_stored_values() -> None:
    model = ChestModel(terms={"a": (1.0, 2.0, 0.5, -0.25), "b": (0.0, 1.0, 1.0, 0.0)}, intercept=0.1, least=0)
    assert model.score({"a": 3.0, "b": 2.0}) == pytest.approx(0.1 + 0.5 - 0.25 + 2.0)
    assert model.score({"a": 1.0, "b": 100.0}) == pytest.approx(0.1 + 4.0)
