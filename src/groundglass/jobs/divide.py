"""Choosing and dividing the scans of a dataset as a recipe says."""

import numpy as np
import pandas as pd

from groundglass.data.splits import split
from groundglass.errors import GroundglassError
from groundglass.train.parts import Data


def divide(manifest: pd.DataFrame, data: Data, seed: int) -> pd.DataFrame:
    """The scans of a manifest that take part, with their split filled.

    Parameters
    ----------
    manifest
        All scans.
    data
        The recipe's data part.
    seed
        The recipe's seed, for where the data part has none of its own.

    Raises
    ------
    GroundglassError
        If a class has no scans or fewer than asked for, or they cannot be divided so.
    """
    seed = seed if data.seed is None else data.seed
    if data.classes is not None:
        manifest = _of_classes(manifest, data.classes)
    if data.per_class is not None:
        manifest = _drawn(manifest, data, data.per_class, seed)
    return split(manifest, data.split, seed=seed, fractions=data.fractions, folds=data.folds, fold=data.fold)


def _of_classes(manifest: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    absent = [name for name in classes if not (manifest["label"] == name).any()]
    if absent:
        there = ", ".join(sorted(set(manifest["label"])))
        raise GroundglassError(
            f"data.classes: no scan is labelled {', '.join(absent)}; the labels here are {there}"
        )
    return manifest[manifest["label"].isin(classes)].reset_index(drop=True)


def _drawn(manifest: pd.DataFrame, data: Data, count: int, seed: int) -> pd.DataFrame:
    """``count`` scans of each class, drawn by the seed whatever the order of the rows."""
    classes = data.classes_of(manifest["label"])
    generator = np.random.default_rng(seed)
    kept: set[str] = set()
    for name, rows in manifest.groupby(classes, sort=True):
        if len(rows) < count:
            raise GroundglassError(f"data.per_class {count}: there are only {len(rows)} scans of {name}")
        kept.update(generator.choice(sorted(rows["path"]), count, replace=False))
    return manifest[manifest["path"].isin(kept)].reset_index(drop=True)
