"""What stands in people's pictures and is no chest CT: marks drawn on a slice, and pictures of something else."""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

LETTERS = list("ABCDRLFPH0123456789:. ")
FONTS = 7
RADIOGRAPHED = range(1000, 1004)
"""Seeds of the phantoms whose radiographs are trained on."""


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
    """A picture that is no chest CT: noise, one grey, smooth blobs, a piece of a photograph, or a made radiograph.

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
    """A frontal radiograph of a volume: what attenuates from front to back, bone and heart bright.

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
