"""The slices that have most of something, to be shown."""

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.material import Material

SHOWN = 12


def most(material: Material, amounts: NDArray[np.number]) -> tuple[tuple[str, ...], ...]:
    """Choose the slices with the greatest amounts over 0, one of a group and no more than SHOWN.

    Parameters
    ----------
    material
        The scans.
    amounts
        Of each, at least 0, shape (slices,).

    Returns
    -------
    Sets of one file each, the greatest amount first.
    """
    ranked = np.argsort(-amounts, kind="stable")[: np.count_nonzero(amounts)]
    _, first = np.unique(material.units[ranked], return_index=True)
    return tuple((str(material.paths[place]),) for place in ranked[np.sort(first)][:SHOWN])
