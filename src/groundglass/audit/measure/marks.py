"""What looks burnt into a slice, and the grey levels of its air and soft tissue."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.audit.measure.drawn import Mask, Parts, find_arrows, find_bars, find_letters, find_rulers

SIDE = 512
"""Longest side, in pixels, at which marks are looked for."""
FRAME = 0.12
"""A frame lies within this share of the picture's sides."""
STRAIGHT, STEP = 0.6, 40
"""An edge of so many grey levels in one row over this share of the width is no anatomy."""
BODY_PART = 0.02
"""Bright parts that take at least this share of the picture belong to the body."""
LEAST = 0.01
"""Least share of the picture from which a grey level is taken."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Marks:
    """What one slice carries.

    Attributes
    ----------
    text
        Letter-like marks outside the body, along the picture's sides or in its corners.
    arrows
        Compact, pure white or pure black, sharply edged marks inside the chest.
    rulers
        Rows of at least six ticks at equal distances.
    bars
        Sides of the picture with a frame or a straight edge, and straight bars outside the body.
    share
        Share of the picture that all these cover, in [0, 1].
    black, white
        Shares of the pixels at 0 and at 255, in [0, 1].
    air, soft
        Median grey, in [0, 255], of the background outside the body and of soft tissue; NaN where none is found.
    """

    text: int = 0
    arrows: int = 0
    rulers: int = 0
    bars: int = 0
    share: float = 0.0
    black: float = 0.0
    white: float = 0.0
    air: float = float("nan")
    soft: float = float("nan")

    @property
    def found(self) -> bool:
        """Whether the slice carries any mark."""
        return self.text + self.arrows + self.rulers + self.bars > 0


def find_marks(picture: NDArray[np.uint8]) -> Marks:
    """Look for burnt-in marks, and measure grey levels.

    Parameters
    ----------
    picture
        A slice in grey, uint8, shape (height, width).

    Raises
    ------
    ValueError
        If it is no such picture.
    """
    if picture.ndim != 2 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(
            f"marks are looked for on uint8 (height, width); got {picture.dtype} {picture.shape}"
        )
    grey = _at_most(picture, SIDE)
    inner, framed = _inside_frame(grey)
    bright = np.zeros_like(grey)
    bright[inner] = cv2.threshold(
        np.ascontiguousarray(grey[inner]), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU
    )[1]
    body = _hull(bright)
    air, soft = _levels(grey, inner, bright, body)
    parts = Parts(grey, bright, body, soft)
    text, arrows, rulers, bars = find_letters(parts), find_arrows(parts), find_rulers(grey), find_bars(parts)
    covered = np.ones_like(grey)
    covered[inner] = 0
    for left, top, width, height in (*text, *arrows, *rulers, *bars):
        covered[top : top + height, left : left + width] = 1
    return Marks(
        len(text),
        len(arrows),
        len(rulers),
        framed + len(bars),
        share=cv2.countNonZero(covered) / covered.size,
        black=1 - cv2.countNonZero(picture) / picture.size,
        white=1 - cv2.countNonZero(255 - picture) / picture.size,
        air=air,
        soft=soft,
    )


def _at_most(picture: Mask, side: int) -> Mask:
    scale = side / max(picture.shape)
    if scale >= 1:
        return np.ascontiguousarray(picture)
    height, width = (max(1, round(scale * length)) for length in picture.shape)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _inside_frame(grey: Mask) -> tuple[Window, int]:
    """What lies within straight edges along the sides, and how many sides have such an edge."""
    spans, framed = [], 0
    for across in (grey, np.ascontiguousarray(grey.T)):
        length, width = across.shape
        start, stop = 0, length
        if length > 2:
            _, steps = cv2.threshold(cv2.absdiff(across[2:], across[:-2]), STEP, 1, cv2.THRESH_BINARY)
            share = cv2.reduce(steps, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() / width
            edges = np.flatnonzero(share >= STRAIGHT) + 1
            near, far = edges[edges < FRAME * length], edges[edges >= (1 - FRAME) * length]
            start, stop = (int(near[-1]) + 1 if near.size else 0), (int(far[0]) if far.size else length)
            framed += int(near.size > 0) + int(far.size > 0)
        spans.append(slice(start, stop))
    return (spans[0], spans[1]), framed


def _hull(bright: Mask) -> Mask:
    """The convex hull of the large bright parts, which is the body's."""
    body = np.zeros_like(bright)
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    large = [outline for outline in outlines if cv2.contourArea(outline) >= BODY_PART * bright.size]
    if large:
        cv2.fillPoly(body, [cv2.convexHull(np.concatenate(large))], (1,))
    return body


def _levels(grey: Mask, inner: Window, bright: Mask, body: Mask) -> tuple[float, float]:
    """Median grey of the air around the body, and of what is bright in it, most of which is soft tissue."""
    if not body.any():
        return float("nan"), float("nan")
    around = np.zeros_like(grey)
    around[inner] = 1 - body[inner]
    soft = cv2.erode(bright & body, np.ones((5, 5), np.uint8))
    return _median(grey, around), _median(grey, np.asarray(soft, dtype=np.uint8))


def _median(grey: Mask, mask: Mask) -> float:
    counts = cv2.calcHist([grey], [0], mask, [256], [0, 256]).ravel()
    if counts.sum() < LEAST * grey.size:
        return float("nan")
    return float(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
