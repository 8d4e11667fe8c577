"""Changes of a slice: some that no detector of a lung disease can bear, and some that every one must bear."""

from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.preprocess import Box, Preprocessing
from groundglass.scan.windowing import apply_window
from groundglass.segment.masks import Segmentation

Picture = NDArray[np.float32]
"""Grey in [0, 1], float32, shape (height, width)."""
Change = Callable[[Picture], Picture]
LungChange = Callable[[Picture, Segmentation], Picture]

MARGIN = 0.05
"""Of the black box around the lungs, as a share of its longer side."""
RIM = 0.03
"""Width of the ring around the lungs whose grey fills them, as a share of the longer side of their box."""
ANGLE, SHIFT, WIDENING, CROP = 5.0, 0.07, 1.2, 0.05
"""Degrees; share of the grey scale, of the lung window's 1500 HU about 100; factor of the window's width; share
of each side."""
GAMMAS, QUALITY, NOISE = (0.8, 1.25), 50, 0.02
"""Exponents of the grey; JPEG quality of 100; standard deviation as a share of the grey scale, in the lung
window 30 HU."""


def without_lungs(picture: Picture, segmentation: Segmentation) -> Picture:
    """A black box over both lungs and a small margin, so that not even their shape is left.

    After Maguolo & Nanni 2021, doi 10.1016/j.inffus.2021.04.008. Where no lungs were found, nothing is changed.
    """
    changed = picture.copy()
    if segmentation.found:
        changed[_box(segmentation, MARGIN).slices] = 0
    return changed


def only_lungs(picture: Picture, segmentation: Segmentation) -> Picture:
    """Black outside the lungs; everything where none were found."""
    return np.where(segmentation.trusted_lungs, picture, np.float32(0))


def on_background_of(
    picture: Picture, segmentation: Segmentation, other: Picture, other_segmentation: Segmentation
) -> Picture:
    """The lungs of one slice on the background of another.

    The lungs are stretched so that the box around them fills the box around the other's. What is seen of the
    other's own lungs beside them becomes grey like the tissue around these.

    Parameters
    ----------
    picture, segmentation
        Of the slice whose lungs are seen.
    other, other_segmentation
        Of the slice whose background is seen.

    Returns
    -------
    float32 in [0, 1], the shape of ``other``.

    Raises
    ------
    ValueError
        If no lungs were found on one of them.
    """
    if not (segmentation.found and other_segmentation.found):
        raise ValueError("lungs are swapped between slices on which they were found")
    source, target = _box(segmentation), _box(other_segmentation)

    shrinks = target.width <= source.width and target.height <= source.height
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR

    def stretched(content: Picture) -> Picture:
        shape = (target.width, target.height)
        return np.asarray(cv2.resize(content[source.slices], shape, interpolation=way))

    changed = np.where(other_segmentation.trusted_lungs, _grey_around(other, other_segmentation), other)
    opacity = stretched(segmentation.trusted_lungs.astype(np.float32))
    changed[target.slices] += opacity * (stretched(picture) - changed[target.slices])
    return changed.clip(0, 1)


def _box(segmentation: Segmentation, margin: float = 0) -> Box:
    """The box around both lungs."""
    lungs = segmentation.trusted_lungs
    if margin:
        height, width = lungs.shape
        return Preprocessing(lungs="crop", margin=margin).region(height, width, lungs)
    left, top, width, height = cv2.boundingRect(lungs.astype(np.uint8))
    return Box(top=top, left=left, height=height, width=width)


def _grey_around(picture: Picture, segmentation: Segmentation) -> np.float32:
    """The middle grey of a ring around the lungs; of the slice where they leave no room for one."""
    lungs, box = segmentation.trusted_lungs, _box(segmentation)
    side = 2 * round(RIM * max(box.height, box.width)) + 3
    ring = cv2.dilate(lungs.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool) & ~lungs
    return np.float32(np.median(picture[ring] if ring.any() else picture))


def _rotated(picture: Picture, degrees: float) -> Picture:
    height, width = picture.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    # Reflected at the border: black corners would be something new.
    turned = cv2.warpAffine(picture, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, dtype=np.float32)


def _mirrored(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[:, ::-1])


def _with_gamma(picture: Picture, gamma: float) -> Picture:
    return np.asarray(picture**gamma, dtype=np.float32)


def _as_jpeg(picture: Picture) -> Picture:
    _, encoded = cv2.imencode(
        ".jpg", np.rint(picture * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.float32) / np.float32(255)


def _at_half_resolution(picture: Picture) -> Picture:
    height, width = picture.shape
    half = cv2.resize(picture, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR))


def _with_noise(picture: Picture) -> Picture:
    noise = np.random.default_rng(0).standard_normal(picture.shape, dtype=np.float32)
    return (picture + np.float32(NOISE) * noise).clip(0, 1)


def _cropped(picture: Picture) -> Picture:
    rows, columns = (round(CROP * side) for side in picture.shape)
    return np.ascontiguousarray(picture[rows : picture.shape[0] - rows, columns : picture.shape[1] - columns])


ROBUSTNESS: Mapping[str, Change] = {
    f"turned by {ANGLE:g} degrees to the left": partial(_rotated, degrees=ANGLE),
    f"turned by {ANGLE:g} degrees to the right": partial(_rotated, degrees=-ANGLE),
    "mirrored": _mirrored,
    f"made darker by {SHIFT:.0%} of the grey scale": partial(apply_window, level=0.5 + SHIFT, width=1),
    f"made brighter by {SHIFT:.0%} of the grey scale": partial(apply_window, level=0.5 - SHIFT, width=1),
    f"seen through a window wider by {WIDENING - 1:.0%}": partial(apply_window, level=0.5, width=WIDENING),
    f"seen through a window narrower by {1 - 1 / WIDENING:.0%}": partial(
        apply_window, level=0.5, width=1 / WIDENING
    ),
    **{f"given a gamma of {gamma:g}": partial(_with_gamma, gamma=gamma) for gamma in GAMMAS},
    f"saved as JPEG of quality {QUALITY}": _as_jpeg,
    "brought to half its resolution": _at_half_resolution,
    f"given noise of {NOISE:.0%} of the grey scale": _with_noise,
    f"cropped by {CROP:.0%} a side": _cropped,
}
"""Small changes that leave the diagnosis as it is, by what is done; each from a picture to a picture.

A window of level 0.5 and width 1 in shares of the grey scale would change nothing.
"""
