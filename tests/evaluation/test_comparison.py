from collections.abc import Callable, Sequence
from dataclasses import astuple, replace

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from groundglass.detect.patient_rule import PatientRule
from groundglass.errors import GroundglassError
from groundglass.evaluation.bootstrap import bootstrap_weights
from groundglass.evaluation.comparison import (
    BEST,
    BETTER,
    ENSEMBLE,
    INDISTINGUISHABLE,
    UNTESTED,
    WORSE,
    System,
    compare,
    ensemble_of,
)
from groundglass.evaluation.metrics import by_patient, evaluate, resampling_groups
from groundglass.evaluation.paired import delong, mcnemar
from groundglass.evaluation.predictions import unit_codes
from groundglass.labels import LUNG_AREAS, NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

ROWS, PATIENTS = 120, 40


def truth_of(frame: pd.DataFrame) -> np.ndarray:
    return (frame["label"] == POSITIVE).to_numpy()


def units_of(frame: pd.DataFrame) -> np.ndarray:
    return unit_codes(resampling_groups(frame))


def answered(frame: pd.DataFrame, probability: Sequence[float], threshold: float = 0.5) -> pd.DataFrame:
    """The slices of ``frame`` with different answers."""
    probability = np.asarray(probability, dtype=float)
    verdict = np.where(probability >= threshold, POSITIVE, NEGATIVE)
    return frame.assign(score=probability / 2, probability=probability, verdict=verdict)


@pytest.fixture
def system(random_table) -> Callable[..., System]:
    """A system whose members are better the greater ``skill`` is."""
    slices = random_table(ROWS, PATIENTS)

    def make(name: str, skill: float, members: int = 1, seed: int = 0, threshold: float = 0.5) -> System:
        generator = np.random.default_rng(seed)
        mean = skill * np.where(truth_of(slices), 1, -1)
        tables = tuple(
            answered(slices, np.round(1 / (1 + np.exp(-generator.normal(mean))), 2), threshold)
            for _ in range(members)
        )
        return System(name, tables, (threshold,) * members)

    return make


@pytest.fixture
def four(system) -> list[System]:
    return [
        system("poor", 0.1, members=2, seed=1),
        system("good", 1.0, members=3, seed=2),
        system("fair", 0.7, members=1, seed=3),
        system("weak", 0.4, members=2, seed=4),
    ]


def by_name(comparison):
    return {standing.name: standing for standing in comparison.standings}


def holm_by_hand(p_values: Sequence[float]) -> list[float]:
    order = np.argsort(p_values)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def test_a_single_member_has_the_metrics_and_intervals_of_its_evaluation(random_table):
    frame = random_table(ROWS, PATIENTS)
    comparison = compare([System("one", (frame,), (0.5,))], resamples=300, confidence=0.9, seed=3)
    (standing,) = comparison.standings
    alone = evaluate(frame, resamples=300, confidence=0.9, seed=3)
    assert standing.metrics == alone.metrics
    for name in ("count", "positives", "groups", "resampled_by", "resamples", "confidence", "seed"):
        assert getattr(comparison, name) == getattr(alone, name)
    assert standing.auc_spread == (alone.metrics["roc_auc"].value,) * 2


def test_metrics_are_means_over_the_members(four):
    good = four[1]
    standing = by_name(compare(four, resamples=20))["good"]
    truth = truth_of(good.members[0])
    aucs = [sk.roc_auc_score(truth, member["probability"]) for member in good.members]
    f1s = [sk.f1_score(truth, member["verdict"] == POSITIVE) for member in good.members]
    assert standing.members == 3
    assert standing.member_aucs == pytest.approx(aucs)
    assert standing.auc_spread == pytest.approx((min(aucs), max(aucs)))
    assert standing.metrics["roc_auc"].value == pytest.approx(np.mean(aucs))
    assert standing.metrics["f1"].value == pytest.approx(np.mean(f1s))


def test_the_interval_is_of_the_mean_over_members_in_the_same_resamples(four):
    good = four[1]
    standing = by_name(compare(four, resamples=40, confidence=0.8, seed=5))["good"]
    slices = good.members[0]
    (weights,) = bootstrap_weights(units_of(slices), 40, 5)
    truth = truth_of(slices)
    aucs = [
        [sk.roc_auc_score(truth, member["probability"], sample_weight=weighting) for member in good.members]
        for weighting in weights
    ]
    means = np.mean(aucs, axis=1)
    auc = standing.metrics["roc_auc"]
    assert (auc.low, auc.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))


