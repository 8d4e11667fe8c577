import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from groundglass.evaluation.calibration import (
    TEMPERATURES,
    apply_temperature,
    bin_of,
    brier,
    brier_parts,
    ece,
    fit_scaling,
    fit_temperature,
    reliability_curve,
)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_again(temperature):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, size=20_000)
    truth = generator.random(20_000) < expit(logits)
    assert fit_temperature(logits * temperature, truth) == pytest.approx(temperature, rel=0.05)


def test_scaling_is_logistic_regression():
    generator = np.random.default_rng(1)
    logits = generator.normal(0.5, 3, size=400)
    truth = generator.random(400) < expit(logits / 2 - 1)
    weights = generator.random(400)
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], truth, weights)
    temperature, bias = fit_scaling(logits, truth, weights)
    assert 1 / temperature == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
    assert bias == pytest.approx(fitted.intercept_[0], abs=1e-4)


def test_separated_classes_determine_a_bias_but_no_temperature():
    temperature, bias = fit_scaling([1, 2, 3, 4], [False, False, True, True], [1, 1, 1, 1])
    assert (temperature, bias) == (1, pytest.approx(-2.5, abs=1e-4))
    reversed_ = fit_scaling([1, 2, 3, 4], [True, True, False, False], [1, 1, 1, 1])
    assert reversed_[0] == pytest.approx(TEMPERATURES[1])


def test_hand_worked_temperature():
    # Logits of 2, three of four right: the likelihood is greatest where sigmoid(2 / T) = 3/4, T = 2 / ln 3.
    logits, truth = [2, 2, 2, 2], [True, True, True, False]
    assert fit_temperature(logits, truth) == pytest.approx(2 / np.log(3), rel=1e-3)


def test_slices_that_set_no_limit_leave_the_temperature_at_one():
    assert fit_temperature([], []) == 1
    assert fit_temperature([3.0, -2.0, 0.1], [True, False, True]) == 1
    assert fit_temperature([0.0, 0.0], [True, False]) == 1


def test_a_model_that_is_always_wrong_is_believed_as_little_as_possible():
    assert fit_temperature([3.0, -2.0], [False, True]) == pytest.approx(TEMPERATURES[1], rel=1e-3)


@pytest.mark.parametrize(("logits", "truth"), [([1.0, 2.0], [True]), ([np.inf], [True]), ([[1.0]], [[True]])])
def test_logits_that_do_not_fit_are_refused(logits, truth):
    with pytest.raises(ValueError, match=r"the same slices|not finite"):
        fit_temperature(logits, truth)


def test_temperature_keeps_the_order_and_the_shape():
    assert apply_temperature([0.0, 2.0], 2) == pytest.approx(np.array([0.5, expit(1.0)]))


def test_a_known_temperature_of_several_classes_is_found_again():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, size=(20_000, 4))
    probability = softmax(logits, axis=1)
    truth = (probability.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits * 3, truth) == pytest.approx(3, rel=0.05)
    assert apply_temperature(logits * 3, 3) == pytest.approx(probability)


def test_two_logits_are_calibrated_as_their_difference():
    generator = np.random.default_rng(1)
    logits, truth = generator.normal(size=(50, 2)), generator.random(50) < 0.5
    both = fit_temperature(logits, truth)
    assert both == pytest.approx(fit_temperature(logits[:, 1] - logits[:, 0], truth))


def test_several_classes_that_are_all_right_leave_the_temperature_at_one():
    assert fit_temperature([[3.0, 1.0, 0.0], [0.0, 0.1, 0.2]], [0, 2]) == 1


def test_bins_hold_their_lower_edge_and_the_last_its_upper():
    assert bin_of([0, 0.05, 0.1, 0.3, 0.6, 0.7, 0.999, 1]).tolist() == [0, 0, 1, 3, 6, 7, 9, 9]


def test_reliability_is_that_of_scikit_learn():
    generator = np.random.default_rng(1)
    probability = generator.random(300) * 0.85
    truth = generator.random(300) < probability
    curve = reliability_curve(truth, probability)
    filled = curve[curve["count"] > 0]
    share, mean = calibration_curve(truth, probability, n_bins=10)
    assert filled["share_positive"].to_numpy() == pytest.approx(share)
    assert filled["mean_probability"].to_numpy() == pytest.approx(mean)
    assert curve["count"].sum() == 300
    assert curve["share_positive"].isna().tolist() == [False] * 9 + [True]
    assert (curve["low"][3], curve["high"][3]) == pytest.approx((0.3, 0.4))


def test_hand_worked_calibration_error():
    # Bin 0.2: mean 0.25, none positive; bin 0.8: mean 0.8, 2 of 2 positive.
    assert ece([0, 0, 1, 1], [0.2, 0.29, 0.8, 0.8]) == pytest.approx((2 * 0.245 + 2 * 0.2) / 4)
    assert ece([0, 1], [0.0, 1.0]) == 0
    assert brier([0, 1, 1], [0.5, 0.9, 0.0]) == pytest.approx((0.25 + 0.01 + 1) / 3)


def test_hand_worked_parts_of_the_brier_score():
    # Bin 0.2: 0.2 four times, 1 of 4 positive; bin 0.8: 0.8 four times, 4 of 4 positive; 5 of 8 in all.
    parts = brier_parts([1, 0, 0, 0, 1, 1, 1, 1], [0.2] * 4 + [0.8] * 4)
    assert parts.reliability == pytest.approx((4 * 0.05**2 + 4 * 0.2**2) / 8)
    assert parts.resolution == pytest.approx(0.375**2)
    assert parts.uncertainty == pytest.approx(5 / 8 * 3 / 8)
    assert parts.within_bins == pytest.approx(0)


def test_part_within_the_bins_by_hand():
    # One bin of mean 0.25 and half positive: (0.3^2 + 0.8^2) / 2 = 0.365 = 0.25^2 - 0 + 0.5^2 + the rest.
    parts = brier_parts([0, 1], [0.3 - 1e-9, 0.2])
    assert parts == pytest.approx((0.0625, 0, 0.25, 0.0525), abs=1e-6)


def test_the_parts_sum_to_the_brier_score():
    generator = np.random.default_rng(2)
    probability = generator.random(200)
    truth = generator.random(200) < probability**2
    parts = brier_parts(truth, probability)
    total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bins
    assert total == pytest.approx(brier(truth, probability))
    assert abs(parts.within_bins) < 0.01
    # The within-bin variance less twice the within-bin covariance (Stephenson et al. 2008).
    place = bin_of(probability)
    means = np.array([[probability[place == b].mean(), truth[place == b].mean()] for b in place])
    apart = probability - means[:, 0]
    assert parts.within_bins == pytest.approx(np.mean(apart**2) - 2 * np.mean(apart * (truth - means[:, 1])))
