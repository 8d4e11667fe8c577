"""When a detector answers uncertain, compared with the definition of conformal prediction and on exchangeable
draws."""

import math

import numpy as np
import pytest

from groundglass.bundle.facts import Choice
from groundglass.detect.abstention import Abstention, choose_abstention, decide
from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE, UNCERTAIN


def abstention(covid_from: float, other_to: float) -> Abstention:
    return Abstention(covid_from=covid_from, other_to=other_to, coverage=0.9, cases=100, groups=100)


def chosen(truth: list[bool], probability: list[float], coverage: float, units: object = None) -> Abstention:
    each = np.arange(len(truth)) if units is None else units
    return choose_abstention(truth, probability, each, coverage=coverage)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [3, 9, 10, 19, 20, 57])
def test_the_ends_are_the_order_statistics_of_the_definition(coverage: float, count: int) -> None:
    rng = np.random.default_rng(count)
    covid, other = np.sort(rng.random(count)), np.sort(rng.random(2 * count))
    found = chosen([True] * count + [False] * 2 * count, [*covid, *other], coverage)
    k = math.ceil(round((count + 1) * coverage, 9))  # the k-th smallest score 1 - p, of n + 1
    assert found.covid_from == (covid[count - k] if k <= count else 0)
    k = math.ceil(round((2 * count + 1) * coverage, 9))
    assert found.other_to == (other[k - 1] if k <= 2 * count else 1)
    assert (found.cases, found.groups) == (3 * count, 3 * count)


def test_both_neither_and_one() -> None:
    both, neither = abstention(0.3, 0.6), abstention(0.6, 0.3)
    at = (0.29, 0.3, 0.6, 0.61)
    assert [both.verdict(p) for p in at] == [NEGATIVE, UNCERTAIN, UNCERTAIN, POSITIVE]
    assert [neither.verdict(p) for p in (0.3, 0.31, 0.59, 0.6)] == [NEGATIVE, UNCERTAIN, UNCERTAIN, POSITIVE]
    assert (both.lowest, both.highest) == (neither.lowest, neither.highest) == (0.3, 0.6)
    assert both.why(0.48) == "probability 0.48 lies where both answers remain possible with 90% coverage"
    assert "neither answer holds" in neither.why(0.48)


def test_without_an_abstention_the_threshold_decides() -> None:
    assert decide(0.4, 0.4, None) == (POSITIVE, "")
    assert decide(0.39, 0.4, None) == (NEGATIVE, "")
    assert decide(0.7, 0.8, abstention(0.3, 0.6)) == (POSITIVE, "")
    verdict, reason = decide(0.4, 0.4, abstention(0.3, 0.6))
    assert (verdict, reason[:16]) == (UNCERTAIN, "probability 0.40")


def test_ties_stay_together() -> None:
    found = chosen([True] * 20 + [False] * 20, [0.5] * 40, 0.9)
    assert (found.covid_from, found.other_to) == (0.5, 0.5)
    assert [found.verdict(p) for p in (0.49, 0.5, 0.51)] == [NEGATIVE, UNCERTAIN, POSITIVE]


def test_too_few_are_always_uncertain() -> None:
    truth = [True] * 8 + [False] * 8
    found = chosen(truth, np.linspace(0, 1, 16).tolist()[::-1], 0.9)
    assert (found.covid_from, found.other_to) == (0, 1)
    assert found.never == (POSITIVE, NEGATIVE)
    assert {found.verdict(p) for p in (0.0, 0.3, 1.0)} == {UNCERTAIN}
    assert chosen([True] * 9 + [False] * 8, np.linspace(0, 1, 17).tolist()[::-1], 0.9).never == (POSITIVE,)


def test_slices_of_one_patient_do_not_make_up_for_patients() -> None:
    truth, probability = [True] * 80 + [False] * 80, [0.9] * 80 + [0.1] * 80
    eight = np.repeat(np.arange(16), 10)
    assert chosen(truth, probability, 0.9, eight).never == (POSITIVE, NEGATIVE)
    assert chosen(truth, probability, 0.9).never == ()


