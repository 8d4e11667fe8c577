from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from groundglass.detect.abstention import Abstention
from groundglass.detect.bundle import BundleFacts
from groundglass.detect.detector import Detector
from groundglass.detect.findings import SliceFinding
from groundglass.detect.patient import conclude, enough_lung, severity
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN
from groundglass.scan.scan import Scan
from groundglass.segment.extent import ZONES

DOC = Path(__file__).parents[2] / "docs" / "bad-input.md"


def lung_slices(count: int, lungs: int = 20000, lesions: int = 0) -> list[SliceFinding]:
    return [
        SliceFinding(
            *((0.3, 0.3) if 0 < n < count - 1 else (None, None)),
            reason="" if 0 < n < count - 1 else "no lungs found",
            number=n + 1,
            height_mm=n * 5.0,
            counted=0 < n < count - 1,
            lungs_px=(lungs, lungs) if 0 < n < count - 1 else (0, 0),
            lesions_px=(lesions, 0) if 0 < n < count - 1 else (0, 0),
        )
        for n in range(count)
    ]


@pytest.fixture
def screening(shipped_detector: Detector) -> BundleFacts:
    """The shipped detector's facts in the setting that has a rule for patients."""
    return shipped_detector.bundle.facts.in_setting("screening")


def test_volumes_in_ml(screening: BundleFacts) -> None:
    slices = lung_slices(12, lesions=2000)
    finding = conclude(screening, slices, np.full(12, 5.0), 0.5)
    assert finding.extent["right"].lung_ml == pytest.approx(10 * 20000 * 0.5 * 5 / 1000)
    assert finding.extent["right"].lesion_share == pytest.approx(0.1)
    assert finding.extent["left"].lesion_ml == 0
    assert finding.extent["both"].lesion_share == pytest.approx(0.05)
    assert (finding.verdict, finding.severity) == (POSITIVE, "CT-1, mild")


def test_healthy_lungs(screening: BundleFacts) -> None:
    finding = conclude(screening, lung_slices(12), np.full(12, 5.0), 0.5)
    assert (finding.verdict, finding.severity) == (NEGATIVE, "CT-0, none or minimal")
    assert finding.warnings == ()


def test_without_spacing_shares_are_known_and_volumes_are_not(screening: BundleFacts) -> None:
    finding = conclude(screening, lung_slices(12, lesions=2000), None, None)
    assert finding.extent["both"].lung_ml is None
    assert finding.extent["both"].lesion_share == pytest.approx(0.05)


def test_without_lungs_it_is_not_a_chest(screening: BundleFacts) -> None:
    slices = [SliceFinding(number=n + 1, reason="no lungs found") for n in range(9)]
    finding = conclude(screening, slices, np.ones(9), 1.0)
    assert (finding.verdict, finding.probability) == (NOT_A_CHEST_CT, None)
    assert finding.reason == "lungs were found on 0 of 9 slices"


def test_too_little_lung_is_not_a_chest(screening: BundleFacts) -> None:
    finding = conclude(screening, lung_slices(12, lungs=200), np.full(12, 5.0), 0.5)
    assert finding.verdict == NOT_A_CHEST_CT
    assert "10 ml (at least 300 ml are needed)" in finding.reason


def infant(count: int = 12) -> list[SliceFinding]:
    """The slices of lungs of 257 ml, at 5 mm and 0.5 mm² per pixel."""
    return lung_slices(count, lungs=5140)


@pytest.mark.parametrize(
    ("age", "refused"), [(0.25, False), (2.0, False), (2.5, True), (18.0, True), (None, False)]
)
def test_a_child_may_have_small_lungs(screening: BundleFacts, age: float | None, refused: bool) -> None:
    finding = conclude(screening, infant(), np.full(12, 5.0), 0.5, age_years=age)
    assert (finding.verdict == NOT_A_CHEST_CT) == refused
    assert any("was made for adults" in warning for warning in finding.warnings) != refused


def test_small_lungs_of_unknown_age_must_be_on_most_slices(screening: BundleFacts) -> None:
    slices = [
        *lung_slices(12, lungs=5140),
        *(SliceFinding(number=n, reason="no lungs") for n in range(13, 26)),
    ]
    finding = conclude(screening, slices, np.full(25, 5.0), 0.5)
    assert finding.verdict == NOT_A_CHEST_CT
    tiny = conclude(screening, lung_slices(12, lungs=900), np.full(12, 5.0), 0.5)
    assert "45 ml (at least 300 ml" in tiny.reason


def test_what_is_refused_has_neither_probability_nor_lesions(screening: BundleFacts) -> None:
    slices = lung_slices(12, lungs=200, lesions=100)
    document = conclude(screening, slices, np.full(12, 5.0), 0.5).to_dict()
    assert document["verdict"] == NOT_A_CHEST_CT
    assert document["both"]["lung_ml"] > 0
    for one in (document["right"], document["left"], document["both"], *document["slices"]):
        assert all(one.get(name) is None for name in ("lesion_share", "lesion_ml", "probability", "score"))


