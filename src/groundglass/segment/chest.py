"""Recognises axial chest CT by the shape, position and grey of its apparent lungs, with a logistic model.

The coefficients are stored with the segmenter they were fitted for; ``benchmarks/refusals.py`` fits them again.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

RING = 0.04
"""Width of the ring around the lungs, as a share of both lungs' width."""
LEAST_SPAN = 0.02
"""Smallest difference in grey between air and soft tissue that is used as the unit for greys."""
FARTHEST = 4.0
"""Features are clipped at this many standard deviations."""

Mask = NDArray[np.uint8]
Grey = NDArray[np.float32]


class ChestModel(BaseModel):
    """A logistic model of :func:`features`, with a linear and a quadratic term for each.

    Attributes
    ----------
    terms
        By feature: its mean and standard deviation on chest slices, and the weights of its deviation and
        squared deviation.
    intercept
        The constant added to the terms.
    least
        Smallest sum for a chest CT.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    terms: dict[str, tuple[float, float, float, float]]
    intercept: float
    least: float

    def score(self, values: dict[str, float]) -> float:
        """The logit that a slice is an axial chest CT."""
        total = self.intercept
        for name, (mean, scale, linear, square) in self.terms.items():
            deviation = min(FARTHEST, max(-FARTHEST, (values[name] - mean) / scale))
            total += linear * deviation + square * deviation * deviation
        return total


def features(sides: Mask, lesions: NDArray[np.bool_], probability: Grey, grey: Grey) -> dict[str, float]:
    """Features that distinguish lungs on an axial chest CT from other dark shapes.

    Greys are measured on a scale from the darkest grey in the picture, which is air in every window, to the
    soft tissue around the lungs: lungs contain air, axillary fat does not.

    Parameters
    ----------
    sides
        uint8, shape (height, width): 1 in the right lung, 2 in the left; at least one pixel must be lung.
    lesions
        bool, the same shape.
    probability
        float32 in [0, 1], the same shape: probability of lung or lesion.
    grey
        float32 in [0, 1], the same shape: the slice without equalisation.
    """
    lungs = (sides > 0).astype(np.uint8)
    box = cv2.boundingRect(lungs)
    radius = max(2, round(RING * box[2]))
    near = cv2.dilate(lungs, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)) > 0
    ring = near & (cv2.dilate(lungs, np.ones((3, 3), np.uint8)) == 0)
    around = grey[ring] if ring.sum() > 30 else grey.ravel()
    air, tissue = float(np.percentile(grey, 1)), float(np.percentile(around, 75))
    relative = (grey - np.float32(air)) / np.float32(max(tissue - air, LEAST_SPAN))
    return {
        **_certainty(lungs, lesions, probability),
        **_greys(lungs, relative, near, ring if ring.sum() > 30 else np.ones_like(ring)),
        **_picture(grey, relative, lungs),
        **_shape(lungs, box),
        **_pair(sides, box),
        **_middle(relative, box),
    }


def _certainty(lungs: Mask, lesions: NDArray[np.bool_], probability: Grey) -> dict[str, float]:
    """How certain the network is."""
    count = cv2.countNonZero(lungs)
    inside = float(probability[lungs > 0].sum())
    whole = float(probability.sum())
    return {
        "share": count / lungs.size,
        "expected_dice": 2 * inside / (whole + count),
        "unsure": float(((probability > 0.1) & (probability < 0.9)).sum()) / count**0.5,
        "outside": (whole - inside) / count,
        "core": float(np.percentile(probability[lungs > 0], 25)),
        "lesions": float(lesions.sum()) / count,
    }


def _greys(lungs: Mask, relative: Grey, near: NDArray[np.bool_], ring: NDArray[np.bool_]) -> dict[str, float]:
    """How dark the lungs are, how bright the ring around them, and how sharp the border."""
    inside, around, far = relative[lungs > 0], relative[ring], relative[~near]
    tenth, quarter, half, most = np.percentile(inside, (10, 25, 50, 75))
    low, high = np.percentile(around, (25, 75))
    slope = np.hypot(cv2.Sobel(relative, cv2.CV_32F, 1, 0), cv2.Sobel(relative, cv2.CV_32F, 0, 1))
    square = np.ones((3, 3), np.uint8)
    border = cv2.dilate(lungs, square) > cv2.erode(lungs, square)
    return {
        "air_10": float(tenth),
        "air_50": float(half),
        "air_75": float(most),
        "ring_low": float(low - half),
        "ring_spread": float(high - low),
        "texture": float(inside.std()),
        "same_outside": float(((far >= quarter) & (far <= most)).mean()) if far.size else 0.0,
        "darker_outside": float((far < half).mean()) if far.size else 0.0,
        "border": float(np.median(slope[border])),
        "slope_outside": float(slope[~near].mean()) if far.size else 0.0,
    }


def _picture(grey: Grey, relative: Grey, lungs: Mask) -> dict[str, float]:
    """The greys of the whole picture and of its frame."""
    counts = np.bincount((grey * 255).astype(np.uint8).ravel(), minlength=256) / grey.size
    counts = counts[counts > 0]
    frame = np.concatenate([relative[0], relative[-1], relative[:, 0], relative[:, -1]])
    edges = np.concatenate([lungs[0], lungs[-1], lungs[:, 0], lungs[:, -1]])
    return {
        "black": float((grey < 0.02).mean()),
        "white": float((grey > 0.98).mean()),
        "entropy": float(-(counts * np.log(counts)).sum()),
        "frame": float(np.median(frame)),
        "frame_spread": float(frame.std()),
        "cut": float(edges.sum()) / cv2.countNonZero(lungs) ** 0.5,
    }


def _shape(lungs: Mask, box: Sequence[int]) -> dict[str, float]:
    """Outline and position of both lungs together."""
    left, top, width, height = box
    count = cv2.countNonZero(lungs)
    outlines, _ = cv2.findContours(lungs, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hulls = sum(cv2.contourArea(cv2.convexHull(outline)) for outline in outlines)
    rows = lungs[top : top + height].sum(axis=1).astype(np.float64)
    quarter = max(1, height // 4)
    return {
        "pieces": float(len(outlines)),
        "roughness": sum(cv2.arcLength(outline, True) for outline in outlines) / count**0.5,
        "solidity": count / max(1.0, hulls),
        "aspect": float(np.log(width / height)),
        "off_centre": abs((left + width / 2) / lungs.shape[1] - 0.5),
        "width": width / lungs.shape[1],
        "height": height / lungs.shape[0],
        "mean_row": float(rows @ np.arange(height)) / height / count,
        "top_rows": float(rows[:quarter].mean() / rows.max()),
        "bottom_rows": float(rows[-quarter:].mean() / rows.max()),
    }


def _pair(sides: Mask, box: Sequence[int]) -> dict[str, float]:
    """The position of the two lungs relative to each other; 0 if there is only one."""
    right, left = ((sides == side).astype(np.uint8) for side in (1, 2))
    areas = cv2.countNonZero(right), cv2.countNonZero(left)
    pair = {"symmetry": min(areas) / max(areas), "overlap": 0.0, "slimness": 0.0, "gap": 0.0}
    if min(areas) <= 5:
        return pair
    (x, y, w, h), (other_x, other_y, other_w, other_h) = cv2.boundingRect(right), cv2.boundingRect(left)
    common = min(y + h, other_y + other_h) - max(y, other_y)
    return pair | {
        "overlap": max(0, common) / max(h, other_h),
        "slimness": float(np.log(w / h) + np.log(other_w / other_h)) / 2,
        "gap": (other_x - x - w) / box[2],
    }


def _middle(relative: Grey, box: Sequence[int]) -> dict[str, float]:
    """How bright the strip between the lungs is, at its top and bottom, and below the lungs, where the spine is."""
    left, top, width, height = box
    middle, half = left + width // 2, width // 10
    columns = slice(max(0, middle - half), middle + half + 1)
    third = max(1, height // 3)
    below = relative[min(len(relative) - 1, top + height) : top + height + max(2, third), columns]
    return {
        "middle_top": float(relative[top : top + third, columns].mean()),
        "middle_bottom": float(relative[top + height - third : top + height, columns].mean()),
        "below": float(below.mean()),
    }
