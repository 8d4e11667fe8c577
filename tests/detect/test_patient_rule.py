import math

import numpy as np
import pytest

from groundglass.detect.patient_rule import (
    AGGREGATIONS,
    FEATURES,
    LEAST_SHARE,
    LungSlices,
    PatientRule,
    features,
    slices_rule,
)


def slices(probability: list[float], lesions: list[float] | None = None, **other: object) -> LungSlices:
    count = len(probability)
    lungs = np.asarray(other.get("lungs", np.full((count, 2), 100.0)), dtype=float)
    sick = np.zeros(count) if lesions is None else np.asarray(lesions, dtype=float)
    return LungSlices(
        np.asarray(probability, dtype=float),
        lungs,
        np.stack([sick, np.zeros(count)], axis=1),
        np.asarray(other.get("thickness", np.ones(count)), dtype=float),
    )


def test_mean_and_top_logit() -> None:
    found = features(slices([0.1, 0.2, 0.3, 0.4, 0.9]))
    logits = [math.log(p / (1 - p)) for p in (0.1, 0.2, 0.3, 0.4, 0.9)]
    assert found["mean_logit"] == pytest.approx(sum(logits) / 5)
    assert found["top_logit"] == pytest.approx(logits[-1])


def test_noisy_or_of_equal_slices_is_the_slice() -> None:
    assert features(slices([0.3] * 7))["noisy_or"] == pytest.approx(math.log(0.3 / 0.7))
    two = features(slices([0.3, 0.8]))["noisy_or"]
    none = math.sqrt(0.7 * 0.2)
    assert two == pytest.approx(math.log((1 - none) / none))


def test_shares_are_of_volumes_not_of_slices() -> None:
    thick = slices([0.5, 0.5], [20, 0], thickness=[3, 1])
    assert features(thick)["lesion_share"] == pytest.approx(math.log(60 / 800 + LEAST_SHARE))
    assert features(thick)["lesser_side"] == pytest.approx(math.log(LEAST_SHARE))


def test_attention_follows_lesions() -> None:
    sick_first = features(slices([0.9, 0.1], [50, 0]))["attention_logit"]
    assert sick_first > features(slices([0.9, 0.1], [0, 50]))["attention_logit"]


def test_slices_with_little_lung_do_not_count() -> None:
    tip = slices([0.2, 0.99], lungs=[[100, 100], [5, 5]])
    assert features(tip)["top_logit"] == pytest.approx(math.log(0.2 / 0.8))


@pytest.mark.parametrize("name", FEATURES)
def test_features_stay_finite_at_the_ends(name: str) -> None:
    for probability in (0.0, 1.0):
        assert math.isfinite(features(slices([probability] * 3))[name])


def test_every_aggregation_weighs_known_features() -> None:
    assert {name for used in AGGREGATIONS.values() for name in used} <= set(FEATURES)


def test_probability_is_logistic_in_the_features() -> None:
    rule = PatientRule(aggregation="mean", weights={"mean_logit": 2.0}, intercept=-1.0, threshold=0.5)
    logit = 2 * math.log(0.7 / 0.3) - 1
    assert rule.probability(slices([0.7] * 3)) == pytest.approx(1 / (1 + math.exp(-logit)))


def test_probability_does_not_overflow() -> None:
    rule = PatientRule(aggregation="mean", weights={"mean_logit": 1e6}, intercept=0.0, threshold=0.5)
    assert rule.probability(slices([0.0])) == pytest.approx(0.0)
    assert rule.probability(slices([1.0])) == pytest.approx(1.0)


def test_without_a_rule_equal_slices_keep_their_probability() -> None:
    rule = slices_rule(0.4)
    assert rule.threshold == 0.4
    assert rule.probability(slices([0.3] * 4)) == pytest.approx(0.3)
