import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from groundglass.errors import GroundglassError
from groundglass.evaluation.bootstrap import bootstrap_weights
from groundglass.evaluation.classes import (
    CLASS_COLUMNS,
    CLASS_METRICS,
    MACRO_METRICS,
    ClassesEvaluation,
    WeightedClassMetrics,
    class_rows,
    evaluate_classes,
    macro_rows,
)
from groundglass.evaluation.comparison import System
from groundglass.evaluation.comparison_report import CLASSES_HEADER, classes_table
from groundglass.evaluation.metrics import evaluate
from groundglass.evaluation.predictions import read_predictions, unit_codes, write_predictions
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

NAMES = ("covid", "normal", "mycoplasma pneumonia", "viral pneumonia")


def class_table(
    label: Sequence[str],
    probability: object,
    names: Sequence[str] = NAMES,
    patient: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Predictions that answer the most probable class, by default with one patient per slice."""
    shares = np.asarray(probability, dtype=float)
    covid = shares[:, list(names).index(POSITIVE)]
    frame = pd.DataFrame(
        {
            "path": [f"slice {row}.png" for row in range(len(label))],
            "patient": [f"p{row}" for row in range(len(label))] if patient is None else patient,
            "group": "",
            "label": label,
            "score": covid,
            "probability": covid,
            "verdict": np.where(covid >= 0.5, POSITIVE, NEGATIVE),
            "class": np.array(names)[shares.argmax(axis=1)],
        }
    )
    return frame.assign(**{f"probability_{name}": shares[:, number] for number, name in enumerate(names)})


def random_classes(
    rows: int, patients: int, seed: int = 0, names: Sequence[str] = NAMES, signal: float = 1.0
) -> pd.DataFrame:
    """Predictions with ties, right more often than not; each patient's slices are of one class."""
    generator = np.random.default_rng(seed)
    patient = generator.integers(patients, size=rows)
    label = patient % len(names)
    logits = np.round(generator.normal(size=(rows, len(names))) + signal * np.eye(len(names))[label], 1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return class_table(np.array(names)[label], shares.round(6), names, [f"p{number}" for number in patient])


def answered(label: Sequence[str], answer: Sequence[str]) -> pd.DataFrame:
    """Predictions of covid, normal and viral that are sure of their answer."""
    names = ("covid", "normal", "viral")
    return class_table(label, [[0.8 if name == given else 0.1 for name in names] for given in answer], names)


def values(estimates):
    return {name: estimate.value for name, estimate in estimates.items()}


def by_sklearn(frame, names, weights=None):
    """The macro metrics that scikit-learn provides."""
    truth, answer = frame["label"], frame["class"]
    shares = frame[[f"probability_{name}" for name in sorted(names)]].to_numpy()
    given = {"sample_weight": weights}
    return {
        "accuracy": sk.accuracy_score(truth, answer, **given),
        "macro_sensitivity": sk.balanced_accuracy_score(truth, answer, **given),
        "macro_ppv": sk.precision_score(truth, answer, average="macro", **given),
        "macro_f1": sk.f1_score(truth, answer, average="macro", **given),
        "macro_auc": sk.roc_auc_score(truth, shares, multi_class="ovr", average="macro", **given),
    }


def test_hand_worked_confusion():
    label = ["covid"] * 4 + ["normal"] * 3 + ["viral"] * 3
    answer = ["covid", "covid", "covid", "viral", "normal", "normal", "covid", "viral", "viral", "normal"]
    result = evaluate_classes(answered(label, answer), resamples=20)
    assert result.classes == ("covid", "normal", "viral")
    assert (result.count, result.counts) == (10, {"covid": 4, "normal": 3, "viral": 3})
    assert (result.groups, result.resampled_by, result.resamples) == (10, "patient", 20)
    assert result.confusion == ((3, 0, 1), (1, 2, 0), (0, 1, 2))
    # AUC of covid: 3 of 4 at 0.8 against 1 of 6, so (3 * 5 + (3 * 1 + 1 * 5) / 2) / 24.
    assert values(result.per_class["covid"]) == pytest.approx(
        {"sensitivity": 3 / 4, "specificity": 5 / 6, "ppv": 3 / 4, "f1": 3 / 4, "roc_auc": 19 / 24}
    )
    assert values(result.per_class["viral"])["specificity"] == pytest.approx(6 / 7)
    assert values(result.metrics) == pytest.approx(
        {
            "accuracy": 7 / 10,
            "macro_sensitivity": (3 / 4 + 2 / 3 + 2 / 3) / 3,
            "macro_ppv": (3 / 4 + 2 / 3 + 2 / 3) / 3,
            "macro_f1": (3 / 4 + 2 / 3 + 2 / 3) / 3,
            "macro_auc": (19 / 24 + 2 * (2 * 6 + (2 * 1 + 1 * 6) / 2) / 21) / 3,
        }
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_metric_is_that_of_scikit_learn(seed):
    frame = random_classes(150, 60, seed)
    result = evaluate_classes(frame, resamples=20)
    assert values(result.metrics) == pytest.approx(by_sklearn(frame, NAMES))
    assert list(result.metrics) == list(MACRO_METRICS)
    matrix = sk.confusion_matrix(frame["label"], frame["class"], labels=list(NAMES))
    assert np.array_equal(result.confusion, matrix)
    for name in NAMES:
        truth, called = frame["label"] == name, frame["class"] == name
        assert values(result.per_class[name]) == pytest.approx(
            {
                "sensitivity": sk.recall_score(truth, called),
                "specificity": sk.recall_score(truth, called, pos_label=False),
                "ppv": sk.precision_score(truth, called),
                "f1": sk.f1_score(truth, called),
                "roc_auc": sk.roc_auc_score(truth, frame[f"probability_{name}"]),
            }
        )
        assert list(result.per_class[name]) == list(CLASS_METRICS)


def test_macro_intervals_are_percentiles_of_scikit_learns_values_of_the_resamples():
    frame = random_classes(120, 60, seed=1)
    result = evaluate_classes(frame, resamples=60, confidence=0.8, seed=7)
    (weights,) = bootstrap_weights(unit_codes(frame["patient"]), 60, seed=7)
    drawn = pd.DataFrame([by_sklearn(frame, NAMES, weighting) for weighting in weights])
    for name, estimate in result.metrics.items():
        assert (estimate.low, estimate.high) == pytest.approx(tuple(drawn[name].quantile([0.1, 0.9])))


def test_two_classes_have_the_figures_of_the_binary_evaluation():
    frame = random_classes(100, 40, names=("covid", "normal"))
    binary = evaluate(frame, resamples=100, seed=2)
    result = evaluate_classes(frame, resamples=100, seed=2)
    covid = result.per_class["covid"]
    assert {name: covid[name].value for name in covid} == pytest.approx(
        {name: binary.metrics[name].value for name in covid}
    )
    for ours, theirs in [
        *((covid[name], binary.metrics[name]) for name in covid),
        (result.metrics["accuracy"], binary.metrics["accuracy"]),
        (result.metrics["macro_sensitivity"], binary.metrics["balanced_accuracy"]),
        (result.metrics["macro_auc"], binary.metrics["roc_auc"]),
    ]:
        assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_the_binary_evaluation_ignores_classes():
    frame = random_classes(60, 30)
    plain = frame.drop(columns=[name for name in frame if name == "class" or name.startswith("probability_")])
    assert evaluate(frame, resamples=20) == evaluate(plain, resamples=20)


def test_a_class_without_slices_is_left_out_of_the_means_and_reported():
    frame = random_classes(150, 60)
    frame = frame[frame["label"] != "viral pneumonia"]
    result = evaluate_classes(frame, resamples=50)
    assert result.counts["viral pneumonia"] == 0
    absent = values(result.per_class["viral pneumonia"])
    assert {name for name, value in absent.items() if value is None} == {"sensitivity", "roc_auc"}
    assert absent["ppv"] == 0
    present = list(NAMES[:3])
    expected = {
        "macro_sensitivity": sk.recall_score(frame["label"], frame["class"], average="macro", labels=present),
        "macro_ppv": sk.precision_score(frame["label"], frame["class"], average="macro", labels=present),
        "macro_f1": sk.f1_score(frame["label"], frame["class"], average="macro", labels=present),
        "macro_auc": np.mean(
            [sk.roc_auc_score(frame["label"] == name, frame[f"probability_{name}"]) for name in present]
        ),
    }
    assert {name: result.metrics[name].value for name in expected} == pytest.approx(expected)
    told = [note for note in result.notes if "viral" in note]
    assert told == ["No slice is labelled viral pneumonia: the class is left out of the macro figures."]


def test_a_class_that_is_never_answered_has_no_ppv_and_an_f1_of_0():
    label = ["covid", "covid", "normal", "normal", "viral", "viral"]
    result = evaluate_classes(
        answered(label, ["covid", "covid", "normal", "normal", "covid", "normal"]), resamples=50
    )
    never = values(result.per_class["viral"])
    assert (never["sensitivity"], never["specificity"], never["ppv"], never["f1"]) == (0, 1, None, 0)
    assert result.metrics["macro_ppv"].value is None
    assert result.metrics["macro_f1"].value == pytest.approx((0.8 + 0.8 + 0) / 3)
    assert "PPV of viral is undefined: no answer names the class." in result.notes
    assert "Macro PPV is undefined: a class has no PPV." in result.notes


def test_slices_that_are_not_answered_count_for_the_auc_alone():
    frame = random_classes(150, 60, seed=4)
    frame.loc[:9, "verdict"] = UNCERTAIN
    frame.loc[10:14, "verdict"] = NOT_A_CHEST_CT
    result = evaluate_classes(frame, resamples=20)
    kept = frame.iloc[15:]
    expected = {**by_sklearn(kept, NAMES), "macro_auc": by_sklearn(frame, NAMES)["macro_auc"]}
    assert values(result.metrics) == pytest.approx(expected)
    assert np.array_equal(
        result.confusion, sk.confusion_matrix(kept["label"], kept["class"], labels=list(NAMES))
    )
    assert sum(result.counts.values()) == result.count == 150
    assert (
        "10 uncertain and 5 not a chest CT of 150 slices: not counted in the figures that need a class."
        in result.notes
    )


def test_nothing_answered_is_undefined_not_zero():
    frame = random_classes(80, 40).assign(verdict=UNCERTAIN)
    result = evaluate_classes(frame, resamples=20)
    assert {name for name, value in values(result.metrics).items() if value is not None} == {"macro_auc"}
    assert "Accuracy is undefined: nothing answered." in result.notes


def test_one_class_alone_has_a_sensitivity_and_no_auc():
    result = evaluate_classes(answered(["covid"] * 3, ["covid", "covid", "viral"]), resamples=20)
    assert result.metrics["macro_sensitivity"].value == pytest.approx(2 / 3)
    assert result.metrics["macro_auc"].value is None
    assert "One-vs-rest AUC of covid is undefined: all slices are of the class, or none are." in result.notes
    assert "NaN" not in json.dumps(result.to_dict())


def test_equal_seeds_give_equal_intervals():
    frame = random_classes(100, 40)
    first = evaluate_classes(frame, resamples=50, seed=3)
    assert evaluate_classes(frame, resamples=50, seed=3) == first
    other = evaluate_classes(frame, resamples=50, seed=4)
    assert other.metrics != first.metrics
    assert values(other.metrics) == values(first.metrics)


def test_copies_within_patients_widen_the_interval():
    slices = random_classes(60, 10**9, seed=2)
    copies = pd.concat([slices] * 4, ignore_index=True)
    by_patient = evaluate_classes(copies, resamples=300).metrics["accuracy"]
    by_slice = evaluate_classes(copies.assign(patient=""), resamples=300).metrics["accuracy"]
    assert (by_patient.high - by_patient.low) / (by_slice.high - by_slice.low) == pytest.approx(2, rel=0.25)


def test_few_patients_of_a_class_are_noted_and_one_patient_has_no_interval():
    few = evaluate_classes(random_classes(90, 18), resamples=50)
    assert "Only 4 patients labelled viral pneumonia: intervals from so few are rough." in few.notes
    one = evaluate_classes(random_classes(20, 8).assign(patient="a"), resamples=50)
    assert "All are of one patient: no interval can be given." in one.notes
    estimates = [*one.metrics.values(), *(of for each in one.per_class.values() for of in each.values())]
    assert {(estimate.low, estimate.high) for estimate in estimates} == {(None, None)}


def test_resamples_that_lack_a_class_are_reported():
    # One of six patients is absent from (5/6)^6 = 33% of the resamples.
    label = ["viral", "covid", "covid", "covid", "normal", "normal"]
    result = evaluate_classes(answered(label, label), resamples=1000)
    (note,) = (note for note in result.notes if note.startswith("Sensitivity of viral"))
    assert int(note.split("in ")[1].split("%")[0]) == pytest.approx(33, abs=5)
    assert any(
        note.startswith("Macro sensitivity (balanced accuracy) is undefined in") for note in result.notes
    )


def test_an_evaluation_survives_json():
    result = evaluate_classes(random_classes(60, 30), resamples=20)
    back = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert ClassesEvaluation.model_validate(back) == result


def test_rows_of_text():
    label = ["covid"] * 4 + ["normal"] * 3
    frame = answered(label, ["covid", "covid", "covid", "normal", "normal", "normal", "normal"])
    result = evaluate_classes(frame.assign(patient="a"), resamples=20)
    assert class_rows(result) == [
        ("covid", "4", "0.75", "1.00", "1.00", "0.86", "0.88"),
        ("normal", "3", "1.00", "0.75", "0.75", "0.86", "0.88"),
        ("viral", "0", "undefined", "1.00", "undefined", "undefined", "undefined"),
    ]
    assert all(len(row) == len(CLASS_COLUMNS) for row in class_rows(result))
    assert macro_rows(result) == [
        ("Accuracy", "0.86"),
        ("Macro sensitivity (balanced accuracy)", "0.88"),
        ("Macro PPV", "0.88"),
        ("Macro F1", "0.86"),
        ("Macro AUC", "0.88"),
    ]
    assert "(" in macro_rows(evaluate_classes(frame, resamples=20))[0][1]


def test_a_file_gives_what_its_table_gives(tmp_path):
    frame = random_classes(60, 30)
    write_predictions(frame, tmp_path / "predictions.csv")
    back = read_predictions(tmp_path / "predictions.csv")
    assert evaluate_classes(back, resamples=20) == evaluate_classes(frame, resamples=20)


def test_weights_of_0_leave_a_class_undefined():
    frame = answered(["covid", "normal", "viral"], ["covid", "normal", "normal"])
    shares = frame.filter(like="probability_").to_numpy()
    computed = WeightedClassMetrics(np.arange(3), np.array([0, 1, 1]), shares)
    weights = np.array([[1, 1, 0], [2, 1, 1]], dtype=float)
    metrics = computed(weights)
    assert computed.confusion(weights)[1].tolist() == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert np.isnan(metrics["macro_sensitivity"]).tolist() == [True, False]
    assert metrics["sensitivity"][:, :2].tolist() == [[1, 1], [1, 1]]
    assert metrics["accuracy"].tolist() == [1, 0.75]


def test_labels_that_are_not_a_class_are_named_with_the_classes():
    frame = random_classes(20, 8)
    frame.loc[3, "label"] = "flu"
    with pytest.raises(GroundglassError) as error:
        evaluate_classes(frame)
    assert "label is none of the classes 'covid', 'normal', 'mycoplasma pneumonia', " in str(error.value)
    assert "in row 3 (got 'flu'); evaluate on a dataset with the labels" in str(error.value)
    with pytest.raises(GroundglassError, match="the label is missing in 1 of 20 predictions"):
        evaluate_classes(frame.replace({"label": {"flu": ""}}))


def test_tables_without_classes_and_senseless_settings_are_refused(table):
    with pytest.raises(GroundglassError, match=r"have no classes: .* add the column class"):
        evaluate_classes(table([True, False], [0.9, 0.1]))
    with pytest.raises(GroundglassError, match="confidence between 0 and 1"):
        evaluate_classes(random_classes(20, 8), confidence=95)
    with pytest.raises(GroundglassError, match="at least 1 resample"):
        evaluate_classes(random_classes(20, 8), resamples=0)


def test_a_comparison_lists_every_training_that_knows_the_labels() -> None:
    first, second = random_classes(60, 30, seed=1), random_classes(60, 30, seed=2)
    binary = first.drop(
        columns=[name for name in first if name == "class" or name.startswith("probability_")]
    )
    strange = first.assign(label="lung cancer")
    systems = [
        System("both", (first, second), (0.5, 0.5)),
        System("binary", (binary,), (0.5,)),
        System("strange", (strange,), (0.5,)),
    ]
    rows = classes_table(systems)
    assert [row[:2] for row in rows] == [("both", "1"), ("both", "2")]
    for row, member in zip(rows, (first, second), strict=True):
        shown = dict(zip(CLASSES_HEADER, row, strict=True))
        assert shown == {"System": "both", "Training": row[1], **dict(macro_rows(evaluate_classes(member)))}