def test_a_group_of_many_slices_counts_as_one() -> None:
    """Nineteen patients of one slice at 0.8 and one of a thousand at 0.1: the many slices must not dominate."""
    truth = [True] * 1019 + [False] * 19
    probability = [0.8] * 19 + [0.1] * 1000 + [0.05] * 19
    units = np.array([*range(19), *[19] * 1000, *range(20, 39)])
    assert chosen(truth, probability, 0.9, units).covid_from == 0.8
    assert chosen(truth, probability, 0.9).covid_from == 0.1


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_an_absent_class_is_refused(truth: list[bool]) -> None:
    with pytest.raises(GroundglassError, match="no slice is labelled"):
        chosen(truth, [0.2, 0.7], 0.9)


@pytest.mark.parametrize("coverage", [0, 1, -0.2, 90])
def test_a_coverage_that_is_none_is_refused(coverage: float) -> None:
    with pytest.raises(GroundglassError, match="coverage"):
        chosen([True, False], [0.2, 0.7], coverage)


def draw(rng: np.random.Generator, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patients of one class each with 1 to 12 slices, which share most of their score."""
    sizes = rng.integers(1, 13, groups)
    units = np.repeat(np.arange(groups), sizes)
    truth = (np.arange(groups) % 2 == 0)[units]
    shared = rng.normal(0, 1, groups)[units]
    logits = np.where(truth, 1, -1) + shared + rng.normal(0, 0.4, len(units))
    return truth, 1 / (1 + np.exp(-logits)), units


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_holds_on_exchangeable_patients(coverage: float) -> None:
    """A slice of each of 40 new patients, against the choice on 60: over 300 draws, each class separately."""
    rng = np.random.default_rng(5)
    covered: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(300):
        found = choose_abstention(*draw(rng, 60), coverage=coverage)
        truth, probability, units = draw(rng, 40)
        first = np.unique(units, return_index=True)[1]
        truth, probability = truth[first], probability[first]
        covered[True].append(float((probability[truth] >= found.covid_from).mean()))
        covered[False].append(float((probability[~truth] <= found.other_to).mean()))
    for shares in covered.values():
        error = np.std(shares) / math.sqrt(len(shares))
        assert coverage - 3 * error <= np.mean(shares) <= coverage + 1 / 31 + 0.02 + 3 * error


def facts(**changed: object) -> BundleFacts:
    return BundleFacts.model_validate(Bundle.load("covid-ct-lite0").facts.model_dump() | changed)


def test_a_bundle_answers_by_its_abstention() -> None:
    plain = facts(temperature=1.0)
    unsure = facts(temperature=1.0, abstention=abstention(0.3, 0.6).model_dump())
    assert plain.answer(0.0).reason == ""
    assert [unsure.answer(logit).verdict for logit in (-2.0, 0.0, 2.0)] == [NEGATIVE, UNCERTAIN, POSITIVE]
    assert unsure.answer(0.0).reason == unsure.abstention.why(0.5)
    classes = facts(classes=("a", POSITIVE), temperature=1.0, abstention=abstention(0.3, 0.6).model_dump())
    assert [classes.answer([0, x]).predicted_class for x in (-2.0, 0.0, 2.0)] == ["a", "", POSITIVE]


def test_the_bias_is_added_to_the_calibrated_logit() -> None:
    answer = facts(temperature=2.0, bias=0.7).answer(-1.0)
    assert answer.probability == pytest.approx(1 / (1 + math.exp(0.5 - 0.7)))
    assert answer.score == pytest.approx(1 / (1 + math.exp(1)))


def test_the_card_says_what_uncertain_means() -> None:
    choice = abstention(0.3, 0.6).model_copy(
        update={"chosen": (Choice(what="chosen", data="100 slices of elsewhere"),)}
    )
    card = Bundle.card_of(facts(abstention=choice.model_dump()))
    assert "not covid below a probability of 0.300, covid over 0.600, uncertain between the two" in card
    assert "Coverage 90%" in card
    assert "on 100 slices of elsewhere" in card
    assert "uncertain" not in Bundle.card_of(facts())