def test_systems_are_ranked_by_auc_with_the_ensemble_behind_them(four):
    comparison = compare(four, resamples=20)
    assert [standing.name for standing in comparison.standings] == ["good", "fair", "weak", "poor", ENSEMBLE]
    assert [standing.name for standing in comparison.ranked] == ["good", "fair", "weak", "poor"]
    assert comparison.best == "good"
    aucs = [standing.metrics["roc_auc"].value for standing in comparison.ranked]
    assert aucs == sorted(aucs, reverse=True)


def test_each_is_tested_against_the_best_and_corrected_with_the_ensemble(four):
    comparison = compare(four, resamples=20, confidence=0.9)
    entrants = {system.name: system.members for system in four} | {ENSEMBLE: (ensemble_of(four),)}
    truth, units = truth_of(four[0].members[0]), units_of(four[0].members[0])
    probability = {n: np.stack([m["probability"] for m in members]) for n, members in entrants.items()}
    right = {
        n: np.stack([(m["verdict"] == POSITIVE) == truth for m in members]) for n, members in entrants.items()
    }
    best, *others = comparison.standings
    aucs = [delong(truth, probability["good"], probability[s.name], units, 0.9) for s in others]
    accuracies = [mcnemar(right["good"], right[s.name], units, 0.9) for s in others]
    assert [standing.auc_test for standing in others] == aucs
    assert [standing.accuracy_test for standing in others] == accuracies
    assert [s.auc_p for s in others] == pytest.approx(holm_by_hand([test.p_value for test in aucs]))
    assert [s.accuracy_p for s in others] == pytest.approx(holm_by_hand([t.p_value for t in accuracies]))
    assert others[-2].auc_test.difference == pytest.approx(
        best.metrics["roc_auc"].value - others[-2].metrics["roc_auc"].value
    )
    assert (best.auc_test, best.accuracy_test, best.auc_p, best.accuracy_p) == (None,) * 4


def test_verdicts_follow_the_corrected_p_value(four):
    verdicts = {s.name: s.verdict for s in compare(four, resamples=20).standings}
    assert verdicts["good"] == BEST
    assert verdicts["fair"] == INDISTINGUISHABLE
    assert verdicts["poor"] == WORSE
    weak = by_name(compare(four, resamples=20))["weak"]
    assert weak.auc_test.p_value < weak.auc_p < 0.05
    between = (weak.auc_test.p_value + weak.auc_p) / 2
    assert by_name(compare(four, resamples=20, alpha=between))["weak"].verdict == INDISTINGUISHABLE
    assert by_name(compare(four, resamples=20, alpha=weak.auc_p))["weak"].verdict == INDISTINGUISHABLE


def test_an_ensemble_can_be_better_than_the_best(system):
    systems = [system(f"s{seed}", 0.5, seed=seed) for seed in range(6)]
    ensemble = compare(systems, resamples=20).standings[-1]
    assert ensemble.verdict == BETTER
    assert ensemble.auc_test.difference < 0


def test_the_ensemble_weighs_systems_and_not_members(table):
    slices = table([True, False, True], [0.5] * 3)
    one = System("one", (answered(slices, [0.2, 0.4, 0.9]), answered(slices, [0.4, 0.8, 0.9])), (0.3, 0.5))
    two = System("two", (answered(slices, [0.9, 0.4, 0.1]),), (0.9,))
    ensemble = ensemble_of([one, two])
    # (0.3 + 0.9) / 2, (0.6 + 0.4) / 2, (0.9 + 0.1) / 2; the threshold is (0.4 + 0.9) / 2.
    assert ensemble["probability"].tolist() == pytest.approx([0.6, 0.5, 0.5])
    assert ensemble["score"].tolist() == pytest.approx([0.3, 0.25, 0.25])
    assert ensemble["verdict"].tolist() == [NEGATIVE] * 3
    lower = ensemble_of([one, System("two", two.members, (0.7,))])
    assert lower["verdict"].tolist() == [POSITIVE, NEGATIVE, NEGATIVE]
    standing = compare([one, two], resamples=20).standings[-1]
    assert (standing.members, standing.metrics["roc_auc"].value) == (1, 0.75)


def test_the_ensemble_rejects_what_all_members_reject(table):
    slices = table([True, False, False], [0.9, 0.1, 0.1])
    first = slices.assign(verdict=[NOT_A_CHEST_CT, NOT_A_CHEST_CT, UNCERTAIN])
    second = slices.assign(verdict=[POSITIVE, NOT_A_CHEST_CT, NOT_A_CHEST_CT])
    ensemble = ensemble_of([System("a", (first,), (0.5,)), System("b", (second,), (0.5,))])
    assert ensemble["verdict"].tolist() == [POSITIVE, NOT_A_CHEST_CT, UNCERTAIN]


