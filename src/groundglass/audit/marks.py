"""Find what was drawn into a slice: letters, arrows, rulers and bars.

Drawings are distinguished from anatomy by what a scanner does not produce: strokes with an edge one pixel
wide on an even background, equidistant ticks, straight filled strips. The rules were tuned by eye on slices
of covid-ct; docs/audit-checks.md states how many marks they find and miss.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BORDER = 0.15
"""Rulers are within this share of the picture's sides."""
STRIP, CORNER = 0.07, 0.18
"""Over the body, letters are looked for only in a strip along the sides, and in the corners."""
STROKE, FAINT = 0.03, 40
"""A letter's strokes are thinner than this share of the longest side, and differ from their background by
more grey levels than this."""
LETTER = (0.0095, 0.13)
"""Minimum and maximum height of a letter, as shares of the longest side."""
CONTRAST, CLEAR, SHARP, UNEVEN = 55, 90, 0.7, 0.3
"""Minimum contrast of a letter beside the body and over it, and, as shares of the contrast, minimum step at
its edge and maximum deviation around it."""
PURE = 244
"""An arrow is whiter than this, or as close to black."""
WHITE_ARROW, BLACK_ARROW, LARGEST_ARROW = 0.00055, 0.0001, 0.008
"""Areas of arrows, as shares of the squared longest side; cross-sections of vessels are as small as black
arrows."""
MOST_BLACK = 0.02
"""Black arrows are looked for if no more than this share of the picture is black within the body."""
LUNG_WINDOW = 140
"""White arrows are looked for only if soft tissue is at least this bright: in soft-tissue windows, bones look
like arrows."""
TICKS, TICK = 6, 25
"""Minimum number of equidistant ticks in a ruler, and their minimum contrast in grey levels."""

