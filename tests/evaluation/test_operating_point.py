import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundglass.errors import GroundglassError
from groundglass.evaluation.operating_point import choose_threshold

PARTED = ([False, False, True, True], [0.1, 0.2, 0.6, 0.9])
ALONE = [""] * 4


@pytest.mark.parametrize("criterion", ["accuracy", "balanced_accuracy"])
def test_the_middle_of_the_gap_parts_classes_that_do_not_overlap(criterion):
    truth, probability = [False] * 30 + [True] * 30, [0.2] * 30 + [0.6] * 30
    threshold = choose_threshold(truth, probability, [""] * 60, criterion=criterion)
    assert threshold == pytest.approx(0.4)


def test_of_equally_good_intervals_the_widest_is_used():
    # One error each above 0.1 and above 0.3.
    truth, probability = [False, True, False, True], [0.1, 0.2, 0.3, 0.9]
    assert choose_threshold(truth, probability, ["p"] * 4, criterion="accuracy") == pytest.approx(0.6)


def test_one_slice_does_not_carry_the_threshold_off():
    # Without resampling, the best threshold is far down at 0.1, because of the one positive at 0.15.
    probability = [0.05] * 30 + [0.45] + [0.55] * 30 + [0.15]
    truth = [False] * 31 + [True] * 31
    threshold = choose_threshold(truth, probability, [""] * 62, criterion="balanced_accuracy")
    assert 0.3 <= threshold <= 0.5


def test_balanced_accuracy_minds_the_rare_class_and_accuracy_does_not():
    truth = np.array([False] * 90 + [True] * 10)
    probability = np.array([0.1] * 60 + [0.5] * 30 + [0.5] * 8 + [0.9] * 2)
    groups = [""] * 100
    assert choose_threshold(truth, probability, groups, criterion="balanced_accuracy") == pytest.approx(0.3)
    assert choose_threshold(truth, probability, groups, criterion="accuracy") == pytest.approx(0.7)


def test_groups_count_and_the_seed_decides():
    generator = np.random.default_rng(0)
    truth = np.arange(60) % 2 == 0
    probability = np.clip(generator.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    groups = [f"p{number // 6}" for number in range(60)]

    def chosen(groups, seed):
        return choose_threshold(truth, probability, groups, criterion="accuracy", seed=seed)

    assert chosen(groups, 1) == chosen(groups, 1)
    assert chosen(groups, 1) != chosen([""] * 60, 1)
    # A single group is drawn unchanged for any seed.
    assert chosen(["p"] * 60, 1) == chosen(["p"] * 60, 2)


@pytest.mark.parametrize(
    ("target", "expected"),
    [(0.5, 0.75), (0.51, 0.4), (1.0, 0.4)],
)
def test_the_largest_threshold_that_reaches_a_sensitivity(target, expected):
    threshold = choose_threshold(*PARTED, ALONE, criterion="sensitivity", target=target)
    assert threshold == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=25),
    st.floats(0.01, 1),
)
def test_sensitivity_reaches_its_target_and_no_larger_threshold_would(rows, target):
    truth, probability = (np.array(column) for column in zip(*rows, strict=True))
    if truth.all() or not truth.any():
        return
    threshold = choose_threshold(truth, probability, [""] * len(rows), criterion="sensitivity", target=target)

    def sensitivity(cut):
        return (probability[truth] >= cut).mean()

    assert sensitivity(threshold) >= target - 1e-9
    least_called = probability[probability >= threshold].min()
    assert sensitivity(np.nextafter(least_called, 2)) < target


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=15))
def test_one_group_gets_the_best_threshold_of_all(rows):
    truth, probability = (np.array(column) for column in zip(*rows, strict=True))
    if truth.all() or not truth.any():
        return
    threshold = choose_threshold(truth, probability, ["p"] * len(rows), criterion="accuracy")
    right = [((probability >= cut) == truth).sum() for cut in (*probability, threshold, 1.0)]
    assert right[-2] == max(right)


def test_a_probability_of_one_cannot_be_rejected():
    # The best would be to call nothing positive, which no threshold up to 1 does.
    threshold = choose_threshold(
        [True, False, False, False], [0.2, 1.0, 1.0, 1.0], ["p"] * 4, criterion="accuracy"
    )
    assert 0 <= threshold <= 0.2


def test_a_fixed_threshold_is_used_unchanged():
    assert choose_threshold(*PARTED, ALONE, criterion="fixed", target=0.3) == 0.3
    assert choose_threshold(*PARTED, ALONE, criterion="fixed") == 0.5


def test_targets_and_slices_that_do_not_fit_are_refused():
    with pytest.raises(GroundglassError, match=r"operating_point\.target: name the sensitivity"):
        choose_threshold(*PARTED, ALONE, criterion="sensitivity")
    with pytest.raises(GroundglassError, match=r"1\.5 is not in"):
        choose_threshold(*PARTED, ALONE, criterion="sensitivity", target=1.5)
    with pytest.raises(GroundglassError, match="both classes"):
        choose_threshold([True, True], [0.4, 0.6], ["", ""], criterion="accuracy")
