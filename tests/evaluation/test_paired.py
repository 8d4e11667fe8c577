from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import chi2, norm
from sklearn.metrics import roc_auc_score

from groundglass.errors import GroundglassError
from groundglass.evaluation.paired import delong, holm, mcnemar, structural_components

# SAS/STAT User's Guide, The LOGISTIC Procedure, Comparing Receiver Operating Characteristic Curves: the
# 43 complete patients of DeLong, DeLong & Clarke-Pearson 1988. Albumin, total protein, 10 less the K-G score
# and the outcome.
OVARIAN = np.fromstring(
    """
    3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0
    1.6 5.6  5 1   3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1   4.1 6.6  5 1   3.6 5.7  5 1
    4.3 7.0  4 1   3.6 6.7  4 0   2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1
    3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1   3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1
    3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0   3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1
    3.5 6.2  5 1   2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1   3.3 5.7  6 1   3.7 6.9  5 1
    3.6 6.6  5 1
    """,
    sep=" ",
).reshape(-1, 4)
ALBUMIN, PROTEIN, K_G = OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]


def by_definition(truth, a, b, units):
    """Obuchowski's difference and variance, with her sums written out and every covariance between members."""
    scores = np.concatenate([a, b])
    contrast = np.repeat([1 / len(a), -1 / len(b)], [len(a), len(b)])
    names = np.unique(units)
    m, n = (np.array([(of & (units == name)).sum() for name in names]) for of in (truth, ~truth))
    areas, x, y = [], [], []
    for score in scores:
        kernel = np.array([[(p > q) + (p == q) / 2 for q in score[~truth]] for p in score[truth]])
        areas.append(kernel.mean())
        x.append([kernel[units[truth] == name].sum() / n.sum() for name in names])
        y.append([kernel[:, units[~truth] == name].sum() / m.sum() for name in names])
    areas = np.array(areas)
    x, y = np.array(x) - np.outer(areas, m), np.array(y) - np.outer(areas, n)
    with_positive, with_negative, every = (m > 0).sum(), (n > 0).sum(), len(names)
    s10 = with_positive / (with_positive - 1) / m.sum() * x @ x.T
    s01 = with_negative / (with_negative - 1) / n.sum() * y @ y.T
    s11 = every / (every - 1) * x @ y.T
    covariance = s10 / m.sum() + s01 / n.sum() + (s11 + s11.T) / (m.sum() * n.sum())
    return contrast @ areas, contrast @ covariance @ contrast


def random_systems(slices, patients, seed, members=(3, 2)):
    """Truth, two systems of several members and the patients, most of whom have slices of both classes."""
    generator = np.random.default_rng(seed)
    units = generator.integers(patients, size=slices)
    truth = generator.random(slices) < np.where(units % 3 == 0, 1, 0.4)
    signal = truth + generator.normal(size=patients)[units]
    # Rounding makes ties.
    a, b = (np.round(signal + generator.normal(size=(count, slices)), 1) for count in members)
    return truth, a, b, units


def test_delong_gives_what_sas_gives_for_delongs_patients():
    truth, patients = OVARIAN[:, 3] == 1, np.arange(len(OVARIAN))
    albumin = delong(truth, ALBUMIN[None], K_G[None], patients)
    assert astuple(albumin) == pytest.approx((0.0108, -0.1761, 0.1976, 0.9102), abs=5e-5)
    protein = delong(truth, PROTEIN[None], K_G[None], patients)
    assert astuple(protein) == pytest.approx((-0.0780, -0.2830, 0.1271, 0.4561), abs=5e-5)


def test_delong_on_four_slices_worked_by_hand():
    # Components of a: positives 1 and 1/2, negatives 1 and 1/2, AUC 3/4; of b: all 1/2, AUC 1/2. The gain has
    # in each class the values 1/2 and 0, variance 1/8, so the variance of the difference is 1/16 + 1/16.
    truth = np.array([True, True, False, False])
    result = delong(truth, np.array([[0.9, 0.5, 0.1, 0.7]]), np.full((1, 4), 0.5), np.arange(4))
    assert result.difference == pytest.approx(0.25)
    assert (result.high - result.low) / 2 == pytest.approx(1.959964 * np.sqrt(1 / 8))
    assert result.p_value == pytest.approx(2 * norm.sf(0.25 / np.sqrt(1 / 8)))


