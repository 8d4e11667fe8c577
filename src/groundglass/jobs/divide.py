"""The manifest of a recipe: its dataset, divided as it says."""

import pandas as pd

from groundglass.data.datasets import load_dataset
from groundglass.data.splits import split
from groundglass.train.recipe import Recipe


def divided_manifest(recipe: Recipe, dataset: str | None = None) -> pd.DataFrame:
    """The recipe's dataset, or the same set under another name or path, with its split filled.

    Raises
    ------
    GroundglassError
        If the dataset is not here, or cannot be divided so.
    """
    data = recipe.data
    manifest = load_dataset(dataset or data.dataset)
    return split(
        manifest, data.split, seed=recipe.seed, fractions=data.fractions, folds=data.folds, fold=data.fold
    )
