"""How well a label can be told from features, honestly: groups kept together, and by the manifest's own parts."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold

from groundglass.audit.check import NotApplicable
from groundglass.audit.measure.auc import auc
from groundglass.evaluate.evaluation import Estimate

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
