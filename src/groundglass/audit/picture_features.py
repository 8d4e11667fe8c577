"""Features of small pictures that show little or nothing of the disease: the border, the outside of the lungs, grey
levels, a thumbnail."""

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Masks = NDArray[np.bool_]
Features = NDArray[np.float32]
LEVELS, BINS = 256, 32
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
CELLS = 16
"""Cells of a thumbnail in each direction."""
MARGIN = 4
"""Pixels around the lungs that are left out with them, since small masks and pictures are averaged."""


def grey_statistics(grey: Grey, kept: Masks | None = None) -> Features:
    """Grey levels regardless of position.

    Parameters
    ----------
    grey
        uint8, shape (slices, height, width).
    kept
        The pixels that count, bool, the same shape; None for all.

    Returns
    -------
    float32, shape (slices, 42): shares of 32 bins, then mean, standard deviation, the percentiles of
    PERCENTILES (lower values, not interpolated) and entropy in bits of the 256 levels. 0 if no pixel is kept.
    """
    counted = grey if kept is None else [picture[counts] for picture, counts in zip(grey, kept, strict=True)]
    counts = np.array([np.bincount(np.ravel(levels), minlength=LEVELS) for levels in counted])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    levels = np.arange(LEVELS)
    mean = shares @ levels
    spread = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))
    reached = np.cumsum(counts, axis=1)
    percentiles = [(100 * reached >= percent * reached[:, -1:]).argmax(axis=1) for percent in PERCENTILES]
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1)
    bins = shares.reshape(len(grey), BINS, -1).sum(axis=2)
    return np.column_stack([bins, mean, spread, *percentiles, entropy]).astype(np.float32)


def thumbnail(grey: Grey, side: int = CELLS, kept: Masks | None = None) -> Features:
    """Mean grey of square cells.

    Parameters
    ----------
    grey
        uint8, shape (slices, height, width).
    side
        Cells in each direction; it must divide height and width.
    kept
        The pixels that count, bool, the same shape as ``grey``; None for all.

    Returns
    -------
    float32, shape (slices, side * side), row by row. A cell without a pixel that counts gets the mean of all
    pixels that count, or 0 if none does.

    Raises
    ------
    ValueError
        If ``side`` does not divide height and width.
    """
    if grey.shape[1] % side or grey.shape[2] % side:
        raise ValueError(
            f"pictures of {grey.shape[1]} x {grey.shape[2]} cannot be cut into {side} x {side} cells"
        )
    if kept is None:
        return np.asarray(_cells(grey, side) / (grey[0].size / side**2), dtype=np.float32)
    counted, summed = _cells(kept, side), _cells(grey * kept, side)
    mean = summed.sum(axis=1, keepdims=True) / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    return np.where(counted > 0, summed / np.maximum(counted, 1), mean).astype(np.float32)


def _cells(pictures: Grey | Masks, side: int) -> NDArray[np.int64]:
    count, height, width = pictures.shape
    cut = pictures.reshape(count, side, height // side, side, width // side)
    return cut.sum(axis=(2, 4), dtype=np.int64).reshape(count, side * side)


def with_margin(lungs: Masks) -> Masks:
    """The lungs and MARGIN pixels around them, bool, shape (slices, height, width)."""
    around = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), dtype=np.uint8)
    return np.array([cv2.dilate(mask.view(np.uint8), around) for mask in lungs], dtype=bool)


def border_ring(grey: Grey, lungs: Masks, width: float = 0.1) -> Features:
    """The outermost ring of the slice, without the lungs.

    Lungs with a margin of MARGIN pixels are left out. If they reach into the ring, cells that lost all their
    pixels reveal it.

    Parameters
    ----------
    grey
        uint8, shape (slices, height, width).
    lungs
        bool, the same shape.
    width
        Width of the ring, as a share of height and width, over 0 and under 0.5.

    Returns
    -------
    float32, shape (slices, features): the thumbnail's cells that the ring touches, and grey statistics.
    """
    rows, columns = (round(width * length) for length in grey.shape[1:])
    ring = np.ones(grey.shape[1:], dtype=bool)
    ring[rows:-rows, columns:-columns] = False
    kept = ring & ~with_margin(lungs)
    touched = _cells(ring[None], CELLS)[0] > 0
    return np.hstack([thumbnail(grey, kept=kept)[:, touched], grey_statistics(grey, kept)])


def outside_lungs(grey: Grey, lungs: Masks) -> Features:
    """The slice outside the lungs' bounding box, which is filled with the mean grey of the rest.

    Neither the lungs' content nor their shape remains; only the box can be recognised, if it covers whole cells.

    Parameters
    ----------
    grey
        uint8, shape (slices, height, width).
    lungs
        bool, the same shape.

    Returns
    -------
    float32, shape (slices, features): the thumbnail, and grey statistics of the rest.
    """
    kept = ~_boxes(lungs)
    return np.hstack([thumbnail(grey, kept=kept), grey_statistics(grey, kept)])


def lung_box(lungs: Masks) -> Features:
    """Position of the lungs' bounding box, without its margin.

    Returns
    -------
    float32, shape (slices, 4): first and last row, first and last column, counted from 0; those of the whole
    slice if it has no lungs.
    """
    rows, columns = np.asarray(lungs.any(axis=2)), np.asarray(lungs.any(axis=1))
    return np.column_stack([*_ends(rows), *_ends(columns)]).astype(np.float32)


def _ends(hit: Masks) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return hit.argmax(axis=1), hit.shape[1] - 1 - hit[:, ::-1].argmax(axis=1)


def _boxes(lungs: Masks) -> Masks:
    """The lungs' bounding boxes with their margin, as masks."""
    top, bottom, left, right = (end[:, None] for end in lung_box(lungs).T)
    rows, columns = (np.arange(length) for length in lungs.shape[1:])
    down = (rows >= top - MARGIN) & (rows <= bottom + MARGIN)
    across = (columns >= left - MARGIN) & (columns <= right + MARGIN)
    return down[:, :, None] & across[:, None, :]
