import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from groundglass.bundle.evaluation import METRICS, Evaluation
from groundglass.detect.abstention import Abstention
from groundglass.detect.findings import SliceFinding
from groundglass.detect.patient import conclude
from groundglass.detect.patient_rule import PatientRule
from groundglass.errors import GroundglassError
from groundglass.evaluation import calibration
from groundglass.evaluation.bootstrap import Ranking, WeightedMetrics
from groundglass.evaluation.metrics import by_patient, evaluate, evaluate_patients
from groundglass.evaluation.predictions import read_predictions, write_predictions
from groundglass.labels import LUNG_AREAS, NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN


def by_sklearn(truth, probability, called, weights=None):
    """Our metrics as scikit-learn computes them, including weights of 0."""
    given_weights = {"sample_weight": weights}
    return {
        "accuracy": sk.accuracy_score(truth, called, **given_weights),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, called, **given_weights),
        "sensitivity": sk.recall_score(truth, called, **given_weights),
        "specificity": sk.recall_score(truth, called, pos_label=False, **given_weights),
        "ppv": sk.precision_score(truth, called, **given_weights),
        "npv": sk.precision_score(truth, called, pos_label=False, **given_weights),
        "f1": sk.f1_score(truth, called, **given_weights),
        "roc_auc": sk.roc_auc_score(truth, probability, **given_weights),
        "pr_auc": sk.average_precision_score(truth, probability, **given_weights),
        "brier": sk.brier_score_loss(truth, probability, **given_weights),
    }


def test_hand_worked_confusion(table):
    # 3 true positives, 1 false positive, 2 false negatives, 4 true negatives
    truth = [True] * 5 + [False] * 5
    frame = table(truth, [0.9, 0.8, 0.7, 0.2, 0.1, 0.6, 0.4, 0.3, 0.2, 0.1])
    result = evaluate(frame, resamples=50)
    values = {name: estimate.value for name, estimate in result.metrics.items()}
    assert result.confusion.model_dump() == {
        "true_positive": 3,
        "false_positive": 1,
        "false_negative": 2,
        "true_negative": 4,
    }
    assert (result.count, result.positives, result.groups, result.resampled_by) == (10, 5, 10, "patient")
    # Of 25 pairs, 0.9, 0.8 and 0.7 win 5 each, 0.2 wins 1 and ties 1, 0.1 ties 1.
    expected = {
        "accuracy": 7 / 10,
        "balanced_accuracy": 7 / 10,
        "sensitivity": 3 / 5,
        "specificity": 4 / 5,
        "ppv": 3 / 4,
        "npv": 4 / 6,
        "f1": 6 / 9,
        "roc_auc": 17 / 25,
        "pr_auc": (1 + 1 + 1 + 4 / 8 + 5 / 10) / 5,
        "brier": (0.01 + 0.04 + 0.09 + 0.64 + 0.81 + 0.36 + 0.16 + 0.09 + 0.04 + 0.01) / 10,
        # By bin, the sums of probability minus truth: 0.1: 0.2 - 1, 0.2: 0.4 - 1, 0.3: 0.3, 0.4: 0.4, 0.6:
        # 0.6, 0.7: -0.3, 0.8: -0.2, 0.9: -0.1.
        "ece": (0.8 + 0.6 + 0.3 + 0.4 + 0.6 + 0.3 + 0.2 + 0.1) / 10,
        "coverage": 1.0,
    }
    assert values == pytest.approx(expected)
    assert list(values) == list(METRICS)


@pytest.mark.parametrize("seed", range(3))
def test_every_metric_is_that_of_scikit_learn_for_any_weights(random_table, seed):
    frame = random_table(120, 40, seed)
    truth = (frame["label"] == POSITIVE).to_numpy()
    probability = frame["probability"].to_numpy()
    called = (frame["verdict"] == POSITIVE).to_numpy()
    computed = WeightedMetrics(truth, probability, frame["verdict"].to_numpy(dtype=object))
    weights = np.random.default_rng(seed).integers(0, 4, size=(6, 120)).astype(float)
    weights[0] = 1
    ours = computed(weights)
    for row, weighting in enumerate(weights):
        of_row = {name: value[row] for name, value in ours.items()}
        expected = by_sklearn(truth, probability, called, weighting)
        assert {name: of_row[name] for name in expected} == pytest.approx(expected)
        copied = np.repeat(np.arange(120), weighting.astype(int))
        assert of_row["ece"] == pytest.approx(calibration.ece(truth[copied], probability[copied]))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0]), st.integers(1, 3)),
        min_size=2,
        max_size=30,
    )
)
def test_weighted_areas_with_ties_are_those_of_scikit_learn(rows):
    truth, probability, weights = (np.array(column) for column in zip(*rows, strict=True))
    auc, precision = (area[0] for area in Ranking(truth, probability).areas(weights[None].astype(float)))
    if truth.all() or not truth.any():
        assert math.isnan(auc)
        assert math.isnan(precision)
    else:
        assert auc == pytest.approx(sk.roc_auc_score(truth, probability, sample_weight=weights))
        assert precision == pytest.approx(
            sk.average_precision_score(truth, probability, sample_weight=weights)
        )


