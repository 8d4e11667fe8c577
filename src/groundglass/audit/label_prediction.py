"""Measure how well features predict the label: cross-validated by group, and on the manifest's parts."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold

from groundglass.audit.check import NotApplicable, Severity
from groundglass.audit.material import Material
from groundglass.audit.measures import auc, severity_of
from groundglass.bundle.evaluation import Estimate, format_estimate
from groundglass.evaluation.predictions import unit_codes

Floats = NDArray[np.floating]
FOLDS = 5
TREES = 200
LEAF = 3
"""Minimum slices per leaf: smooths the scores, so that ties do not lower the AUC."""
FEW_FEATURES = 40
"""With fewer features than this, starting threads takes longer than growing the trees."""
HEADER = ("From", "AUC, cross-validated", "AUC on the test set")


@dataclass(frozen=True)
class LabelPrediction:
    """How well features predict the label.

    Attributes
    ----------
    cross_validated
        AUC on all slices, each scored by trees grown without its group.
    held_out
        AUC on the test set of trees grown on the training set; None if the manifest has no such parts.
    scores
        Out-of-fold scores, float64, shape (slices,).
    folds
        Number of folds.
    """

    cross_validated: Estimate
    held_out: Estimate | None
    scores: NDArray[np.float64]
    folds: int

    @property
    def severity(self) -> Severity | None:
        """The severity, given that these features should not predict the label."""
        return severity_of(self.cross_validated)

    @property
    def verdict(self) -> str:
        """The middle of a sentence that begins with "The label" and continues with "from"."""
        return "can be predicted" if self.severity else "cannot reliably be predicted"

    @property
    def measure(self) -> str:
        """Name of ``cross_validated``."""
        return f"AUC, {self.folds}-fold"

    def __str__(self) -> str:
        return format_estimate(self.cross_validated)

    def row(self, name: str) -> tuple[str, str, str]:
        """A row under HEADER."""
        return name, str(self), "no such part" if self.held_out is None else format_estimate(self.held_out)


def predict_label(
    features: Floats,
    truth: NDArray[np.bool_],
    units: NDArray[np.intp],
    parts: NDArray[np.str_] | None = None,
    seed: int = 0,
    trees: int = TREES,
) -> LabelPrediction:
    """Predict the label from features with extremely randomised trees (Geurts et al. 2006), which need no tuning.

    Parameters
    ----------
    features
        Shape (slices, features), finite.
    truth
        bool, shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,); no group is in two folds.
    parts
        ``train``, ``val``, ``test`` or blank for each slice; None leaves ``held_out`` out.
    seed
        Seed of folds, trees and bootstrap.
    trees
        Trees per fold; a feature or two need fewer.

    Raises
    ------
    NotApplicable
        If a class has fewer than two groups.
    """
    folds = fold_count(truth, units)
    scores = np.zeros(len(truth))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # about unequal classes: keeping groups together comes first
        for fitted, scored in splitter.split(features, truth, units):
            scores[scored] = _scores(features, truth, fitted, scored, seed, trees)
    held_out = None
    if parts is not None and all(len(np.unique(truth[parts == part])) == 2 for part in ("train", "test")):
        fitted, scored = (np.flatnonzero(parts == part) for part in ("train", "test"))
        held_out = auc(
            truth[scored], _scores(features, truth, fitted, scored, seed, trees), units[scored], seed
        )
    return LabelPrediction(auc(truth, scores, units, seed), held_out, scores, folds)


def predict_from(
    material: Material, features: Floats, where: NDArray[np.bool_] | None = None, trees: int | None = None
) -> LabelPrediction:
    """Predict the label of a material's slices, or of the slices ``where``, from their features."""
    truth, units, parts = material.truth, material.units, material.parts
    if where is not None:
        truth, units, parts = truth[where], unit_codes(units[where].astype(str)), parts[where]
    return predict_label(features, truth, units, parts, material.seed, trees or TREES)


def fold_count(truth: NDArray[np.bool_], units: NDArray[np.intp]) -> int:
    """Number of folds of whole groups with both classes; NotApplicable if a class has fewer than two groups."""
    folds = min(FOLDS, *(len(np.unique(units[truth == label])) for label in (True, False)))
    if folds < 2:
        raise NotApplicable("A class has fewer than two groups, so nothing can be cross-validated.")
    return folds


def _scores(
    features: Floats,
    truth: NDArray[np.bool_],
    fitted: NDArray[np.intp],
    scored: NDArray[np.intp],
    seed: int,
    trees: int,
) -> NDArray[np.float64]:
    """Share of trees, grown on some slices, that vote for COVID-19 on other slices."""
    if len(np.unique(truth[fitted])) < 2:
        return np.full(len(scored), float(truth[fitted][0]))
    jobs = 1 if features.shape[1] < FEW_FEATURES else -1
    forest = ExtraTreesClassifier(
        trees, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed, n_jobs=jobs
    )
    forest.fit(features[fitted], truth[fitted])
    # Threads would add up the trees in any order, and rounding would break ties differently each time.
    forest.n_jobs = 1
    return np.asarray(forest.predict_proba(features[scored])[:, 1], dtype=np.float64)