@pytest.mark.parametrize("patients", [5, 12, 1000])
def test_delong_is_what_obuchowski_defines(patients):
    truth, a, b, units = random_systems(60, patients, seed=patients)
    difference, variance = by_definition(truth, a, b, units)
    result = delong(truth, a, b, units, confidence=0.9)
    assert result.difference == pytest.approx(difference, abs=1e-12)
    assert (result.high - result.low) / 2 / norm.ppf(0.95) == pytest.approx(np.sqrt(variance), abs=1e-12)
    assert result.p_value == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)), abs=1e-12)


def test_of_single_slices_the_variance_is_delongs_own():
    truth, a, b, _ = random_systems(50, 1000, seed=4, members=(1, 1))
    gains = structural_components(truth, a) - structural_components(truth, b)
    variance = sum(np.var(gains[0, of], ddof=1) / of.sum() for of in (truth, ~truth))
    result = delong(truth, a, b, np.arange(50))
    assert (result.high - result.low) / 2 / norm.ppf(0.975) == pytest.approx(np.sqrt(variance), abs=1e-12)


def test_components_average_to_the_auc_in_both_classes():
    truth, a, _, _ = random_systems(80, 20, seed=1)
    areas = [roc_auc_score(truth, member) for member in a]
    components = structural_components(truth, a)
    assert components[:, truth].mean(axis=1) == pytest.approx(areas)
    assert components[:, ~truth].mean(axis=1) == pytest.approx(areas)


def test_copies_of_slices_add_no_evidence_to_delong():
    truth, a, b, units = random_systems(60, 15, seed=2)
    copied = [np.repeat(of, 4, axis=-1) for of in (truth, a, b, units)]
    assert astuple(delong(*copied)) == pytest.approx(astuple(delong(truth, a, b, units)), abs=1e-12)
    as_patients = delong(*copied[:3], np.arange(240))
    assert as_patients.p_value < delong(truth, a, b, np.arange(60)).p_value


def test_of_equal_systems_delong_rejects_as_often_as_it_says():
    generator = np.random.default_rng(0)
    units = np.repeat(np.arange(40), 6)
    truth = units % 2 == 0
    by_patient, by_slice = 0, 0
    for _ in range(300):
        a, b = truth + generator.normal(size=(2, 1, 40))[:, :, units] + generator.normal(size=(2, 1, 240)) / 2
        by_patient += delong(truth, a, b, units).p_value < 0.05
        by_slice += delong(truth, a, b, np.arange(240)).p_value < 0.05
    assert 6 <= by_patient <= 27
    assert by_slice > 75


def test_swapping_the_systems_flips_the_sign():
    truth, a, b, units = random_systems(60, 15, seed=3)
    for one, other in (
        (delong(truth, a, b, units), delong(truth, b, a, units)),
        (mcnemar(a > 0.5, b > 0.5, units), mcnemar(b > 0.5, a > 0.5, units)),
    ):
        assert astuple(other) == pytest.approx((-one.difference, -one.high, -one.low, one.p_value))


def test_members_that_are_copies_and_other_numbers_of_the_units_change_nothing():
    truth, a, b, units = random_systems(60, 15, seed=5)
    twice = np.concatenate([a, a])
    renumbered = 7 * units + 3
    whole = astuple(delong(truth, a, b, units))
    assert astuple(delong(truth, twice, b, renumbered)) == pytest.approx(whole, abs=1e-12)
    whole = astuple(mcnemar(a > 0.5, b > 0.5, units))
    assert astuple(mcnemar(twice > 0.5, b > 0.5, renumbered)) == pytest.approx(whole, abs=1e-12)


def test_systems_that_never_differ():
    truth, a, _, units = random_systems(60, 15, seed=6)
    other_order = a[[2, 0, 1]]
    for result in (delong(truth, a, other_order, units), mcnemar(a > 0.5, other_order > 0.5, units)):
        assert result.difference == pytest.approx(0, abs=1e-12)
        assert result.p_value == 1
        assert np.isnan([result.low, result.high]).all()


