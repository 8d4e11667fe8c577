"""Slices of neck and abdomen, of which the training set has none, made of slices of the chest.

A slice below the lungs differs from one through them in that there is tissue where the lungs were, and that dark
places in the body are gas in the stomach or bowel: even, without vessels. Both are painted.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

GAS_SHARE = (0.002, 0.05)
"""Smallest and largest area of a pocket of gas, as a share of the slice."""
LIGHTER = 8
"""Gas is lighter than the darkest air of the slice by up to so much."""
POCKETS = 4
"""Pockets are drawn one to three at a time."""


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
    uint8, the same shape; the slice itself where it has no lungs or nothing else.
    """
    if not lungs.any():
        return grey8
    # Airways and the edge of the lungs are dark too: all that the lungs and a margin enclose is filled.
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
