"""Paint lesions of other diseases than COVID-19 into lungs, for training sets without such diseases.

They are drawn in the greys of :func:`groundglass.preprocess.to_landmarks` and only resemble disease: nodules
and tree-in-bud, honeycombing, a consolidated lobe with air bronchograms, reticulation, and the haze of
expiration and of dependent lung.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.preprocess import TISSUE

Grey = NDArray[np.float32]
Lungs = NDArray[np.bool_]
Random = np.random.Generator
LEAST = 400
"""Nothing is painted into lungs with fewer pixels."""


def paint(random: Random, grey8: NDArray[np.uint8], lungs: Lungs) -> NDArray[np.uint8]:
    """A slice with lesions of one random kind.

    Parameters
    ----------
    random
        Draws kind, location and size.
    grey8
        uint8, shape (height, width), normalised to its landmarks.
    lungs
        bool, the same shape.

    Returns
    -------
    uint8 of the same shape; the slice itself if there is hardly any lung.
    """
    if np.count_nonzero(lungs) < LEAST:
        return grey8
    kind = KINDS[random.integers(len(KINDS))]
    painted = kind(random, grey8.astype(np.float32) / np.float32(255), lungs)
    # Smooth edges extend one pixel beyond the lung.
    reach = cv2.dilate(lungs.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(reach, np.rint(painted.clip(0, 1) * 255), grey8).astype(np.uint8)


def _nodules(random: Random, grey: Grey, lungs: Lungs) -> Grey:
    """A few round nodules, or many small ones in a part of the lungs."""
    few = random.random() < 0.3
    count = random.integers(1, 4) if few else random.integers(5, 60)
    rows, columns = np.nonzero(lungs if few else _region(random, lungs, random.uniform(0.2, 1)))
    layer = np.zeros_like(grey)
    for place in random.integers(len(rows), size=count):
        radius = random.uniform(3, 11) if few else random.uniform(0.8, 2.6)
        axes = (max(1, int(radius)), max(1, int(radius * random.uniform(0.7, 1.2))))
        one = np.zeros_like(grey)
        centre = (int(columns[place]), int(rows[place]))
        cv2.ellipse(one, centre, axes, random.uniform(0, 180), 0, 360, random.uniform(0.6, 0.95), -1)
        layer = np.maximum(layer, _blurred(one, 1.0 if few else 0.6))
    return np.where(lungs, np.maximum(grey, layer), grey)


def _honeycombing(random: Random, grey: Grey, lungs: Lungs) -> Grey:
    """Air-filled cells with thick walls, near the pleura and mostly posterior."""
    depth = cv2.distanceTransform(lungs.astype(np.uint8), cv2.DIST_L2, 3)
    region = lungs & (depth < random.uniform(8, 30)) & (_height_in(lungs) > random.uniform(0, 0.6))
    seeds = np.ones(grey.shape, np.uint8)
    count = random.integers(500, 2200)
    seeds[random.integers(grey.shape[0], size=count), random.integers(grey.shape[1], size=count)] = 0
    distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 5)
    walls = np.clip((distance / (1.5 * cv2.blur(distance, (15, 15)) + 1e-3) - 0.3) * 1.8, 0, 1)
    return _blend(grey, 0.05 + 0.75 * walls, region, 1.5, random.uniform(0.6, 1))


def _lobe(random: Random, grey: Grey, lungs: Lungs) -> Grey:
    """A dense lobe of one lung, with or without air in its bronchi."""
    region = _region(random, _one_side(random, lungs), random.uniform(0.1, 0.6), random.uniform(12, 30))
    dense = random.uniform(0.7, 0.9) + 0.03 * _noise(random, grey.shape, 1)
    if random.random() < 0.7:
        dense = np.where(np.abs(_noise(random, grey.shape, 6)) < 0.06, 0.2, dense)
    return _blend(grey, dense, region, random.uniform(0.6, 2), 1.0)


def _reticulation(random: Random, grey: Grey, lungs: Lungs) -> Grey:
    """A network of fine lines."""
    region = _region(random, lungs, random.uniform(0.15, 0.8))
    net = np.abs(_noise(random, grey.shape, random.uniform(1.5, 3)))
    lines = np.clip(1 - net * random.uniform(4, 8), 0, 1)
    return np.maximum(
        grey, _blend(grey, grey + 0.55 * lines, region, 2, random.uniform(0.4, 0.8)).clip(0, 0.95)
    )


def _haze(random: Random, grey: Grey, lungs: Lungs) -> Grey:
    """Lungs with less air, evenly or increasing posteriorly."""
    strength = random.uniform(0.05, 0.25) * (1 + 0.3 * _noise(random, grey.shape, 20))
    if random.random() < 0.6:
        strength = strength * _height_in(lungs) ** random.uniform(0.5, 3)
    return np.where(lungs, grey + strength * (TISSUE - grey).clip(0), grey).astype(np.float32)


def _budding(random: Random, grey: Grey, lungs: Lungs) -> Grey:
    """Nodules, often on a network of lines."""
    nodules = _nodules(random, grey, lungs)
    return _reticulation(random, nodules, lungs) if random.random() < 0.4 else nodules


KINDS: tuple[Callable[[Random, Grey, Lungs], Grey], ...] = (
    _honeycombing,
    _nodules,
    _lobe,
    _reticulation,
    _haze,
    _budding,
)


def _noise(random: Random, shape: tuple[int, ...], sigma: float) -> Grey:
    """Smooth noise with mean 0 and standard deviation 1."""
    noise = _blurred(random.standard_normal(shape, dtype=np.float32), sigma)
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def _blurred(grey: Grey, sigma: float) -> Grey:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), dtype=np.float32)


def _blend(
    grey: Grey, other: NDArray[np.floating[Any]], region: Lungs, softness: float, strength: float
) -> Grey:
    share = _blurred(region.astype(np.float32), softness) * np.float32(strength)
    return np.asarray(grey * (1 - share) + other * share, dtype=np.float32)


def _region(random: Random, lungs: Lungs, share: float, sigma: float | None = None) -> Lungs:
    """An irregular part of the lungs around a random location, with a given share of their area."""
    rows, columns = np.nonzero(lungs)
    place = random.integers(len(rows))
    y, x = np.indices(lungs.shape)
    distance = np.hypot(y - rows[place], x - columns[place]) / np.sqrt(len(rows))
    ragged = 0.35 * _noise(random, lungs.shape, sigma or random.uniform(8, 25))
    near = ragged - random.uniform(1.5, 3) * distance
    return np.asarray(lungs & (near >= np.quantile(near[lungs], 1 - share)))


def _one_side(random: Random, lungs: Lungs) -> Lungs:
    """One of the lungs, or all if only one is visible."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(lungs.astype(np.uint8))
    large = [label for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= LEAST]
    return np.asarray(labels == large[random.integers(len(large))]) if large else lungs


def _height_in(lungs: Lungs) -> Grey:
    """From 0 at the lungs' front to 1 at their back."""
    rows = np.flatnonzero(lungs.any(axis=1))
    height = (np.arange(len(lungs)) - rows[0]) / max(1, rows[-1] - rows[0])
    return np.repeat(height.clip(0, 1).astype(np.float32)[:, None], lungs.shape[1], axis=1)