def test_delong_knows_no_p_value_where_perfect_meets_constant():
    truth = np.arange(20) % 2 == 0
    result = delong(truth, truth[None].astype(float), np.full((1, 20), 0.5), np.arange(20))
    assert result.difference == 0.5
    assert np.isnan([result.low, result.high, result.p_value]).all()


def test_delong_needs_two_patients_of_each_class():
    truth = np.array([True, True, True, False, False])
    scores = np.linspace(0, 1, 5)[None]
    with pytest.raises(GroundglassError, match="2 with positive and 1 with negative"):
        delong(truth, scores, scores, np.array([0, 0, 1, 2, 2]))
    with pytest.raises(GroundglassError, match="5 with positive and 0 with negative"):
        delong(np.ones(5, dtype=bool), scores, scores, np.arange(5))


def single_answers(both, only_a, only_b, neither):
    """Correct answers of a and b, each with one member, and one unit per slice."""
    counts = (both, only_a, only_b, neither)
    a, b = (np.repeat(right, counts)[None] for right in ([1, 1, 0, 0], [1, 0, 1, 0]))
    return a, b, np.arange(sum(counts))


def test_mcnemar_gives_what_r_gives_for_the_approval_of_the_president():
    # Agresti 1990, Categorical data analysis, p. 350; R 4.3.1, mcnemar.test(Performance, correct = FALSE):
    # chi-squared = 17.356, p-value = 3.099e-05.
    result = mcnemar(*single_answers(794, 150, 86, 570))
    assert chi2.isf(result.p_value, 1) == pytest.approx(17.356, abs=5e-4)
    assert result.p_value == pytest.approx(3.099e-5, abs=5e-9)
    # Agresti's standard error, with n instead of n - 1.
    error = np.sqrt((150 + 86 - (150 - 86) ** 2 / 1600) / 1600**2)
    assert (result.difference, result.low, result.high) == pytest.approx(
        (0.04, 0.04 - 1.96 * error, 0.04 + 1.96 * error), abs=2e-5
    )


def test_mcnemar_of_few_slices_is_exact():
    # Armitage & Berry 1994, p. 127, two media for Mycobacterium tuberculosis; StatsDirect's help on matched
    # pairs gives the exact two-sided P = 0.0129.
    assert mcnemar(*single_answers(20, 12, 2, 16)).p_value == pytest.approx(0.0129, abs=5e-5)
    binomial_tail = 1 + 24 + 276 + 2024 + 10626
    assert mcnemar(*single_answers(20, 20, 4, 16)).p_value == pytest.approx(2 * binomial_tail / 2**24)
    assert mcnemar(*single_answers(20, 20, 5, 16)).p_value == pytest.approx(chi2.sf(15**2 / 25, 1))


def test_mcnemar_gives_obuchowskis_glands():
    # Obuchowski 1998: true negatives of PET and SPECT in 21 patients; the R package clust.bin.pair 0.1.2 gives
    # chi-square = 2.8571 for method "obuchowski", which has the factor 20 / 21.
    both = [0, 2, 3, 1, 2, 4, 3, 2, 1, 1, 2, 2, 3, 2, 0, 2, 2, 2, 2, 1, 2]
    only_pet = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    only_spect = [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0]
    neither = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    parts = [
        (*single_answers(*counts)[:2], patient)
        for patient, counts in enumerate(zip(both, only_pet, only_spect, neither, strict=True))
    ]
    pet, spect = (np.concatenate([part[system] for part in parts], axis=1) for system in (0, 1))
    patients = np.concatenate([np.full(part[0].shape[1], part[2]) for part in parts])
    result = mcnemar(pet, spect, patients)
    assert chi2.isf(result.p_value, 1) * 20 / 21 == pytest.approx(2.8571, abs=5e-5)
    assert result.difference == pytest.approx((1 - 7) / 51)