def test_what_was_not_answered_is_left_out_of_verdicts_alone(table):
    frame = table(
        [True, True, False, False],
        [0.9, 0.6, 0.4, 0.1],
        verdict=[POSITIVE, UNCERTAIN, NOT_A_CHEST_CT, NEGATIVE],
    )
    result = evaluate(frame, resamples=50)
    assert result.metrics["coverage"].value == 0.5
    assert result.metrics["accuracy"].value == 1
    assert result.metrics["brier"].value == pytest.approx((0.01 + 0.16 + 0.16 + 0.01) / 4)
    assert result.confusion.true_positive + result.confusion.true_negative == 2
    assert (
        "1 uncertain and 1 not a chest CT of 4 slices: not counted in the figures that need a positive "
        "or negative verdict." in result.notes
    )


def test_one_class_leaves_metrics_undefined_with_a_note(table):
    result = evaluate(table([True] * 12, np.linspace(0.6, 0.9, 12)), resamples=50)
    undefined = {name for name, estimate in result.metrics.items() if estimate.value is None}
    assert undefined == {"balanced_accuracy", "specificity", "npv", "roc_auc", "pr_auc"}
    assert all(result.metrics[name].low is None for name in undefined)
    assert "ROC AUC is undefined: only one class." in result.notes
    assert "Specificity is undefined: nothing but COVID-19 answered." in result.notes
    assert "NaN" not in json.dumps(result.to_dict())


def test_nothing_answered_is_undefined_not_zero(table):
    result = evaluate(table([True, False], [0.6, 0.4], verdict=[UNCERTAIN, UNCERTAIN]), resamples=50)
    answered = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
    assert all(result.metrics[name].value is None for name in answered)
    assert result.metrics["coverage"].value == 0
    assert result.metrics["roc_auc"].value == 1


def test_metrics_that_resamples_often_leave_undefined_are_noted(table):
    # One positive of eight patients is absent from (7/8)^8 = 34% of the resamples.
    result = evaluate(table([True] + [False] * 7, np.linspace(0.9, 0.1, 8)), resamples=2000)
    (note,) = (note for note in result.notes if note.startswith("Sensitivity"))
    share = int(note.split("in ")[1].split("%")[0])
    assert share == pytest.approx(34, abs=4)


