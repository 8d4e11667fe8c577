from groundglass.bundle.evaluation import METRICS, Estimate, format_estimate
from groundglass.evaluation.metrics import evaluate, evaluate_patients


def test_an_estimate_in_words():
    assert format_estimate(Estimate(value=0.866, low=0.812, high=0.92)) == "0.87 (0.81 to 0.92)"
    assert format_estimate(Estimate(value=0.0514, low=0.04, high=0.06), 3) == "0.051 (0.040 to 0.060)"
    assert format_estimate(Estimate(value=0.5)) == "0.50"
    assert format_estimate(Estimate(value=None)) == "undefined"


def test_rows_count_and_then_measure(table):
    frame = table([True] * 5 + [False] * 5, [0.9, 0.8, 0.7, 0.2, 0.1, 0.6, 0.4, 0.3, 0.2, 0.1])
    rows = evaluate(frame, resamples=200).rows()
    assert rows[:3] == [
        ("Slices", "10, of which 5 covid"),
        ("True covid, false covid", "3, 1"),
        ("True not covid, false not covid", "4, 2"),
    ]
    assert [name for name, _ in rows[3:-1]] == [metric.title for metric in METRICS.values()]
    assert dict(rows)["ROC AUC"].startswith("0.68 (")
    assert dict(rows)["Brier score"].startswith("0.225 (")
    assert rows[-1] == ("Intervals", "95%, 200 bootstrap resamples of 10 patients")


def test_rows_of_patients_and_of_a_single_one(table):
    one = table([True, True], [0.9, 0.8], patient=["a", "a"])
    rows = dict(evaluate_patients(one, 0.5, resamples=20).rows())
    assert rows["Patients"] == "1, of which 1 covid"
    assert rows["ROC AUC"] == "undefined"
    assert rows["Sensitivity (recall)"] == "1.00"
    assert rows["Intervals"] == "none"