Mask = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A slice and its parts.

    Attributes
    ----------
    grey
        uint8, shape (height, width).
    bright, body
        Bright pixels, and the convex hull of the body; 0 or 1, the same dtype and shape.
    soft
        Grey of soft tissue, or NaN.
    """

    grey: Mask
    bright: Mask
    body: Mask
    soft: float


@dataclass(frozen=True, eq=False)
class _Sign:
    """A candidate letter; ``sharp`` and ``uneven`` are shares of the contrast."""

    box: Box
    inside: NDArray[np.bool_]
    contrast: float
    sharp: float
    uneven: float


def find_letters(parts: Parts) -> list[Box]:
    """Signs in line with others like them, and single ones that are too clean for anatomy."""
    found: list[Box] = []
    zone = _letter_zone(parts.body)
    for black in (False, True):
        signs = list(_signs(parts, zone, black))
        found += [sign.box for sign, mate in zip(signs, _in_line(signs), strict=True) if mate or _clean(sign)]
    return found


def _letter_zone(body: Mask) -> Mask:
    sides = np.ones_like(body)
    height, width = body.shape
    strip = round(STRIP * max(height, width))
    down, across = round(CORNER * height), round(CORNER * width)
    sides[strip : height - strip, strip : width - strip] = 0
    sides[:down, :across] = sides[:down, width - across :] = 1
    sides[height - down :, :across] = sides[height - down :, width - across :] = 1
    return sides | (1 - body)


def _signs(parts: Parts, zone: Mask, black: bool) -> Iterator[_Sign]:
    shown = 255 - parts.grey if black else parts.grey
    longest = max(shown.shape)
    side = max(7, round(STROKE * longest)) | 1
    strokes = _morphed(shown, cv2.MORPH_TOPHAT, (side, side))
    labels, stats = _components(_above(strokes, FAINT) & zone)
    _, _, width, height, area = stats.T
    fits = (height >= max(5, LETTER[0] * longest)) & (np.maximum(height, width) <= LETTER[1] * longest)
    fits &= (width >= 2) & (width <= 2 * height) & (area >= 8) & (area >= 0.2 * width * height)
    for label in np.flatnonzero(fits[1:]) + 1:
        box = _box(stats[label])
        # Air in a corner of the picture is black and cut by its edge; vessels are white on dark within the body.
        if _at_edge(shown, box) if black else _on_dark(parts, box):
            continue
        near = _window(box, 0)
        inside = labels[near] == label
        contrast = _high(strokes[near][inside])
        if contrast < (CLEAR if parts.body[near].mean() > 0.5 else CONTRAST):
            continue
        # Other letters are beside it, so only what is above and below is certainly background.
        beside, above_and_below = _around(shown, box)
        if above_and_below.std() > UNEVEN * contrast:
            continue
        sharp = _high(_morphed(shown[_window(box, 1)], cv2.MORPH_GRADIENT, (3, 3)).ravel()) / contrast
        if sharp >= SHARP:
            uneven = float(np.concatenate([beside, above_and_below]).std()) / contrast
            yield _Sign(box, inside, contrast, sharp, uneven)


def _at_edge(grey: Mask, box: Box) -> bool:
    left, top, width, height = box
    return left == 0 or top == 0 or left + width == grey.shape[1] or top + height == grey.shape[0]


def _on_dark(parts: Parts, box: Box) -> bool:
    around = _window(box, 3)
    return bool(parts.body[around].mean() > 0.5 and parts.bright[around].mean() < 0.5)


def _high(values: Mask) -> float:
    """The value that a tenth of all values exceed."""
    return float(np.sort(values)[int(0.9 * (len(values) - 1))])


def _around(grey: Mask, box: Box) -> tuple[Mask, Mask]:
    """The pixels two and three pixels to the sides of a box, and those as far above and below it."""
    rows, columns = _window(box, 3)
    inner_rows, inner_columns = _window(box, 1)
    beside = np.hstack(
        [
            grey[inner_rows, columns.start : inner_columns.start],
            grey[inner_rows, inner_columns.stop : columns.stop],
        ]
    )
    above_and_below = np.vstack(
        [grey[rows.start : inner_rows.start, columns], grey[inner_rows.stop : rows.stop, columns]]
    )
    return beside.ravel(), above_and_below.ravel()


def _in_line(signs: list[_Sign]) -> NDArray[np.bool_]:
    """Whether each sign is next to another of similar height and contrast, like letters of a word."""
    if len(signs) < 2:
        return np.zeros(len(signs), dtype=bool)
    left, top, width, height = np.array([sign.box for sign in signs]).T[:, :, None]
    contrast = np.array([[sign.contrast] for sign in signs])
    right, bottom, tall = left + width, top + height, np.maximum(height, height.T)
    gap = np.maximum(left, left.T) - np.minimum(right, right.T)
    mates = (gap > -2) & (gap <= 0.8 * tall) & (tall <= 1.5 * np.minimum(height, height.T))
    mates &= np.minimum(abs(top - top.T), abs(bottom - bottom.T)) <= np.maximum(1.5, 0.2 * tall)
    mates &= np.maximum(contrast, contrast.T) <= 1.8 * np.minimum(contrast, contrast.T)
    np.fill_diagonal(mates, False)
    return np.asarray(mates.any(axis=1))


def _clean(sign: _Sign) -> bool:
    """Whether an isolated sign counts as a letter; blobs, lines and noise do not."""
    if sign.contrast < CLEAR or sign.sharp < 0.85 or sign.uneven > (0.18 if sign.contrast < 180 else 0.22):
        return False
    solid, slender = _shape(sign.inside.astype(np.uint8))
    return solid <= 0.85 and slender <= 2.5


def _shape(mark: Mask) -> tuple[float, float]:
    """Share of its convex hull that a mark fills, and how many times longer than wide it is."""
    hull = cv2.convexHull(cv2.findNonZero(mark))
    solid = cv2.countNonZero(mark) / (cv2.contourArea(hull) + cv2.arcLength(hull, True) / 2 + 1)
    short, long = sorted(cv2.minAreaRect(hull)[1])
    return solid, (long + 1) / (short + 1)


def find_arrows(parts: Parts) -> list[Box]:
    """Compact, pure white or pure black marks with a sharp edge on an even grey background."""
    found = _pure(parts, black=False) if parts.soft >= LUNG_WINDOW else []
    black = cv2.countNonZero((1 - _above(parts.grey, 255 - PURE - 1)) & parts.body)
    # If the lungs themselves are black, black marks in them are not arrows.
    if black <= MOST_BLACK * parts.grey.size:
        marks = _pure(parts, black=True)
        if sum(area for _, area in marks) >= 0.5 * black:
            found += marks
    return [box for box, _ in found]


def _pure(parts: Parts, black: bool) -> list[tuple[Box, int]]:
    """Arrows of one colour, with their areas in pixels."""
    shown = 255 - parts.grey if black else parts.grey
    labels, stats = _components(_above(shown, PURE) & parts.body)
    square = float(max(shown.shape)) ** 2
    area = stats[:, cv2.CC_STAT_AREA]
    least = max(15, (BLACK_ARROW if black else WHITE_ARROW) * square)
    fits = (area >= least) & (area <= LARGEST_ARROW * square)
    found = []
    for label in np.flatnonzero(fits[1:]) + 1:
        box = _box(stats[label])
        around = _window(box, 4)
        if _is_arrow(shown[around], (labels[around] == label).astype(np.uint8), black):
            found.append((box, int(area[label])))
    return found


def _is_arrow(shown: Mask, mark: Mask, black: bool) -> bool:
    """Whether a mark has an arrow's outline, and a step at its edge instead of a slope.

    The step is the share of the grey difference, from the mark to three pixels away, that lies in its first
    pixel. Vessels are also white, so criteria are stricter for white marks, and strictest on an uneven
    background.
    """
    solid, slender = _shape(mark)
    if not (0.54 <= solid <= 0.9 and 1.3 <= slender <= 5):
        return False
    grown = [_morphed(mark, cv2.MORPH_DILATE, (side, side)) for side in (3, 5, 7)]
    next_to, further = shown[grown[0] > mark], shown[grown[2] > grown[1]]
    inside = float(shown[mark > 0].mean())
    fall = inside - float(further.mean())
    if fall < CLEAR or (further > 200).mean() > 0.1:
        return False
    step, uneven = (inside - float(next_to.mean())) / fall, float(further.std()) / fall
    if black:
        return step >= 0.28 and uneven <= 0.45
    return (step >= 0.48 and uneven <= 0.32) or (step >= 0.3 and uneven <= 0.22 and solid <= 0.8)


def find_rulers(grey: Mask) -> list[Box]:
    """Columns or rows, along a side, of equidistant short lines that are aligned at one end."""
    found = []
    for turned in (False, True):
        across = np.ascontiguousarray(grey.T) if turned else grey
        strip = max(8, round(BORDER * across.shape[1]))
        for start in (0, max(0, across.shape[1] - strip)):
            ruler = _ruler(np.ascontiguousarray(across[:, start : start + strip]), max(grey.shape))
            if ruler is not None:
                left, top, width, height = ruler
                left += start
                found.append((top, left, height, width) if turned else (left, top, width, height))
    return found


def _ruler(strip: Mask, longest: int) -> Box | None:
    """The longest ruler in a strip."""
    best: Box | None = None
    for method in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        lines = _above(_morphed(strip, method, (5, 1)), TICK)
        if cv2.countNonZero(lines) < 2 * TICKS:
            continue
        _, stats = _components(lines)
        width, height, area = stats[:, 2], stats[:, 3], stats[:, 4]
        fits = (height <= 4) & (width >= np.maximum(2, height)) & (width <= 0.08 * longest)
        fits &= area >= 0.6 * width * height
        ticks = stats[1:][fits[1:]]
        for ends in (ticks[:, 0], ticks[:, 0] + ticks[:, 2]):
            ruler = _comb(ticks, ends, longest)
            if ruler is not None and (best is None or ruler[3] > best[3]):
                best = ruler
    return best


def _comb(ticks: NDArray[np.int32], ends: NDArray[np.int32], longest: int) -> Box | None:
    """The ticks with the most common end column, if they are equidistant."""
    if len(ticks) < TICKS:
        return None
    counts = np.convolve(np.bincount(ends), np.ones(3, dtype=int), "same")
    chosen = ticks[abs(ends - int(counts.argmax())) <= 1]
    middle = np.sort(chosen[:, 1] + chosen[:, 3] / 2)
    middle = middle[np.r_[True, np.diff(middle) > 2]]
    if len(middle) < TICKS:
        return None
    steps = np.diff(middle)
    step = float(np.median(steps))
    even = abs(steps - step) <= max(1.0, 0.1 * step)
    if step < max(4, 0.008 * longest) or even.sum() < TICKS - 1 or even.mean() < 0.7:
        return None
    left, top = int(chosen[:, 0].min()), int(chosen[:, 1].min())
    return left, top, int((chosen[:, 0] + chosen[:, 2]).max()) - left, int(middle[-1]) + 1 - top


def find_bars(parts: Parts) -> list[Box]:
    """Bright, straight, filled, upright strips outside the body, such as grey scales; the patient table is
    horizontal."""
    longest = max(parts.grey.shape)
    _, stats = _components(parts.bright & (1 - parts.body))
    width, height, area = stats[:, 2], stats[:, 3], stats[:, 4]
    fits = (height >= 0.08 * longest) & (height >= 4 * width) & (width >= 3) & (area >= 0.85 * width * height)
    return [_box(row) for row in stats[1:][fits[1:]]]


def _components(mask: Mask) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Labels, and [left, top, width, height, area] of each; 0 is the background."""
    # There are at most a quarter as many components as pixels, and 16 bits take half the time.
    depth = cv2.CV_16U if mask.size < 2**18 else cv2.CV_32S
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=depth)
    return np.asarray(labels), np.asarray(stats, dtype=np.int32)


