import numpy as np
import pytest
from answered import answered
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from groundglass.audit import measures as figures
from groundglass.audit.check import NotApplicable
from groundglass.audit.detector import probabilities as recalibration
from groundglass.audit.detector.probabilities import (
    Calibration,
    calibration_intercept,
    calibration_slope,
    expected_ece,
)
from groundglass.evaluation.calibration import ece
from groundglass.labels import POSITIVE


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(figures, "RESAMPLES", 100)


def drawn(count, seed=0, patients=None):
    """Probabilities, and labels drawn from them; slices of a patient share the draw."""
    generator = np.random.default_rng(seed)
    probability = expit(generator.normal(0, 1.5, count))
    luck = generator.random(patients or count)
    return probability, luck[np.arange(count) % len(luck)] < probability


def changed(probability, *, slope=1.0, intercept=0.0):
    return expit(slope * logit(probability) + intercept)


def test_calibrated_probabilities_pass_whatever_their_error_by_chance():
    probability, truth = drawn(120)
    result = Calibration().run(answered(truth, probability))
    assert result.severity is None
    assert result.figure.value == pytest.approx(ece(truth, probability))
    assert result.figure.value > 0.03
    assert "neither overconfidence nor underconfidence is certain" in result.message


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"slope": 3.0}, "overconfident"),
        ({"slope": 0.3}, "underconfident"),
        ({"intercept": 1.0}, "which is too high"),
        ({"intercept": -1.0}, "which is too low"),
    ],
    ids=str,
)
def test_wrong_probabilities_are_reported_with_the_kind_of_error(wrong, word):
    probability, truth = drawn(600)
    result = Calibration().run(answered(truth, changed(probability, **wrong)))
    assert result.severity == "warning"
    assert word in result.message
    assert ("overconfident" in result.message) == (word == "overconfident")


def test_the_bins_and_the_parts_of_the_brier_score_are_reported():
    truth = [True] * 20 + [False] * 20 + [True] * 15 + [False] * 5
    result = Calibration().run(answered(truth, [0.25] * 40 + [0.75] * 20))
    assert result.rows == (("0.2 to 0.3", "40", "0.25", "0.50"), ("0.7 to 0.8", "20", "0.75", "0.75"))
    # Reliability 40/60 * 0.25^2, resolution (40 * (1/12)^2 + 20 * (1/6)^2) / 60, uncertainty 35/60 * 25/60.
    for part in ("score of 0.271", "0.243 for", "minus 0.014", "plus 0.042", "0.000 within"):
        assert part in result.message


def test_few_patients_cause_large_errors_without_a_finding():
    probability, truth = drawn(400, seed=5, patients=8)
    patient = [f"p{row % 8}" for row in range(400)]
    assert Calibration().run(answered(truth, probability)).severity == "warning"
    assert Calibration().run(answered(truth, probability, patient=patient)).severity is None


def test_a_small_error_on_very_many_slices_passes(monkeypatch):
    monkeypatch.setattr(recalibration, "SIMULATED", 100)
    probability, truth = drawn(15_000)
    nearly = changed(probability, intercept=0.08)
    by_chance = np.quantile(expected_ece(nearly, np.arange(15_000)), 0.975)
    assert by_chance < ece(truth, nearly) < 0.02
    result = Calibration().run(answered(truth, nearly))
    assert result.severity is None


def test_too_few_slices_are_not_evaluated():
    probability, truth = drawn(49)
    with pytest.raises(NotApplicable, match="On 49 slices"):
        Calibration().run(answered(truth, probability))


def test_slope_and_intercept_are_those_of_logistic_regression():
    probability, truth = drawn(300, seed=3)
    wrong = changed(probability, slope=2.0, intercept=0.7)
    units = np.arange(300)
    slope = calibration_slope(truth, wrong, units)
    fitted = LogisticRegression(C=np.inf).fit(logit(wrong)[:, None], truth)
    assert slope.value == pytest.approx(fitted.coef_[0, 0], rel=1e-3)
    assert slope.low < 0.5 < slope.high < 1
    intercept = calibration_intercept(truth, wrong, units)
    assert expit(logit(wrong) + intercept.value).mean() == pytest.approx(truth.mean())


def test_certain_probabilities_and_separated_classes_cause_no_errors():
    truth = np.arange(60) % 2 == 0
    units = np.arange(60)
    assert calibration_slope(truth, truth.astype(float), units).value is None
    doubtful = truth.astype(float)
    doubtful[:9], doubtful[-9:] = 1.0, 0.0
    assert 0 < calibration_slope(truth, doubtful, units).value < 1
    assert calibration_slope(np.ones(60, dtype=bool), doubtful, units).value is None
    result = Calibration().run(answered(truth, truth.astype(float)))
    assert result.severity is None
    assert result.figure.value == 0


def test_the_error_to_expect_is_that_of_labels_drawn_from_the_probabilities():
    probability, _ = drawn(100)
    generator = np.random.default_rng(9)
    by_hand = [ece(generator.random(100) < probability, probability) for _ in range(500)]
    expected = expected_ece(probability, np.arange(100), seed=1)
    assert expected.mean() == pytest.approx(np.mean(by_hand), rel=0.03)
    assert np.quantile(expected, 0.975) == pytest.approx(np.quantile(by_hand, 0.975), rel=0.06)
    assert (expected == expected_ece(probability, np.arange(100), seed=1)).all()


def test_the_answer_for_what_is_not_a_chest_ct_also_counts_as_a_probability():
    probability, truth = drawn(100)
    given = Calibration().run(answered(truth, probability))
    verdict = np.where(np.arange(100) % 2, "not a chest CT", POSITIVE)
    assert Calibration().run(answered(truth, probability, verdict=verdict)).message == given.message
