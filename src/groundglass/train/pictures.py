"""Imitate contents of pictures that training sets lack: other anatomy, marks, and pictures other than CT.

Slices of neck and abdomen are made from slices of the chest. A slice below the lungs differs from one through
the lungs in two ways: tissue replaces them, and dark areas in the body are gas in the stomach or bowel,
homogeneous and without vessels. Both are painted.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

GAS_SHARE = (0.002, 0.05)
"""Smallest and largest area of a pocket of gas, as a share of the slice."""
LIGHTER = 8
"""Gas is brighter than the darkest air of the slice by up to this much."""
POCKETS = 4
"""Pockets are drawn one to three at a time."""
LETTERS = list("ABCDRLFPH0123456789:. ")
FONTS = 7
RADIOGRAPHED = range(1000, 1004)
"""Seeds of the phantoms whose radiographs are trained on."""


def without_lungs(
    random: np.random.Generator, grey8: NDArray[np.uint8], lungs: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """A slice whose lungs are filled with soft tissue.

    Parameters
    ----------
    random
        Draws the tissue.
    grey8
        uint8, shape (height, width).
    lungs
        0 or 1, the same shape.

    Returns
    -------
    uint8, the same shape; the slice itself if it has no lungs or nothing else.
    """
    if not lungs.any():
        return grey8
    # Airways and the edge of the lungs are also dark: everything within the lungs and a margin is filled.
    filled = cv2.morphologyEx(lungs, cv2.MORPH_CLOSE, _disc(9))
    filled = cv2.dilate(filled, _disc(2))
    around = cv2.dilate(filled, _disc(9)).astype(bool) & ~filled.astype(bool)
    tissue = grey8[around]
    if not len(tissue):
        return grey8
    bright = tissue[tissue >= np.median(tissue)]
    level, spread = float(np.median(bright)), max(2.0, float(bright.std()) / 2)
    height, width = grey8.shape
    coarse = random.normal(0, spread, (max(2, height // 32), max(2, width // 32))).astype(np.float32)
    organs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(random.normal(0, 2 * spread, (height, width)).astype(np.float32), (0, 0), 0.8)
    painted = level + organs + grain
    edge = cv2.GaussianBlur(filled.astype(np.float32), (0, 0), 1.5)
    return np.rint(grey8 + edge * (painted - grey8)).clip(0, 255).astype(np.uint8)


def with_gas(
    random: np.random.Generator, grey8: NDArray[np.uint8], lungs: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """A slice with one to three pockets of gas in its tissue, some with a level of fluid below.

    Parameters
    ----------
    random
        Draws the pockets.
    grey8
        uint8, shape (height, width).
    lungs
        0 or 1, the same shape; no pocket reaches into them.

    Returns
    -------
    uint8, the same shape.
    """
    height, width = grey8.shape
    body = (grey8 > max(60.0, float(np.median(grey8)))) & (lungs == 0)
    places = np.argwhere(cv2.erode(body.astype(np.uint8), _disc(4)))
    if not len(places):
        return grey8
    air = float(np.percentile(grey8, 2))
    outside_lungs = cv2.dilate(lungs, _disc(3)) == 0
    painted = grey8.astype(np.float32)
    for _ in range(random.integers(1, POCKETS)):
        row, column = places[random.integers(0, len(places))]
        area = np.exp(random.uniform(*np.log(GAS_SHARE))) * height * width
        longer = np.sqrt(area / np.pi) * np.exp(abs(random.normal(0, 0.4)))
        axes = (max(2, int(longer)), max(2, int(area / np.pi / longer)))
        pocket = np.zeros((height, width), dtype=np.uint8)
        cv2.ellipse(pocket, (int(column), int(row)), axes, float(random.uniform(-40, 40)), 0, 360, 1, -1)
        if random.random() < 0.5:
            pocket[row + int(random.uniform(0, axes[1])) :] = 0
        shape = cv2.GaussianBlur((pocket.astype(bool) & outside_lungs).astype(np.float32), (0, 0), 1.0)
        level = air + float(random.uniform(0, LIGHTER))
        grain = random.normal(0, 3, (height, width)).astype(np.float32)
        painted += shape * (level + grain - painted)
    return np.rint(painted).clip(0, 255).astype(np.uint8)


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)).astype(np.uint8)


def draw_marks(random: np.random.Generator, grey8: NDArray[np.uint8]) -> None:
    """Draw one to three marks (text, arrow, rectangle, ellipse, line) anywhere on a slice, in place.

    Parameters
    ----------
    random
        Draws the marks.
    grey8
        uint8, shape (height, width).
    """
    height, width = grey8.shape
    for _ in range(random.integers(1, 4)):
        colour = int(random.choice([255, 255, 255, 0, 150]))
        thickness = int(random.integers(1, 4))
        x, y = (int(v) for v in random.uniform(0, 1, 2) * (width, height))
        end = (x + int(random.uniform(-50, 50)), y + int(random.uniform(-50, 50)))
        kind = random.integers(0, 5)
        if kind == 0:
            text = "".join(random.choice(LETTERS, random.integers(1, 12)))
            scale = random.uniform(0.3, 1.2)
            cv2.putText(grey8, text, (x, y), int(random.integers(0, FONTS)), scale, colour, thickness)
        elif kind == 1:
            cv2.arrowedLine(grey8, (x, y), end, colour, thickness, tipLength=0.4)
        elif kind == 2:
            cv2.rectangle(grey8, (x, y), end, colour, thickness)
        elif kind == 3:
            axes = (int(random.uniform(8, 50)), int(random.uniform(8, 50)))
            cv2.ellipse(grey8, (x, y), axes, int(random.integers(0, 180)), 0, 360, colour, thickness)
        else:
            cv2.line(grey8, (x, y), end, colour, thickness)


def not_ct(random: np.random.Generator, longest: int) -> NDArray[np.float32]:
    """A picture that is not a chest CT: noise, a single grey, smooth blobs, part of a photograph, or a
    synthetic radiograph.

    Parameters
    ----------
    random
        Draws the picture.
    longest
        Its longer side in pixels.

    Returns
    -------
    float32 in [0, 1], shape (height, width).
    """
    height, width = int(random.integers(longest // 2, longest + 1)), longest
    kind = random.integers(0, 6)
    if kind == 0:
        picture = random.integers(0, 256, (height, width), dtype=np.uint8)
    elif kind == 1:
        picture = np.full((height, width), random.integers(0, 256), dtype=np.uint8)
    elif kind == 2:
        coarse = int(random.integers(2, 40))
        blobs = random.integers(0, 256, (coarse, coarse), dtype=np.uint8)
        picture = _resized(blobs, width, height, cv2.INTER_CUBIC)
    elif kind == 3:
        photograph = _photographs()[random.integers(0, 2)]
        side = int(random.integers(60, 400))
        top = random.integers(0, photograph.shape[0] - side)
        left = random.integers(0, photograph.shape[1] - side)
        piece = np.ascontiguousarray(photograph[top : top + side, left : left + side])
        picture = _resized(piece, width, height, cv2.INTER_LINEAR)
    else:
        radiographs = _radiographs()
        whole = radiographs[random.integers(0, len(radiographs))]
        gamma = np.exp(random.normal(0, 0.4))
        grey = cv2.resize(whole, (width, int(width * random.uniform(0.8, 1.2)))) ** np.float32(gamma)
        picture = np.rint(grey * 255).clip(0, 255).astype(np.uint8)
    return picture.astype(np.float32) / np.float32(255)


def _resized(picture: NDArray[np.uint8], width: int, height: int, how: int) -> NDArray[np.uint8]:
    return cv2.resize(picture, (width, height), interpolation=how).astype(np.uint8, copy=False)


@functools.cache
def _photographs() -> list[NDArray[np.uint8]]:
    """The two photographs that come with scikit-learn, in grey."""
    from sklearn.datasets import load_sample_images

    return [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in load_sample_images().images]


@functools.cache
def _radiographs() -> list[NDArray[np.float32]]:
    """Frontal radiographs of phantoms."""
    from groundglass.phantom import make_phantom

    return [radiograph(make_phantom(seed, shape=(96, 128, 128)).scan.pixels) for seed in RADIOGRAPHED]


def radiograph(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """A frontal radiograph of a volume: attenuation summed from front to back, bone and heart bright.

    Parameters
    ----------
    volume
        HU, shape (slices, height, width).

    Returns
    -------
    float32 in [0, 1], shape (slices, width).
    """
    depth = np.clip(1 + volume / 1000, 0, None).sum(axis=1)
    grey = 1 - np.exp(-3 * depth / depth.max())
    low, high = np.percentile(grey, [1, 99.5])
    return ((grey - low) / (high - low)).clip(0, 1).astype(np.float32)
