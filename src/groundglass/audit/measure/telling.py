"""What checks say of a label that is told from features: how much it matters, table rows, the surest slices."""

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Result
from groundglass.audit.material import Material
from groundglass.audit.measure.auc import severity_of
from groundglass.audit.measure.regions import Features
from groundglass.audit.measure.told import Told, told
from groundglass.evaluate.summary import format_estimate

HEADER = ("From", "AUC, cross-validated", "AUC on the test part")
EACH = 4
"""Slices of each class that are shown."""


def tell_at_most_warning(material: Material, features: Features, name: str, meaning: str) -> Result:
    """Tell the label from features that may hold some of the disease itself, so that no more than a warning is due.

    Parameters
    ----------
    material
        The scans.
    features
        Shape (slices, features), finite.
    name
        What they are, as in "From NAME the label is told".
    meaning
        What it means where the label is told, a full sentence.
    """
    tale = told(features, material.truth, material.units, material.parts, material.seed)
    found = severity_of(tale.crossed) is not None
    shown = surest(tale.scores, material.truth, material.units, material.paths) if found else ()
    verdict = "is told" if found else "is not surely told"
    message = f"From {name} the label {verdict}: AUC {format_estimate(tale.crossed)}."
    return Result(
        "warning" if found else None,
        f"{message} {meaning}" if found else message,
        tale.crossed,
        measure_name(tale),
        files=tuple(file for (file,) in shown),
        side_by_side=shown,
        header=HEADER,
        rows=(row(name, tale),),
    )


def measure_name(told: Told) -> str:
    """What the cross-validated figure is."""
    return f"AUC, {told.folds}-fold"


def row(name: str, told: Told) -> tuple[str, str, str]:
    """A row under HEADER."""
    held_out = "no such part" if told.held_out is None else format_estimate(told.held_out)
    return name, format_estimate(told.crossed), held_out


def surest(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    units: NDArray[np.intp],
    paths: NDArray[np.object_],
    each: int = EACH,
) -> tuple[tuple[str, ...], ...]:
    """The slices that are told most surely and rightly, one of a group.

    Parameters
    ----------
    scores
        Share of trees that say COVID-19, in [0, 1], shape (slices,).
    truth
        bool, shape (slices,).
    units
        The group of each slice, shape (slices,).
    paths
        The slices' files, shape (slices,).
    each
        How many of each class.

    Returns
    -------
    Sets of one file each, the two classes in turn, COVID-19 first, and in each the surest first.
    """
    positive = _surest(scores, truth, units, each)
    negative = _surest(1 - scores, ~truth, units, each)
    longest = max(len(positive), len(negative))
    in_turn = [
        place for rank in range(longest) for side in (positive, negative) for place in side[rank : rank + 1]
    ]
    return tuple((str(paths[place]),) for place in in_turn)


def _surest(
    sureness: NDArray[np.float64], of_class: NDArray[np.bool_], units: NDArray[np.intp], each: int
) -> list[int]:
    right = np.flatnonzero(of_class & (sureness > 0.5))
    ranked = right[np.argsort(-sureness[right], kind="stable")]
    _, first = np.unique(units[ranked], return_index=True)
    return [int(place) for place in ranked[np.sort(first)][:each]]
