"""How many slices the groups have, what the groups are, and how many equal ones they are worth."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.data.splits import groups, named_groups

Kind = Literal["patient", "guessed block", "slice", "group"]


def kind_of_groups(manifest: pd.DataFrame) -> Kind:
    """What the groups of a manifest are; ``group`` where they are not all of one kind."""
    named, patients = named_groups(manifest), manifest["patient"]
    known = (patients != "") & (named == patients)
    alone = groups(manifest) == manifest["path"]
    kinds: list[tuple[Kind, pd.Series[bool]]] = [
        ("patient", known),
        ("slice", alone),
        ("guessed block", (named == "") & ~alone),
    ]
    return next((kind for kind, of in kinds if of.all()), "group")


def sizes(units: NDArray[np.intp]) -> NDArray[np.intp]:
    """Slices of each group that has any, the largest first, shape (groups,)."""
    return np.sort(np.unique(units, return_counts=True)[1])[::-1]


def effective_number(sizes: NDArray[np.intp]) -> float:
    """How many groups of equal size would be worth as much, if the slices of a group all said the same.

    ``(sum n)**2 / sum n**2``, Kish 1965, Survey sampling. It is the number of groups where all are equal.
    """
    return float(sizes.sum() ** 2 / (sizes**2).sum())