def test_the_interval_of_clustered_accuracies_worked_by_hand():
    # Sums of gains 2, 0 and -1 of 2, 1 and 1 slices, difference 1/4: deviations 3/2, -1/4 and -5/4.
    a, b = np.array([[1, 1, 1, 0]]), np.array([[0, 0, 1, 1]])
    result = mcnemar(a, b, np.array([0, 0, 1, 2]), confidence=0.9)
    error = np.sqrt((1.5**2 + 0.25**2 + 1.25**2) / 4**2 * 3 / 2)
    assert (result.high - result.low) / 2 == pytest.approx(1.644854 * error)
    assert (result.high + result.low) / 2 == pytest.approx(0.25)


@pytest.mark.parametrize("slices", [20, 400])
def test_copies_of_slices_add_no_evidence_to_mcnemar(slices):
    generator = np.random.default_rng(slices)
    a, b = generator.random((2, 1, slices)) < np.array([0.8, 0.7])[:, None, None]
    alone = mcnemar(a, b, np.arange(slices))
    copied = [np.repeat(of, 4, axis=-1) for of in (a, b, np.arange(slices))]
    assert astuple(mcnemar(*copied)) == pytest.approx(astuple(alone), abs=1e-12)
    assert mcnemar(*copied[:2], np.arange(4 * slices)).p_value < alone.p_value


def test_of_equal_systems_mcnemar_rejects_as_often_as_it_says():
    generator = np.random.default_rng(1)
    units = np.repeat(np.arange(60), 6)
    by_patient, by_slice = 0, 0
    for _ in range(300):
        share = generator.beta(1, 0.5, size=(2, 60))[:, None, units]
        a, b = generator.random((2, 2, 360)) < share
        by_patient += mcnemar(a, b, units).p_value < 0.05
        by_slice += mcnemar(a, b, np.arange(360)).p_value < 0.05
    assert 6 <= by_patient <= 27
    assert by_slice > 60


def test_rounding_within_a_patient_is_not_a_difference():
    a, b = np.array([[0.1, 0.2, 0, 1, 1]]), np.array([[0, 0, 0.3, 1, 0]])
    result = mcnemar(a, b, np.array([0, 0, 0, 1, 2]))
    assert result.p_value == mcnemar(a[:, 3:], b[:, 3:], np.array([1, 2])).p_value == 1


def test_mcnemar_needs_two_patients_and_every_answer():
    right = np.ones((1, 3))
    with pytest.raises(GroundglassError, match="1 with slices"):
        mcnemar(right, right, np.zeros(3, dtype=np.intp))
    with pytest.raises(GroundglassError, match="0 with slices"):
        mcnemar(right[:, :0], right[:, :0], np.zeros(0, dtype=np.intp))
    with pytest.raises(GroundglassError, match="leave out the others"):
        mcnemar(right, np.array([[1, np.nan, 0]]), np.arange(3))


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_is_between_0_and_1(confidence):
    truth, a, b, units = random_systems(60, 15, seed=8)
    for test in (
        lambda: delong(truth, a, b, units, confidence),
        lambda: mcnemar(a > 0.5, b > 0.5, units, confidence),
    ):
        with pytest.raises(GroundglassError, match="between 0 and 1"):
            test()


def test_holm_gives_the_example_of_pingouin():
    # The documentation of pingouin.multicomp.
    adjusted = holm([0.50, 0.003, 0.32, 0.054, 0.0003])
    assert adjusted == pytest.approx([0.64, 0.012, 0.64, 0.162, 0.0015])


def test_holm_rejects_where_the_steps_do():
    generator = np.random.default_rng(0)
    for _ in range(50):
        given = np.round(generator.random(8) ** 3, 2)
        adjusted = holm(given)
        for alpha in (0.013, 0.057, 0.21, 0.52):
            rejected = np.zeros(8, dtype=bool)
            for step, which in enumerate(np.argsort(given)):
                if given[which] > alpha / (8 - step):
                    break
                rejected[which] = True
            assert np.array_equal(adjusted <= alpha, rejected)


def test_holm_leaves_nan_uncounted_and_ends_at_1():
    assert holm([np.nan, 0.02, 0.9, np.nan, 0.6]) == pytest.approx([np.nan, 0.06, 1, np.nan, 1], nan_ok=True)
    assert len(holm([])) == 0
