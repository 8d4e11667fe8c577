"""Classifiers of deep features, with parameters chosen by cross-validation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from groundglass.errors import GroundglassError
from groundglass.labels import POSITIVE
from groundglass.recipe.tasks import ClassifierName

CLASSIFIER = "classifier"
"""The last step of every pipeline."""
Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


@dataclass(frozen=True)
class _Kind:
    """How to create a classifier from a seed, and the parameter values to try; simpler values come first."""

    make: Callable[[int], ClassifierMixin]
    grid: dict[str, tuple[Any, ...]]
    scaled: bool = True


# SVMs answer by their decision function, which the temperature calibrates like any logit, not by Platt's
# probabilities, which scikit-learn deprecates. Neighbours have equal weights: skl2onnx loses weights by
# distance (https://github.com/onnx/sklearn-onnx/pull/1212). A tree needs no scaling, and without it the graph
# compares exactly the same numbers as scikit-learn.
_KINDS: dict[ClassifierName, _Kind] = {
    "svm-rbf": _Kind(
        lambda seed: SVC(kernel="rbf"),
        {"C": (0.1, 1.0, 10.0, 100.0), "gamma": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)},
    ),
    "svm-linear": _Kind(lambda seed: SVC(kernel="linear"), {"C": (1e-4, 1e-3, 1e-2, 0.1, 1.0)}),
    "logistic": _Kind(
        lambda seed: LogisticRegression(max_iter=10_000), {"C": (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)}
    ),
    "knn": _Kind(
        lambda seed: KNeighborsClassifier(),
        {"n_neighbors": (25, 15, 9, 5, 3, 1), "metric": ("euclidean", "cosine")},
    ),
    "forest": _Kind(
        lambda seed: RandomForestClassifier(n_estimators=300, random_state=seed),
        {"min_samples_leaf": (5, 3, 1), "max_features": ("sqrt", 0.1)},
        scaled=False,
    ),
}


@dataclass(frozen=True)
class Tuned:
    """A classifier with the best parameters in cross-validation, fitted on the whole training set.

    Attributes
    ----------
    name
        Its name in a recipe.
    pipeline
        The fitted scikit-learn pipeline; its classes are 0 and 1, 1 for COVID-19.
    parameters
        The chosen parameters.
    cv_auc, cv_auc_std
        Mean and standard deviation over the folds of the area under the ROC curve.
    slices
        Number of training slices.
    """

    name: ClassifierName
    pipeline: Pipeline
    parameters: dict[str, float | int | str]
    cv_auc: float
    cv_auc_std: float
    slices: int

    @property
    def decides(self) -> bool:
        """Whether it answers with a decision function rather than a share of neighbours or trees."""
        return hasattr(self.pipeline, "decision_function")

    @property
    def least_share(self) -> float:
        """Shares of neighbours or trees are clipped to this and 1 minus this, since 0 and 1 have no logit."""
        return 1 / (2 * self.slices)

    @property
    def described(self) -> str:
        """The parameters in words."""
        shown = (
            f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}"
            for name, value in self.parameters.items()
        )
        return ", ".join(shown)


def tune(
    name: ClassifierName,
    features: NDArray[np.float32],
    truth: NDArray[np.bool_],
    groups: ArrayLike,
    folds: int,
    seed: int,
) -> Tuned:
    """Choose a classifier's parameters by cross-validation, and fit it on all slices.

    Parameters
    ----------
    name
        The classifier.
    features
        Shape (slices, features).
    truth
        Whether a slice is COVID-19, shape (slices,).
    groups
        The patient of each slice, shape (slices,).
    folds
        Number of folds; see :func:`grouped_folds`.
    seed
        Seed of the folds and of the forest.

    Raises
    ------
    GroundglassError
        As :func:`grouped_folds` does.
    """
    kind = _KINDS[name]
    divided = grouped_folds(truth, groups, folds, seed)
    scaling = [("scaler", StandardScaler())] if kind.scaled else []
    pipeline = Pipeline([*scaling, (CLASSIFIER, kind.make(seed))])
    grid = _fitting(kind.grid, min(len(train) for train, _ in divided))
    search = GridSearchCV(
        pipeline,
        {f"{CLASSIFIER}__{key}": values for key, values in grid.items()},
        scoring="roc_auc",
        cv=divided,
        error_score="raise",
    )
    search.fit(features, truth.astype(np.int64))
    return Tuned(
        name=name,
        pipeline=search.best_estimator_,
        parameters={key.removeprefix(f"{CLASSIFIER}__"): value for key, value in search.best_params_.items()},
        cv_auc=float(search.best_score_),
        cv_auc_std=float(search.cv_results_["std_test_score"][search.best_index_]),
        slices=len(features),
    )


def _fitting(grid: dict[str, tuple[Any, ...]], slices: int) -> dict[str, tuple[Any, ...]]:
    """The grid without numbers of neighbours that exceed the number of slices."""
    if "n_neighbors" not in grid:
        return grid
    return {**grid, "n_neighbors": tuple(number for number in grid["n_neighbors"] if number <= slices)}


def grouped_folds(truth: NDArray[np.bool_], groups: ArrayLike, folds: int, seed: int) -> Folds:
    """Divide slices into folds that keep groups together, with class shares as equal as possible.

    Parameters
    ----------
    truth
        Whether a slice is COVID-19, shape (slices,).
    groups
        The patient of each slice, shape (slices,).
    folds
        Number of folds.
    seed
        Seed of the order in which groups are assigned.

    Returns
    -------
    For each fold, the indices of the slices to fit on and of those to evaluate on.

    Raises
    ------
    GroundglassError
        If a class has fewer groups than there are folds, or a fold would lack one of the classes.
    """
    units = np.asarray(groups)
    for label, members in ((POSITIVE, truth), ("other", ~truth)):
        found = len(np.unique(units[members]))
        if found < folds:
            raise GroundglassError(
                f"folds {folds}: the {label} slices of the training set come from {found} patients, but every "
                "fold needs one; set fewer folds, or train on more patients"
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    divided = list(splitter.split(truth, truth, units))
    if any(truth[judged].all() or not truth[judged].any() for _, judged in divided):
        raise GroundglassError(
            f"folds {folds}: the patients of the training set cannot be divided so that every fold holds "
            f"'{POSITIVE}' and other slices; set fewer folds"
        )
    return divided


def classifier_logits(tuned: Tuned, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits of slices by scikit-learn.

    The decision function; or the logit of the share of neighbours or trees, which is kept half a slice away
    from 0 and 1.

    Parameters
    ----------
    tuned
        The classifier.
    features
        Shape (slices, features).

    Returns
    -------
    Shape (slices,).
    """
    if tuned.decides:
        return np.asarray(tuned.pipeline.decision_function(features), dtype=np.float64)
    shares = np.asarray(tuned.pipeline.predict_proba(features), dtype=np.float64)
    others, covid = np.log(np.clip(shares, tuned.least_share, 1 - tuned.least_share)).T
    return covid - others
