import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from groundglass.errors import GroundglassError
from groundglass.train import classifiers
from groundglass.train.classifiers import Tuned, classifier_logits, grouped_folds, tune

Data = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.str_]]


def slices(patients: int, each: int, seed: int = 0) -> Data:
    """Features of which the first is informative about the label and the other four are not."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(patients) % 2 == 0, each)
    features = rng.normal(size=(patients * each, 5)).astype(np.float32)
    features[:, 0] += truth
    return features, truth, np.repeat([f"patient {number}" for number in range(patients)], each)


def test_folds_keep_patients_together_and_evaluate_every_slice_once() -> None:
    _, truth, groups = slices(23, 3)
    folds = grouped_folds(truth, groups, 4, seed=1)
    assert len(folds) == 4
    judged = np.concatenate([judged for _, judged in folds])
    assert sorted(judged) == list(range(69))
    for train, held_out in folds:
        assert not set(groups[train]) & set(groups[held_out])
        assert sorted([*train, *held_out]) == list(range(69))
        assert 0 < truth[held_out].mean() < 1


def test_folds_are_drawn_from_the_seed() -> None:
    _, truth, groups = slices(24, 2)
    first, again, other = (grouped_folds(truth, groups, 3, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


def test_too_few_patients_of_a_class_for_the_folds_are_counted() -> None:
    _, truth, groups = slices(6, 5)
    with pytest.raises(GroundglassError, match=r"folds 4: the covid slices .* come from 3 patients"):
        grouped_folds(truth, groups, 4, seed=0)
    with pytest.raises(GroundglassError, match=r"folds 4: the other slices .* come from 2 patients"):
        grouped_folds(truth | (groups == "patient 1"), groups, 4, seed=0)


def test_a_fold_without_one_of_the_classes_is_refused() -> None:
    counts = [(3, 3), (1, 0), (0, 2), (1, 0), (3, 4)]  # covid and other slices of each patient
    truth = np.concatenate([[True] * covid + [False] * other for covid, other in counts]).astype(bool)
    groups = np.repeat(np.arange(5), [covid + other for covid, other in counts])
    with pytest.raises(GroundglassError, match="set fewer folds"):
        grouped_folds(truth, groups, 3, seed=0)


def test_a_patient_who_is_known_by_heart_does_not_help() -> None:
    # Each patient looks different from all others, and appearance is unrelated to the label.
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.random(40) < 0.5, 5)
    groups = np.repeat(np.arange(40), 5)
    looks = rng.normal(size=(40, 8))[groups] + 0.01 * rng.normal(size=(200, 8))
    tuned = tune("knn", looks.astype(np.float32), truth, groups, 5, seed=0)
    assert tuned.cv_auc < 0.75
    torn = GridSearchCV(
        tuned.pipeline, {}, scoring="roc_auc", cv=StratifiedKFold(5, shuffle=True, random_state=0)
    )
    assert torn.fit(looks, truth).best_score_ > 0.95


def test_the_parameters_with_the_best_mean_over_folds_are_chosen() -> None:
    features, truth, groups = slices(30, 2)
    tuned = tune("logistic", features, truth, groups, 3, seed=5)
    scores = {}
    for strength in (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0):
        folds = []
        for train, judged in grouped_folds(truth, groups, 3, seed=5):
            scaler = StandardScaler().fit(features[train])
            model = LogisticRegression(C=strength).fit(scaler.transform(features[train]), truth[train])
            answers = model.predict_proba(scaler.transform(features[judged]))[:, 1]
            folds.append(roc_auc_score(truth[judged], answers))
        scores[strength] = (np.mean(folds), np.std(folds))
    best = max(scores, key=lambda strength: scores[strength][0])
    assert tuned.parameters == {"C": best}
    assert tuned.described == f"C {best:g}"
    assert (tuned.cv_auc, tuned.cv_auc_std) == pytest.approx(scores[best], abs=1e-9)
    whole = LogisticRegression(C=best).fit(StandardScaler().fit_transform(features), truth)
    wanted = whole.decision_function(StandardScaler().fit_transform(features))
    np.testing.assert_allclose(classifier_logits(tuned, features), wanted, atol=1e-3)


def test_the_seed_makes_the_forest(monkeypatch: pytest.MonkeyPatch) -> None:
    one_try = dataclasses.replace(classifiers._KINDS["forest"], grid={})
    monkeypatch.setitem(classifiers._KINDS, "forest", one_try)
    features, truth, groups = slices(16, 1)
    forest = tune("forest", features, truth, groups, 2, seed=7)
    again = clone(forest.pipeline).fit(features, truth.astype(int))
    np.testing.assert_array_equal(again.predict_proba(features), forest.pipeline.predict_proba(features))
    other = clone(forest.pipeline).set_params(classifier__random_state=8).fit(features, truth.astype(int))
    assert not np.array_equal(other.predict_proba(features), forest.pipeline.predict_proba(features))


def test_no_more_neighbours_are_tried_than_a_fold_has_slices() -> None:
    features, truth, groups = slices(12, 1)
    assert tune("knn", features, truth, groups, 2, seed=0).parameters["n_neighbors"] <= 6


def test_unanimous_neighbours_are_half_a_slice_from_certain() -> None:
    features, truth, groups = slices(20, 2)
    tuned = tune("knn", features + 100 * truth[:, None].astype(np.float32), truth, groups, 2, seed=0)
    logits = classifier_logits(tuned, features + 100 * truth[:, None].astype(np.float32))
    # 40 slices: 1 - 1 / 80 has the odds 79.
    np.testing.assert_allclose(logits, np.where(truth, np.log(79), -np.log(79)), rtol=1e-12)


@pytest.mark.parametrize("name", ["svm-rbf", "svm-linear"])
def test_an_svm_answers_by_its_distance_from_the_border(name: str) -> None:
    features, truth, groups = slices(20, 2)
    tuned: Tuned = tune(name, features, truth, groups, 2, seed=0)  # type: ignore[arg-type]
    assert tuned.decides
    logits = classifier_logits(tuned, features)
    np.testing.assert_allclose(logits, tuned.pipeline.decision_function(features))
    assert roc_auc_score(truth, logits) > 0.7
