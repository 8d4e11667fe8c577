"""Synthetic series of slices: smooth random pictures that differ by patient and by level of the body."""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.material import SIDE, Material, SmallPictures
from groundglass.audit.near_duplicates import similar_pictures


def pictures_of(slices: Sequence[int], seed: int = 0) -> NDArray[np.uint8]:
    """Patients with this many slices each, in order: uint8, shape (slices, SIDE, SIDE).

    All go from the same first to the same last level of the body, so that the last slice of a patient is less like
    the first of the next than slices of one level are.
    """
    rng = np.random.default_rng(seed)
    levels = [_smooth(np.random.default_rng(level)) for level in (1001, 1002, 1003)]
    return np.concatenate([_series(count, levels, rng) for count in slices])


def _smooth(rng: np.random.Generator) -> NDArray[np.float32]:
    return cv2.resize(
        rng.normal(size=(12, 12)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )


def _series(count: int, levels: list[NDArray[np.float32]], rng: np.random.Generator) -> NDArray[np.uint8]:
    own = _smooth(rng)
    shown = []
    for height in np.linspace(0, 2, count) if count > 1 else [1.0]:
        below = min(int(height), 1)
        level = (1 - height + below) * levels[below] + (height - below) * levels[below + 1]
        shown.append(128 + 30 * own + 15 * level + rng.normal(0, 4, (SIDE, SIDE)))
    return np.clip(shown, 0, 255).astype(np.uint8)


def material_of(grey: NDArray[np.uint8], **columns: object) -> Material:
    """A material of these pictures, with files numbered in order, everything else blank unless given."""
    blank = {"label": "covid", "patient": "", "split": "", "source": "made"}
    manifest = pd.DataFrame({"path": [f"/made/scan ({number}).png" for number in range(len(grey))]})
    nowhere = np.zeros(grey.shape, dtype=bool)
    return Material(
        "made", manifest.assign(**{**blank, **columns}), SmallPictures(grey, nowhere, nowhere, ())
    )


def guessable(grey: NDArray[np.uint8], **columns: object) -> Material:
    """Like :func:`material_of`, with the pictures' near-duplicates, even if the files do not exist."""
    material = material_of(grey, **columns)
    material.duplicates = similar_pictures(grey)
    return material