def test_agreement_is_over_pairs_of_members(four):
    comparison = compare(four, resamples=20)
    members = {system.name: system.members for system in four}
    pairs = [(a["verdict"], b["verdict"]) for a in members["good"] for b in members["poor"]]
    own = [
        (members["good"][a]["verdict"], members["good"][b]["verdict"]) for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    for names, of in ((("good", "poor"), pairs), (("poor", "good"), pairs), (("good", "good"), own)):
        assert comparison.agreement.loc[names] == pytest.approx(np.mean([(a == b).mean() for a, b in of]))
        assert comparison.kappa.loc[names] == pytest.approx(
            np.mean([sk.cohen_kappa_score(a, b) for a, b in of])
        )
    assert list(comparison.agreement.index) == list(comparison.agreement.columns)
    assert list(comparison.kappa.index) == ["good", "fair", "weak", "poor"]
    assert comparison.agreement.loc["fair", "fair"] == comparison.kappa.loc["fair", "fair"] == 1.0


def test_kappa_is_that_of_all_four_verdicts(table):
    slices = table([True, False, True, False, True], [0.9, 0.1, 0.8, 0.3, 0.4])
    a = slices.assign(verdict=[POSITIVE, UNCERTAIN, NOT_A_CHEST_CT, NEGATIVE, NEGATIVE])
    b = slices.assign(verdict=[POSITIVE, UNCERTAIN, POSITIVE, UNCERTAIN, NEGATIVE])
    comparison = compare([System("a", (a,), (0.5,)), System("b", (b,), (0.5,))], resamples=20)
    assert comparison.agreement.loc["a", "b"] == pytest.approx(3 / 5)
    assert comparison.kappa.loc["a", "b"] == pytest.approx(sk.cohen_kappa_score(a["verdict"], b["verdict"]))


def test_kappa_of_systems_that_never_differ_is_undefined_and_left_out_of_means(table):
    slices = table([True, False, True, False], [0.9, 0.8, 0.7, 0.6])
    mixed = answered(slices, [0.9, 0.1, 0.9, 0.1])
    constant = System("constant", (slices,), (0.5,))
    comparison = compare([constant, System("both", (slices, mixed), (0.5, 0.5))], resamples=20)
    assert comparison.agreement.loc["constant", "both"] == pytest.approx((1 + 0.5) / 2)
    # Against a constant, kappa is 0 where it is defined.
    assert comparison.kappa.loc["constant", "both"] == 0.0
    never = compare([constant, System("same", (slices,), (0.5,))], resamples=20)
    assert np.isnan(never.kappa.loc["constant", "same"])


def test_slices_that_most_members_of_every_system_get_wrong(table):
    slices = table([True, True, True, False, False], [0.5] * 5)
    # The first slice is wrong in 2 of 3 and in all, the second in 1 of 2 only, the last is not answered.
    a = tuple(
        answered(slices, probability)
        for probability in ([0.1, 0.1, 0.9, 0.1, 0.9], [0.2, 0.1, 0.9, 0.1, 0.9], [0.9, 0.1, 0.9, 0.9, 0.9])
    )
    b = tuple(answered(slices, p) for p in ([0.3, 0.1, 0.9, 0.9, 0.9], [0.1, 0.9, 0.9, 0.9, 0.9]))
    b = tuple(member.assign(verdict=[*member["verdict"][:4], UNCERTAIN]) for member in b)
    wrong = compare([System("a", a, (0.5,) * 3), System("b", b, (0.5,) * 2)], resamples=20).all_wrong
    assert wrong[["path", "label"]].to_numpy().tolist() == [["slice 0.png", POSITIVE]]
    assert wrong.loc[0, ["a", "b"]].tolist() == pytest.approx([0.4, 0.2])


def test_rows_are_aligned_by_path(four):
    shuffled = [
        System(
            system.name, tuple(m.sample(frac=1, random_state=n) for m in system.members), system.thresholds
        )
        for n, system in enumerate(four)
    ]
    # The first member sets the order of the slices, and hence the resamples.
    shuffled[0] = System("poor", (four[0].members[0], shuffled[0].members[1]), (0.5, 0.5))
    ordered, other = compare(four, resamples=50), compare(shuffled, resamples=50)
    assert other.standings == ordered.standings
    pd.testing.assert_frame_equal(other.agreement, ordered.agreement)
    pd.testing.assert_frame_equal(other.all_wrong, ordered.all_wrong)
    pd.testing.assert_frame_equal(ensemble_of(shuffled), ensemble_of(four))


def test_a_comparison_leaves_its_tables_as_they_were(four):
    before = [member.copy() for system in four for member in system.members]
    compare(four, resamples=20)
    for one, other in zip(before, (member for system in four for member in system.members), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_what_a_member_leaves_unanswered_is_left_out_of_the_tests_of_accuracy(four):
    first, second = four[0].members
    verdict = second["verdict"].copy()
    verdict[[0, 5]], verdict[7] = UNCERTAIN, NOT_A_CHEST_CT
    four[0] = System("poor", (first, second.assign(verdict=verdict)), (0.5, 0.5))
    comparison = compare(four, resamples=20)
    slices = four[0].members[0].drop(index=[0, 5, 7])
    right = {
        system.name: np.stack(
            [(m.loc[slices.index, "verdict"] == POSITIVE) == truth_of(slices) for m in system.members]
        )
        for system in four
    }
    for name in ("fair", "poor"):
        expected = mcnemar(right["good"], right[name], units_of(slices))
        assert astuple(by_name(comparison)[name].accuracy_test) == pytest.approx(astuple(expected))
    assert any(
        note.startswith("Without a positive or negative verdict from some member: 3 of 120 slices (poor 3).")
        for note in comparison.notes
    )
    assert by_name(comparison)["poor"].metrics["coverage"].value == pytest.approx((1 + 117 / 120) / 2)


def test_no_common_answers_leave_accuracy_untested(four):
    silent = four[2].members[0].assign(verdict=UNCERTAIN)
    comparison = compare([*four[:2], System("fair", (silent,), (0.5,))], resamples=20)
    assert by_name(comparison)["poor"].accuracy_test is None
    assert by_name(comparison)["poor"].accuracy_p is None
    assert by_name(comparison)["poor"].auc_p is not None
    assert any(
        note.startswith("Not tested: accuracies are compared across patients") for note in comparison.notes
    )
    assert "Accuracy of fair is undefined: nothing answered." in comparison.notes


def test_a_single_patient_allows_neither_intervals_nor_tests(table):
    slices = table([True, False, True, False], [0.9, 0.3, 0.4, 0.6], patient=["p"] * 4)
    other = answered(slices, [0.9, 0.1, 0.8, 0.2])
    comparison = compare([System("a", (slices,), (0.5,)), System("b", (other,), (0.5,))], resamples=20)
    assert [standing.verdict for standing in comparison.standings] == [BEST, UNTESTED, UNTESTED]
    assert comparison.standings[0].metrics["roc_auc"].low is None
    assert "All are of one patient: no interval can be given." in comparison.notes
    assert any(note.startswith("Not tested: AUCs are compared across patients") for note in comparison.notes)
    assert not any("chosen as the best" in note for note in comparison.notes)


def test_equal_systems_are_indistinguishable_and_no_variance_is_no_test(table):
    slices = table([True, True, False, False], [0.9, 0.8, 0.2, 0.1])
    same = compare([System("a", (slices,), (0.5,)), System("b", (slices,), (0.5,))], resamples=20)
    assert (same.best, same.standings[1].verdict, same.standings[1].auc_p) == ("a", INDISTINGUISHABLE, 1.0)
    constant = System("constant", (answered(slices, [0.5] * 4),), (0.5,))
    other = compare([System("perfect", (slices,), (0.5,)), constant], resamples=20)
    assert (other.standings[1].auc_p, other.standings[1].verdict) == (None, UNTESTED)


def test_a_lone_system_has_neither_tests_nor_an_ensemble(four):
    comparison = compare(four[1:2], resamples=20)
    (standing,) = comparison.standings
    assert (standing.verdict, standing.auc_test, comparison.best) == (BEST, None, "good")
    assert comparison.agreement.shape == (1, 1)
    assert not any("picked" in note for note in comparison.notes)


def test_notes_say_how_far_the_comparison_can_be_trusted(four):
    comparison = compare(four, resamples=20)
    halves = [(s.auc_test.high - s.auc_test.low) / 2 for s in comparison.ranked[1:]]
    (note,) = (note for note in comparison.notes if note.startswith("good was chosen as the best"))
    groups = four[0].members[0]["patient"].nunique()
    assert (
        f"with {groups} patients, differences in AUC below about {np.median(halves):.2g} go undetected"
        in note
    )
    assert "Trained only once, so the variation between seeds is not measured: fair." in comparison.notes
    assert any("intervals reflect the sampling of patients" in note for note in comparison.notes)


def test_notes_on_the_slices_are_those_of_an_evaluation(table):
    slices = table([True, True, False, False], [0.9, 0.3, 0.6, 0.1], patient=[""] * 4)
    notes = compare([System("a", (slices,), (0.5,))], resamples=20).notes
    assert any(note.startswith("No patient or group is named for 4 of 4 slices") for note in notes)
    assert any(note.startswith("Only 2 slices labelled covid") for note in notes)


def test_an_undefined_metric_of_some_member_is_undefined_and_noted(table):
    slices = table([True, True, False, False], [0.9, 0.8, 0.2, 0.1])
    never = answered(slices, [0.4, 0.3, 0.2, 0.1])
    comparison = compare([System("a", (slices, never), (0.5, 0.5))], resamples=20)
    assert comparison.standings[0].metrics["ppv"].value is None
    assert "PPV (precision) of some member of a is undefined: nothing answered covid." in comparison.notes


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frame: frame.drop(index=[3, 4]), r"different slices .*: 2 are .* slice 3\.png; run every"),
        (lambda frame: pd.concat([frame, frame.head(1).assign(path="new.png")]), r": 1 are .* new\.png; run"),
        (
            lambda frame: frame.assign(label=frame["label"].where(frame.index != 6, "unlike")),
            r"label differs from the first member's in row slice 6\.png \(got 'unlike'\); run every",
        ),
        (lambda frame: frame.assign(patient="p"), "patient differs from the first member's"),
        (lambda frame: frame.assign(group="g"), "group differs from the first member's"),
        (lambda frame: pd.concat([frame, frame.head(1)], ignore_index=True), "path occurs twice in row 120"),
        (lambda frame: frame.assign(probability=2), "probability is not a number"),
    ],
)
def test_members_of_other_slices_are_refused(four, spoil, message):
    four[2] = System("fair", (spoil(four[2].members[0]),), (0.5,))
    with pytest.raises(GroundglassError, match=f"fair, member 1: .*{message}"):
        compare(four, resamples=20)
    with pytest.raises(GroundglassError, match=message):
        ensemble_of(four)


