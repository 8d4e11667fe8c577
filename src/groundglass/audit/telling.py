"""How well a label can be told from features, honestly: groups kept together, and by the manifest's own parts."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold

from groundglass.audit.check import NotApplicable, Result
from groundglass.audit.material import Material
from groundglass.audit.measures import auc, severity_of
from groundglass.audit.regions import Features
from groundglass.evaluate.evaluation import Estimate, format_estimate

Floats = NDArray[np.floating]
FOLDS = 5
TREES = 200
LEAF = 3
"""Least slices in a leaf: smooths the scores, so that AUC is not lost to ties."""


@dataclass(frozen=True)
class Told:
    """How well a label is told.

    Attributes
    ----------
    crossed
        AUC of the scores that each slice gets from trees grown without its group, of all slices together.
    held_out
        AUC on the test part of trees grown on the training part; None where the manifest has no such parts.
    scores
        Out-of-fold scores, float64, shape (slices,).
    folds
        How many folds there were.
    """

    crossed: Estimate
    held_out: Estimate | None
    scores: NDArray[np.float64]
    folds: int


def told(
    features: Floats,
    truth: NDArray[np.bool_],
    units: NDArray[np.intp],
    parts: NDArray[np.str_] | None = None,
    seed: int = 0,
    trees: int = TREES,
) -> Told:
    """Tell the label from features with extremely randomised trees (Geurts et al. 2006), which need no tuning.

    Parameters
    ----------
    features
        Shape (slices, features), finite.
    truth
        bool, shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,); no group lies in two folds.
    parts
        ``train``, ``val``, ``test`` or blank of each slice; None leaves ``held_out`` out.
    seed
        Of folds, trees and bootstrap.
    trees
        How many are grown for each fold; fewer are enough for a feature or two.

    Raises
    ------
    NotApplicable
        If a class has fewer than two groups.
    """
    folds = min(FOLDS, *(len(np.unique(units[truth == label])) for label in (True, False)))
    if folds < 2:
        raise NotApplicable("A class has fewer than two groups: nothing can be cross-validated.")
    scores = np.zeros(len(truth))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # folds of unequal classes: the groups come first
        for fitted, scored in splitter.split(features, truth, units):
            scores[scored] = _scores(features[fitted], truth[fitted], features[scored], seed, trees)
    held_out = _held_out(features, truth, units, parts, seed, trees)
    return Told(auc(truth, scores, units, seed), held_out, scores, folds)


def _held_out(
    features: Floats,
    truth: NDArray[np.bool_],
    units: NDArray[np.intp],
    parts: NDArray[np.str_] | None,
    seed: int,
    trees: int,
) -> Estimate | None:
    if parts is None:
        return None
    fitted, scored = parts == "train", parts == "test"
    if any(len(np.unique(truth[part])) < 2 for part in (fitted, scored)):
        return None
    scores = _scores(features[fitted], truth[fitted], features[scored], seed, trees)
    return auc(truth[scored], scores, np.unique(units[scored], return_inverse=True)[1], seed)


def _scores(
    features: Floats, truth: NDArray[np.bool_], scored: Floats, seed: int, trees: int
) -> NDArray[np.float64]:
    if len(np.unique(truth)) < 2:
        return np.full(len(scored), float(truth[0]))
    forest = ExtraTreesClassifier(
        trees, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed, n_jobs=-1
    )
    forest.fit(features, truth)
    # Threads add up the trees in any order, and rounding would then break ties in another way each time.
    forest.n_jobs = 1
    return np.asarray(forest.predict_proba(scored)[:, 1], dtype=np.float64)


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
