"""Choose among logistic models with few features by cross-validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS, REPEATS = 5, 10
CERTAIN = 1e-9
"""Probabilities are kept this far from 0 and 1, so that the log loss stays finite."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CandidateModel:
    """Performance of a logistic model on units that it was not fitted on, in repeated cross-validation.

    Attributes
    ----------
    name
        Name of the model.
    features
        The features that it uses.
    loss, loss_error
        Mean log loss, and its standard error over units.
    auc
        Mean ROC AUC over the repeats.
    out_of_fold
        Each unit's mean probability over the repeats, by models fitted on other units; shape (units,).
    """

    name: str
    features: tuple[str, ...]
    loss: float
    loss_error: float
    auc: float
    out_of_fold: Floats


def evaluate_candidates(
    table: pd.DataFrame, positive: Bools, models: Mapping[str, tuple[str, ...]], seed: int = 0
) -> list[CandidateModel]:
    """Evaluate logistic models by repeated cross-validation over units.

    Parameters
    ----------
    table
        Rows are units, columns features.
    positive
        Each unit's label, shape (units,); at least :data:`FOLDS` units of each class.
    models
        The features of each model, by its name.
    seed
        Draws the folds.
    """
    return [_judged(name, features, table, positive, seed) for name, features in models.items()]


def simplest_good(candidates: Sequence[CandidateModel]) -> CandidateModel:
    """The first candidate, in order of complexity, within one standard error of the lowest log loss.

    This is the one-standard-error rule [1]_: more features must improve the model to be chosen.

    References
    ----------
    .. [1] L. Breiman, J. Friedman, R. Olshen, C. Stone: Classification and Regression Trees, 1984, section 3.4.3.
    """
    best = min(candidates, key=lambda one: one.loss)
    return next(one for one in candidates if one.loss <= best.loss + best.loss_error)


def fit_logistic(values: Floats, positive: Bools) -> tuple[Floats, float]:
    """Weights of the unscaled features, shape (features,), and the intercept, fitted on all units.

    Parameters
    ----------
    values
        float64, shape (units, features).
    positive
        Each unit's label, shape (units,).
    """
    scaler, logistic = (step for _, step in _model().fit(values, positive).steps)
    weights = logistic.coef_[0] / scaler.scale_
    return weights, float(logistic.intercept_[0] - (weights * scaler.mean_).sum())


def _model() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression())


def _judged(
    name: str, features: tuple[str, ...], table: pd.DataFrame, positive: Bools, seed: int
) -> CandidateModel:
    values = table[list(features)].to_numpy()
    repeats = np.stack(
        [
            cross_val_predict(_model(), values, positive, cv=folds, method="predict_proba")[:, 1]
            for folds in (StratifiedKFold(FOLDS, shuffle=True, random_state=seed + n) for n in range(REPEATS))
        ]
    )
    kept = repeats.clip(CERTAIN, 1 - CERTAIN)
    losses = -np.where(positive, np.log(kept), np.log1p(-kept)).mean(axis=0)
    return CandidateModel(
        name,
        features,
        loss=float(losses.mean()),
        loss_error=float(losses.std(ddof=1) / np.sqrt(len(losses))),
        auc=float(np.mean([roc_auc_score(positive, repeat) for repeat in repeats])),
        out_of_fold=repeats.mean(axis=0),
    )
