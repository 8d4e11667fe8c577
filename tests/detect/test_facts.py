"""A bundle's conversion of logits, compared with scipy."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.detect.findings import SliceFinding
from groundglass.labels import NEGATIVE, POSITIVE

CLASSES = ("normal", "mycoplasma pneumonia", POSITIVE, "viral pneumonia")


def facts(*, threshold: float = 0.5, temperature: float = 1.7, classes: tuple[str, ...] = ()) -> BundleFacts:
    changed = {"threshold": threshold, "temperature": temperature, "classes": classes}
    return BundleFacts.model_validate(Bundle.load("covid-ct-lite0").facts.model_dump() | changed)


@pytest.mark.parametrize("logit", [-2.3, 0.0, 0.4, 5.0])
def test_one_logit_is_the_probability_of_covid(logit: float) -> None:
    answer = facts().answer(np.float32(logit))
    assert answer.score == pytest.approx(expit(np.float32(logit)))
    assert answer.probability == pytest.approx(expit(np.float32(logit) / 1.7))
    assert answer.verdict == (POSITIVE if logit >= 0 else NEGATIVE)
    assert (answer.probabilities, answer.predicted_class) == ({}, "")


def test_huge_logits_are_sure_answers() -> None:
    assert facts().answer(1e4) == SliceFinding(1.0, 1.0, POSITIVE)
    assert facts().answer(-1e4) == SliceFinding(0.0, 0.0, NEGATIVE)
    several = facts(classes=CLASSES).answer([1e4, 0, -1e4, 0])
    assert several == SliceFinding(
        0.0, 0.0, NEGATIVE, "", dict(zip(CLASSES, (1.0, 0.0, 0.0, 0.0), strict=True)), "normal"
    )


def test_several_logits_are_a_probability_each() -> None:
    logits = np.array([0.3, -1.2, 1.1, 0.8], dtype=np.float32)
    answer = facts(classes=CLASSES).answer(logits)
    assert [*answer.probabilities.values()] == pytest.approx(softmax(logits / 1.7))
    assert answer.probability == answer.probabilities[CLASSES[2]]
    assert answer.score == pytest.approx(softmax(logits)[2])
    assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("threshold", "probabilities", "verdict", "answered"),
    [
        (0.5, (0.1, 0.2, 0.6, 0.1), POSITIVE, POSITIVE),
        (0.6, (0.1, 0.05, 0.55, 0.3), NEGATIVE, "viral pneumonia"),
        (0.6, (0.25, 0.05, 0.55, 0.15), NEGATIVE, "normal"),
        (0.2, (0.1, 0.55, 0.25, 0.1), POSITIVE, POSITIVE),
        (0.5, (0.05, 0.5, 0.25, 0.2), NEGATIVE, "mycoplasma pneumonia"),
        (0.0, (1.0, 0.0, 0.0, 0.0), POSITIVE, POSITIVE),
        (1.0, (0.0, 0.0005, 0.999, 0.0005), NEGATIVE, "mycoplasma pneumonia"),
    ],
    ids=[
        "covid",
        "covid leads but is too little",
        "the first of the others leads",
        "covid is enough behind another",
        "another",
        "everything is covid",
        "the first of equals",
    ],
)
def test_the_verdict_goes_by_the_threshold_and_the_answer_by_the_verdict(
    threshold: float, probabilities: tuple[float, ...], verdict: str, answered: str
) -> None:
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities)
    answer = facts(threshold=threshold, temperature=1.0, classes=CLASSES).answer(logits)
    assert [*answer.probabilities.values()] == pytest.approx(probabilities)
    assert (answer.verdict, answer.predicted_class) == (verdict, answered)


def test_the_threshold_itself_is_covid() -> None:
    probability = facts().answer(0.7).probability
    assert facts(threshold=probability).answer(0.7).verdict == POSITIVE
    assert facts(threshold=np.nextafter(probability, 1)).answer(0.7).verdict == NEGATIVE


def test_the_place_of_covid_among_the_classes_does_not_matter() -> None:
    logits = np.array([0.3, -1.2, 1.1, 0.8])
    turned = facts(classes=CLASSES[::-1], threshold=0.3).answer(logits[::-1])
    straight = facts(classes=CLASSES, threshold=0.3).answer(logits)
    assert dict(turned.probabilities) == pytest.approx(dict(straight.probabilities))
    assert turned.probability == pytest.approx(straight.probability)
    assert (turned.verdict, turned.predicted_class) == (straight.verdict, straight.predicted_class)