def _morphed(picture: Mask, method: int, shape: tuple[int, int]) -> Mask:
    return np.asarray(cv2.morphologyEx(picture, method, np.ones(shape, np.uint8)), dtype=np.uint8)


def _above(picture: Mask, level: int) -> Mask:
    return np.asarray(cv2.threshold(picture, level, 1, cv2.THRESH_BINARY)[1], dtype=np.uint8)


def _box(stats: NDArray[np.int32]) -> Box:
    left, top, width, height = stats[:4].tolist()
    return left, top, width, height


def _window(box: Box, margin: int) -> tuple[slice, slice]:
    left, top, width, height = box
    return (
        slice(max(0, top - margin), top + height + margin),
        slice(max(0, left - margin), left + width + margin),
    )


SIDE = 512
"""Longest side, in pixels, at which marks are looked for."""
FRAME = 0.12
"""A frame is within this share of the picture's sides."""
STRAIGHT, STEP = 0.6, 40
"""An edge of this many grey levels in one row over this share of the width is not anatomy."""
BODY_PART = 0.02
"""Bright parts that cover at least this share of the picture belong to the body."""
LEAST = 0.01
"""Minimum share of the picture from which a grey level is measured."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Marks:
    """The marks and grey levels of one slice.

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
        Median grey, in [0, 255], of the background outside the body and of soft tissue; NaN if none is found.
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
        """Whether the slice has any mark."""
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
        If the picture is of another type or shape.
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
    """The area within straight edges along the sides, and how many sides have such an edge."""
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
    """Median grey of the air around the body, and of bright parts in it, which are mostly soft tissue."""
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
