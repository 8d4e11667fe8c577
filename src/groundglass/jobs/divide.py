"""Dividing a dataset as a recipe says."""

import pandas as pd

from groundglass.data.splits import split
from groundglass.train.parts import CommonRecipe


def divide(manifest: pd.DataFrame, recipe: CommonRecipe) -> pd.DataFrame:
    """The manifest with its split filled as the recipe says.

    Raises
    ------
    GroundglassError
        If it cannot be divided so.
    """
    data = recipe.data
    return split(
        manifest, data.split, seed=recipe.seed, fractions=data.fractions, folds=data.folds, fold=data.fold
    )
