"""How an abstention is validated on answers that it was not chosen on."""

import numpy as np
import pytest
from scipy.special import expit

from groundglass.evaluation.recalibration import LabelledAnswers, cross_validate


def answers(sources: list[str], truth: list[bool], probability: list[float]) -> LabelledAnswers:
    each = np.arange(len(truth))
    return LabelledAnswers(np.array(truth), np.array(probability), each, np.array(sources, dtype=object))


def test_what_it_is_worth_is_measured_where_it_was_not_chosen() -> None:
    """Two sources of which one is answered upside down: its choice answers nothing, the other's is wrong on it."""
    truth = [True] * 20 + [False] * 20
    right = [0.9] * 20 + [0.1] * 20
    both = answers(["a"] * 40 + ["b"] * 40, truth * 2, right + right[::-1])
    held, notes = cross_validate(both, 0.9)
    assert notes == []
    assert [one.left_out for one in held] == ["a", "b", "all"]
    assert [(one.answered, one.accuracy, one.covid) for one in held] == [
        (0, None, 1),
        (1, 0, 0),
        (0.5, 0, 0.5),
    ]


def test_with_one_source_groups_are_left_out() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    one = answers(["a"] * 400, truth.tolist(), expit(np.where(truth, 1, -1) + rng.normal(0, 1, 400)).tolist())
    (held,), notes = cross_validate(one, 0.9)
    assert "no source" in notes[0]
    assert held.cases == 400
    assert held.covid == pytest.approx(0.9, abs=0.04)
    assert held.other == pytest.approx(0.9, abs=0.04)
    assert held.accuracy is not None
    assert held.accuracy > 0.85


def test_a_source_of_one_class_is_not_left_alone() -> None:
    truth = [True] * 30 + [True, False] * 20
    held, notes = cross_validate(answers(["a"] * 30 + ["b"] * 40, truth, np.linspace(0, 1, 70).tolist()), 0.8)
    assert notes
    assert [one.left_out for one in held] == ["all"]