def test_what_cannot_be_compared_is_refused(table, four):
    with pytest.raises(GroundglassError, match="no system to compare"):
        compare([])
    for name in ("poor", ENSEMBLE, "path"):
        with pytest.raises(GroundglassError, match=f"two systems have the name '{name}'"):
            compare([*four, System(name, four[0].members, (0.5, 0.5))])
    with pytest.raises(GroundglassError, match="a: needs predictions, and a threshold for each table"):
        compare([System("a", four[0].members, (0.5,))])
    with pytest.raises(GroundglassError, match="a: needs predictions"):
        compare([System("a", (), ())])
    with pytest.raises(GroundglassError, match="of one class only"):
        compare([System("a", (table([True, True], [0.9, 0.1]),), (0.5,))])
    with pytest.raises(GroundglassError, match="alpha must be between 0 and 1"):
        compare(four, alpha=5)
    with pytest.raises(GroundglassError, match="confidence between 0 and 1"):
        compare(four, confidence=95)


def test_patients_are_compared_by_the_rule_that_ships_where_lung_areas_are_known(four):
    rule = PatientRule(
        aggregation="lesion share", weights={"lesion_share": 1.0}, intercept=2.0, threshold=0.4
    )
    areas = dict(zip(LUNG_AREAS, (500, 500, 30, 10), strict=True))
    with_areas = tuple(member.assign(**areas) for member in four[0].members)
    known = replace(four[0], members=with_areas, rules=(rule,) * len(with_areas))
    comparison = compare([known, four[1]], resamples=20, unit="patient")
    patients = [by_patient(member, 0.5, rule) for member in with_areas]
    assert (comparison.unit, comparison.count) == ("patient", len(patients[0]))
    for row, (system, tables) in enumerate([(known, patients), (four[1], None)]):
        tables = tables or [by_patient(member, 0.5) for member in system.members]
        own = by_name(comparison)[system.name]
        expected = [evaluate(table, resamples=2, unit="patient").metrics for table in tables]
        for name in ("roc_auc", "brier", "coverage"):
            assert own.metrics[name].value == pytest.approx(np.mean([one[name].value for one in expected])), (
                row
            )
    assert known.of_patients()[0].thresholds == (0.4,) * len(with_areas)
    told = " ".join(comparison.notes)
    assert f"{known.name} answers for patients by the detector's patient rule, lesion share." in told
    assert f"{four[1].name} answers for patients by the mean of the slices' probabilities" in told


def test_patients_cannot_be_compared_where_none_is_named(four):
    nameless = [
        replace(system, members=tuple(member.assign(patient="") for member in system.members))
        for system in four
    ]
    with pytest.raises(GroundglassError, match="no slice names its patient"):
        compare(nameless, resamples=20, unit="patient")
