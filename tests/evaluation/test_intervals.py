import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from groundglass.evaluation import bootstrap as intervals
from groundglass.evaluation.bootstrap import bootstrap_weights, percentile_interval
from groundglass.evaluation.metrics import evaluate


def test_whole_units_are_drawn_as_often_as_there_are_units():
    units = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(bootstrap_weights(units, 500, seed=1)))
    assert weights.shape == (500, 6)
    for members in ([0, 1], [3, 4, 5]):
        assert (weights[:, members] == weights[:, members[:1]]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights[:, [0, 2, 3]].mean(axis=0) == pytest.approx([1, 1, 1], abs=0.15)


def test_memory_is_bounded_by_chunks(monkeypatch):
    monkeypatch.setattr(intervals, "CELLS", 20)
    chunks = list(bootstrap_weights(np.arange(8), 5, seed=0))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]


def test_an_interval_is_the_middle_of_what_is_defined():
    values = np.append(np.arange(101.0), [np.nan] * 9)
    assert percentile_interval(values, 0.9) == pytest.approx((5, 95))
    assert percentile_interval(np.full(3, np.nan), 0.9) is None


def test_the_interval_is_that_of_a_plain_bootstrap(random_table):
    frame = random_table(80, 25, seed=3)
    interval = evaluate(frame, resamples=1000, seed=5).metrics["roc_auc"]
    generator = np.random.default_rng(11)
    by_name = dict(list(frame.groupby("patient")))
    areas = []
    for _ in range(250):
        drawn = pd.concat([by_name[name] for name in generator.choice(list(by_name), len(by_name))])
        areas.append(roc_auc_score(drawn["label"] == "covid", drawn["probability"]))
    low, high = np.quantile(areas, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.03)


def test_equal_seeds_give_equal_intervals(random_table):
    frame = random_table(60, 20)
    assert evaluate(frame, resamples=100, seed=3) == evaluate(frame, resamples=100, seed=3)
    assert evaluate(frame, resamples=100, seed=3).metrics != evaluate(frame, resamples=100, seed=4).metrics


def test_copies_within_patients_widen_the_interval(random_table):
    patients = random_table(40, 10**9, seed=2)
    copies = pd.concat([patients] * 9, ignore_index=True)
    by_group = evaluate(copies, resamples=500).metrics["accuracy"]
    by_slice = evaluate(copies.assign(patient=""), resamples=500).metrics["accuracy"]
    # Nine copies carry no more information than one, so dividing the width by the root of 9 would be wrong.
    assert (by_group.high - by_group.low) / (by_slice.high - by_slice.low) == pytest.approx(3, rel=0.2)
    alone = evaluate(patients, resamples=500).metrics["accuracy"]
    assert (by_group.low, by_group.high) == pytest.approx((alone.low, alone.high))


def test_one_group_has_no_interval_instead_of_one_without_width(table):
    result = evaluate(table([True, False], [0.9, 0.1], patient=["a", "a"]), resamples=50)
    assert all(estimate.low is None and estimate.high is None for estimate in result.metrics.values())
    assert result.metrics["accuracy"].value == 1
    assert "All are of one patient: no interval can be given." in result.notes


def test_few_patients_of_a_class_are_noted(table):
    result = evaluate(table([True] * 3 + [False] * 12, np.linspace(0.9, 0.1, 15)), resamples=50)
    assert "Only 3 patients labelled covid: intervals from so few are rough." in result.notes
    assert not any("labelled not covid" in note for note in result.notes)


def test_intervals_cover_the_truth_about_as_often_as_they_say(table):
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        # 40 patients of 5 slices; a patient's share of right answers varies about 0.7.
        right_share = generator.beta(3.5, 1.5, size=40)
        right = generator.random((40, 5)) < right_share[:, None]
        truth = np.repeat(np.arange(40) % 2 == 0, 5)
        probability = np.where(truth == right.ravel(), 0.8, 0.2)
        patient = np.repeat([f"p{number}" for number in range(40)], 5)
        accuracy = evaluate(table(truth, probability, patient=patient), resamples=200).metrics["accuracy"]
        covered += accuracy.low <= 0.7 <= accuracy.high
    assert 87 <= covered <= 99
