"""Settings: likelihood ratios of slices and patients, and the verdicts that follow from them."""

import math
from dataclasses import replace

import pytest

from groundglass.detect.abstention import Abstention
from groundglass.detect.bundle import Bundle, BundleFacts
from groundglass.detect.findings import SliceFinding
from groundglass.detect.patient import conclude
from groundglass.detect.setting import LARGEST, LikelihoodRatio, Setting
from groundglass.errors import BundleError
from groundglass.labels import NEGATIVE, POSITIVE, UNCERTAIN

ABSTENTION = Abstention(covid_from=0.25, other_to=0.75, coverage=0.9, cases=100, groups=50)
DIFFERENTIAL = Setting(
    weights=(0.0, 1.0, 0.0),
    draws=((-0.5, 1.0, 0.0), (0.5, 1.0, 0.0)),
    abstention=ABSTENTION,
    sources=("here",),
)
SCREENING = Setting(weights=(5.0, 0.0, 1.0), abstention=ABSTENTION)


@pytest.fixture
def facts() -> BundleFacts:
    settings = {"differential": DIFFERENTIAL, "screening": SCREENING}
    bare = Bundle.load("covid-ct-lite0").facts.model_copy(update={"settings": settings})
    return bare.in_setting("differential")


def slices(facts: BundleFacts, logits: list[float], share: float) -> list[SliceFinding]:
    lungs, lesions = (5000, 5000), (round(5000 * share), round(5000 * share))
    return [
        replace(facts.answer(logit, share), lungs_px=lungs, lesions_px=lesions, number=number)
        for number, logit in enumerate(logits, 1)
    ]


def test_the_ratio_of_a_slice_is_the_weighted_sum(facts: BundleFacts) -> None:
    found = facts.answer(math.log(4), 0.05)
    differential, screening = found.likelihood_ratios
    assert (differential.setting, differential.validated) == ("differential", True)
    assert differential.ratio == pytest.approx(4)
    assert differential.low == pytest.approx(4 * math.exp(-0.475))
    assert screening.ratio == pytest.approx(math.exp(5) * 0.051)
    assert not screening.validated
    assert found.probability == pytest.approx(0.8)
    assert found.verdict == POSITIVE


def test_the_setting_decides_the_verdict(facts: BundleFacts) -> None:
    assert facts.answer(-3.0, 0.2).verdict == NEGATIVE
    screening = facts.in_setting("screening")
    assert screening.answer(-3.0, 0.2).verdict == POSITIVE
    assert screening.stored() == facts
    with pytest.raises(
        BundleError, match="does not know the setting 'triage'; it knows differential, screening"
    ):
        facts.in_setting("triage")


def test_a_pretest_probability_changes_nothing_but_adds_one_after_the_scan(facts: BundleFacts) -> None:
    plain, with_pretest = (
        one.answer(math.log(4), 0.05) for one in (facts, facts.in_setting("differential", 0.2))
    )
    assert (plain.probability, plain.verdict) == (with_pretest.probability, with_pretest.verdict)
    assert "post_test" not in plain.likelihood_ratios[0].to_dict()
    assert with_pretest.likelihood_ratios[0].to_dict()["post_test"] == pytest.approx(0.5)
    assert "post-test probability 0.50" in str(with_pretest.likelihood_ratios[0])


def test_ratios_stay_within_what_the_data_can_tell() -> None:
    ratio = Setting(weights=(0.0, 1.0, 0.0)).ratio("screening", [50.0])
    assert ratio == LikelihoodRatio("screening", *[pytest.approx(LARGEST)] * 3, validated=False)


def test_a_patient_is_no_more_certain_than_the_slices(facts: BundleFacts) -> None:
    found = conclude(facts, slices(facts, [1.0] * 40, 0.1), None, None)
    differential = found.likelihood_ratios[0]
    assert differential.ratio == pytest.approx(math.e, rel=1e-3)
    assert differential.low == pytest.approx(math.exp(1 - 0.475), rel=0.03)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-3)


def test_lesions_alone_leave_the_cause_open_and_without_them_nothing_speaks_for_covid(
    facts: BundleFacts,
) -> None:
    open_ = conclude(facts, slices(facts, [0.2] * 40, 0.1), None, None)
    assert (open_.verdict, open_.reason[:28]) == (UNCERTAIN, "lesions present, cause open:")
    assert conclude(facts, slices(facts, [5.0] * 40, 0.001), None, None).verdict == NEGATIVE
    assert conclude(facts, slices(facts, [5.0] * 40, 0.1), None, None).verdict == POSITIVE