@pytest.mark.parametrize(
    ("left", "said"),
    [(0, "the left lung was not found"), (6000, "the left lung holds only 30% of the right one"), (9000, "")],
)
def test_a_missing_or_small_lung_is_reported(screening: BundleFacts, left: int, said: str) -> None:
    slices = [
        replace(one, lungs_px=(one.lungs_px[0], left if sum(one.lungs_px) else 0))
        for one in lung_slices(12, lesions=1000)
    ]
    finding = conclude(screening, slices, np.full(12, 5.0), 0.5)
    assert any(said and said in warning for warning in finding.warnings) == bool(said)
    assert (finding.severity == "") == bool(said)
    assert finding.probability is not None


def documented() -> dict[str, str]:
    """The message for each kind of chest that is not treated like an adult's, as in docs/bad-input.md."""
    text = (
        DOC.read_text(encoding="utf-8")
        .split("## Scans that are read, but not answered", 1)[1]
        .split("\n## ", 1)[0]
    )
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ") and "“" in line]
    return {kind.strip(): message.strip(" “”") for kind, _, message, _ in rows}


def test_the_documented_messages_are_the_ones_given(
    shipped_detector: Detector, screening: BundleFacts
) -> None:
    facts, five, half = screening, np.full(12, 5.0), 0.5
    one_sided = [replace(one, lungs_px=(one.lungs_px[0], 0)) for one in lung_slices(12, lesions=1000)]
    ramp = Scan(np.tile(np.linspace(0, 1, 200, dtype=np.float32), (200, 1)), is_hu=False, scan_id="ramp")
    given = {
        "a picture that is not an axial chest CT": [shipped_detector(ramp).reason],
        "a volume with lungs on fewer than three slices, or with too small lungs": [
            conclude(facts, lung_slices(12, lungs=200), five, half).reason
        ],
        "one lung is missing or far smaller than the other": conclude(facts, one_sided, five, half).warnings,
        "an infant's lungs, with PatientAge": conclude(facts, infant(), five, half, age_years=0.25).warnings,
        "small lungs on most slices, without PatientAge": conclude(facts, infant(), five, half).warnings,
    }
    assert given.keys() == documented().keys()
    for kind, message in documented().items():
        assert any(message in one for one in given[kind]), kind


def test_lungs_cut_off_by_the_volume_are_reported(screening: BundleFacts) -> None:
    finding = conclude(screening, lung_slices(12)[1:], np.full(11, 5.0), 0.5)
    assert any("extend below the volume" in warning for warning in finding.warnings)
    assert finding.to_dict()["zones"] == {}


def test_types_and_zones_in_the_document(screening: BundleFacts) -> None:
    slices = [
        replace(one, consolidation_px=(500, 0)) if one.counted else one
        for one in lung_slices(12, lesions=2000)
    ]
    finding = conclude(screening, slices, np.full(12, 5.0), 0.5)
    document = finding.to_dict()
    assert list(document["zones"]) == list(ZONES)
    assert document["zones"]["right_upper"] == {
        "lung_ml": 166.667,
        "lesion_ml": 16.667,
        "lesion_share": 0.1,
        "ground_glass_ml": 12.5,
        "consolidation_ml": 4.167,
        "ground_glass_share": 0.075,
        "consolidation_share": 0.025,
    }
    assert document["both"]["consolidation_ml"] == 12.5
    assert "lesions in 5.0% of the lungs (ground glass 3.8%, consolidation 1.2%)" in finding.headline()
    unsure = conclude(screening, slices, np.full(12, 5.0), 0.5, oriented=False)
    without_sides = unsure.to_dict()
    assert without_sides["zones"] == {}
    assert without_sides["right"] is without_sides["left"] is None
    assert without_sides["slices"][5]["lungs_px"] == {"right": None, "left": None}
    assert without_sides["both"] == document["both"]


def test_a_bundle_without_a_rule_says_so(screening: BundleFacts) -> None:
    facts = screening.model_copy(update={"patient": None, "settings": {}, "setting": "", "abstention": None})
    finding = conclude(facts, lung_slices(12), np.full(12, 5.0), 0.5)
    assert finding.probability == pytest.approx(0.3)
    assert any("no rule for patients" in warning for warning in finding.warnings)


def test_tips_of_the_lungs_do_not_count() -> None:
    slices = lung_slices(5)
    slices[1] = replace(slices[1], lungs_px=(1000, 900))
    assert enough_lung(slices) == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("share", "band"),
    [(0.0, "CT-0"), (0.003, "CT-1"), (0.25, "CT-1"), (0.26, "CT-2"), (0.7, "CT-3"), (0.9, "CT-4")],
)
def test_severity_bands(share: float, band: str) -> None:
    assert severity(share).startswith(band)


def test_no_share_no_band() -> None:
    assert severity(None) == ""


def test_a_rule_may_be_uncertain(screening: BundleFacts) -> None:
    facts, slices = screening, lung_slices(12, lesions=2000)
    probability = conclude(facts, slices, None, None).probability
    around = Abstention(
        covid_from=probability - 0.01, other_to=probability + 0.01, coverage=0.9, cases=60, groups=60
    )
    unsure = facts.model_copy(update={"patient": facts.patient.model_copy(update={"abstention": around})})
    finding = conclude(unsure, slices, None, None)
    assert (finding.verdict, finding.probability) == (UNCERTAIN, probability)
    assert "both answers remain possible with 90% coverage" in finding.reason
    assert finding.to_dict()["reason"] == finding.reason
    assert conclude(unsure, lung_slices(12), None, None).verdict == NEGATIVE