def test_an_evaluation_survives_json(random_table):
    result = evaluate(random_table(60, 20), resamples=50)
    assert Evaluation.model_validate(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result


def test_units_are_groups_then_patients_then_slices(table):
    truth, probability = [True, True, False, False], [0.9, 0.4, 0.6, 0.1]

    def result(patient, group):
        return evaluate(table(truth, probability, patient=patient, group=group), resamples=20)

    blocks = result([""] * 4, ["b1", "b1", "b2", "b2"])
    assert (blocks.resampled_by, blocks.groups) == ("group", 2)
    patients = result(["a", "a", "b", "c"], [""] * 4)
    assert (patients.resampled_by, patients.groups) == ("patient", 3)
    same = result(["a", "a", "b", "c"], ["a", "a", "b", "c"])
    assert (same.resampled_by, same.groups) == ("patient", 3)
    mixed = result(["a", "a", "", ""], ["", "", "b2", ""])
    assert (mixed.resampled_by, mixed.groups) == ("group", 3)
    assert any(note.startswith("No patient or group is named for 1 of 4 slices") for note in mixed.notes)
    slices = result([""] * 4, [""] * 4)
    assert (slices.resampled_by, slices.groups) == ("slice", 4)
    assert any("too narrow" in note for note in slices.notes)


def test_unlabelled_predictions_and_senseless_settings_are_refused(table):
    frame = table([True, False], [0.9, 0.1])
    with pytest.raises(GroundglassError, match="the label is missing"):
        evaluate(frame.assign(label=""))
    with pytest.raises(GroundglassError, match="confidence between 0 and 1"):
        evaluate(frame, confidence=95)
    with pytest.raises(GroundglassError, match="at least 1 resample"):
        evaluate(frame, resamples=0)


def test_patients_are_the_mean_of_their_slices(table):
    frame = table(
        [True, True, False, False, False, False],
        [0.9, 0.4, 0.2, 0.3, 0.7, 0.8],
        verdict=[POSITIVE, UNCERTAIN, NEGATIVE, NOT_A_CHEST_CT, NOT_A_CHEST_CT, POSITIVE],
        patient=["b", "b", "a", "a", "c", ""],
        group=["g1", "g1", "g2", "g2", "", ""],
    )
    patients = by_patient(frame, threshold=0.6).set_index("patient")
    assert patients.index.tolist() == ["b", "a", "c"]
    assert patients["probability"].tolist() == pytest.approx([0.65, 0.2, 0.7])
    assert patients["verdict"].tolist() == [POSITIVE, NEGATIVE, NOT_A_CHEST_CT]
    assert patients["label"].tolist() == [POSITIVE, "other", "other"]
    assert patients["group"].tolist() == ["g1", "g2", ""]
    assert patients["path"].tolist() == ["slice 0.png", "slice 2.png", "slice 4.png"]
    assert patients["slices"].tolist() == [2, 2, 1]
    assert not patients["mixed_labels"].any()
    result = evaluate_patients(frame, 0.6, resamples=20)
    assert (result.unit, result.count, result.positives) == ("patient", 3, 1)
    assert "No patient is named for 1 of 6 slices, which do not count here." in result.notes


RULE = PatientRule(
    aggregation="lesion share",
    weights={"lesion_share": 1.0},
    intercept=4.0,
    threshold=0.5,
    abstention=Abstention(covid_from=0.6, other_to=0.2, coverage=0.9, cases=9, groups=9),
)


def with_areas(frame, lungs, lesions):
    """Predictions with the same area in the right and the left lung."""
    areas = {name: lesions if "lesions" in name else lungs for name in LUNG_AREAS}
    return frame.assign(**areas)


def test_patients_are_answered_by_the_rule_that_answers_volumes(table):
    frame = with_areas(
        table([True] * 4 + [False] * 6, [0.1] * 10, patient=list("aaaa" + "bbbb" + "cc")),
        lungs=[1000, 1000, 1000, 50, 1000, 1000, 1000, 1000, 0, 0],
        lesions=[200, 100, 0, 50, 1, 0, 0, 0, 0, 0],
    )
    patients = by_patient(frame, 0.5, RULE).set_index("patient")
    slices = [
        SliceFinding(0.1, 0.1, number=number, lungs_px=(lungs, lungs), lesions_px=(lesions, lesions))
        for number, lungs, lesions in ((1, 1000, 200), (2, 1000, 100), (3, 1000, 0), (4, 50, 50))
    ]
    predicted = conclude(
        SimpleNamespace(name="stub", patient_rule=RULE, patient=RULE, settings={}), slices, None, None
    )
    assert patients.loc["a", "probability"] == predicted.probability == pytest.approx(0.846, abs=1e-3)
    assert patients["verdict"].tolist() == [predicted.verdict, NEGATIVE, NOT_A_CHEST_CT]
    assert predicted.verdict == POSITIVE
    result = evaluate_patients(frame, 0.5, RULE, resamples=20)
    assert result.aggregation == "detector's patient rule, lesion share"
    assert result.metrics["coverage"].value == pytest.approx(2 / 3)


def test_without_lung_areas_the_mean_answers_and_the_result_says_so(table, tmp_path):
    frame = table([True, True, False], [0.9, 0.7, 0.2], patient=["a", "a", "b"])
    result = evaluate_patients(frame, 0.5, RULE, resamples=20)
    assert result.aggregation.startswith(
        "mean of the slices' probabilities (the predictions have no lung areas"
    )
    assert evaluate_patients(frame, 0.5, resamples=20).metrics == result.metrics
    some = with_areas(frame, 1000, 300)
    some[list(LUNG_AREAS)] = some[list(LUNG_AREAS)].astype("Int64")
    some.loc[2, list(LUNG_AREAS)] = pd.NA
    write_predictions(some, tmp_path / "predictions.csv")
    read = read_predictions(tmp_path / "predictions.csv")
    patients = by_patient(read, 0.5, RULE).set_index("patient")
    assert patients.loc["b", "probability"] == 0.2
    assert patients.loc["a", "probability"] != 0.8
    notes = evaluate_patients(read, 0.5, RULE, resamples=20).notes
    assert "1 patient without lung areas: answer from the mean of the slices' probabilities." in notes


def test_a_patient_without_an_answered_slice_is_uncertain(table):
    frame = table(
        [True, True, False, False],
        [0.9, 0.8, 0.2, 0.1],
        verdict=[UNCERTAIN, NOT_A_CHEST_CT, UNCERTAIN, NEGATIVE],
        patient=["a", "a", "b", "b"],
    )
    assert by_patient(frame, threshold=0.5)["verdict"].tolist() == [UNCERTAIN, NEGATIVE]
    assert evaluate_patients(frame, 0.5, resamples=20).metrics["coverage"].value == 0.5


def test_a_patient_of_both_labels_is_positive_and_reported(table):
    frame = table([False, True, False], [0.1, 0.9, 0.2], patient=["a", "a", "b"])
    patients = by_patient(frame, 0.5)
    assert patients["label"].tolist() == [POSITIVE, "other"]
    assert patients["mixed_labels"].tolist() == [True, False]
    result = evaluate_patients(frame, 0.5, resamples=20)
    assert "1 patient with slices of both labels counted as covid." in result.notes


def test_a_patient_with_an_unlabelled_slice_is_not_negative(table):
    frame = table([False, False, True, False], [0.1, 0.2, 0.9, 0.3], patient=["a", "a", "b", "b"])
    frame.loc[[1, 3], "label"] = ""
    assert by_patient(frame, 0.5)["label"].tolist() == ["", POSITIVE]


def test_figures_by_patient_need_patients(table):
    with pytest.raises(GroundglassError, match="no slice names its patient"):
        by_patient(table([True], [0.5], patient=[""]), 0.5)
