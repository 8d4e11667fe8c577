import numpy as np
import pytest
from answered import answered
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from groundglass.audit.check import NotApplicable
from groundglass.audit.detector import subgroups as subsets
from groundglass.audit.detector.subgroups import Subgroups, compare, confidence_for, subgroups
from groundglass.bundle.evaluation import format_estimate
from groundglass.evaluation.metrics import evaluate_patients

COUNT = 300


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(subsets, "RESAMPLES", 500)


def probabilities(apart, seed=0):
    """Truth, and probabilities whose logits are ``apart`` between the classes, one number or one per slice."""
    truth = np.arange(COUNT) % 2 == 0
    return truth, expit(np.random.default_rng(seed).normal(np.where(truth, apart, np.negative(apart)) / 2))


THIRD = np.arange(COUNT) // 2 % 3 == 0
"""A third of the slices, of both classes."""
SOURCES = np.where(THIRD, "north", "south")


def cells(result):
    return {row[0]: row[1:] for row in result.rows}


def test_a_source_on_which_it_fails_is_a_warning_with_its_figures():
    truth, probability = probabilities(np.where(THIRD, 0.0, 3.0))
    trial = answered(truth, probability, source=SOURCES)
    result = Subgroups().run(trial)
    assert result.severity == "warning"
    assert "source north: AUC" in result.message
    assert "source south: AUC" not in result.message
    assert result.figure.value == pytest.approx(roc_auc_score(truth[THIRD], probability[THIRD]))
    assert result.files == tuple(trial.material.paths[THIRD])
    slices, positives, auc, others, accuracy = cells(result)["source north"]
    assert (slices, positives) == ("100", "50")
    assert auc == format_estimate(result.figure)
    assert others.startswith(f"{roc_auc_score(truth[~THIRD], probability[~THIRD]):.2f} (")
    assert accuracy.startswith(f"{((probability >= 0.5) == truth)[THIRD].mean():.2f} (")


def test_a_detector_that_does_as_well_everywhere_passes():
    truth, probability = probabilities(2.0)
    result = Subgroups().run(answered(truth, probability, source=SOURCES))
    assert result.severity is None
    assert "No subgroup has a significantly lower AUC" in result.message
    assert result.files == ()
    assert len(result.rows) == 3


def test_a_difference_that_is_sure_while_the_intervals_overlap_is_a_note():
    truth, probability = probabilities(np.where(THIRD, 1.0, 2.5), seed=1)
    result = Subgroups().run(answered(truth, probability, source=SOURCES))
    north, _ = compare(truth, probability, np.ones(COUNT), np.arange(COUNT), [THIRD, ~THIRD])
    assert north.auc.high > north.others.low
    assert north.more.high < 0
    assert result.severity == "note"


def test_intervals_are_those_of_as_many_subgroups():
    truth, probability = probabilities(1.0)
    right = np.ones(COUNT)
    halves = [THIRD, ~THIRD]
    (alone,) = compare(truth, probability, right, np.arange(COUNT), halves[:1])
    among_many = compare(truth, probability, right, np.arange(COUNT), halves * 5)[0]
    assert (confidence_for(1), confidence_for(10)) == pytest.approx((0.95, 0.995))
    assert among_many.auc.low < alone.auc.low
    assert among_many.auc.high > alone.auc.high
    assert among_many.auc.value == alone.auc.value


def test_intervals_are_of_whole_patients():
    truth, probability = probabilities(1.0)
    patients = np.arange(COUNT) % 20
    slices = compare(truth, probability, np.ones(COUNT), np.arange(COUNT), [THIRD])[0]
    probability = probability[patients]
    grouped = compare(truth, probability, np.ones(COUNT), patients, [THIRD])[0]
    assert grouped.auc.high - grouped.auc.low > 1.5 * (slices.auc.high - slices.auc.low)


def test_subgroups_too_small_or_of_one_class_are_listed_but_not_evaluated():
    truth, probability = probabilities(2.0)
    source = np.where(truth, "mixed", "mixed").astype(object)
    source[:19] = "small"
    source[20:100:2] = "ill"
    patients = np.array([f"p{row}" for row in range(COUNT)], dtype=object)
    source[201:300] = "few"
    patients[201:300] = [f"f{row % 4}" for row in range(99)]
    found = cells(Subgroups().run(answered(truth, probability, source=source, patient=patients)))
    assert found["source small"][:3] == ("19", "10", "not evaluated: under 20 slices")
    assert found["source ill"][:3] == ("40", "40", "not evaluated: one class")
    assert "not evaluated: a class of" in found["source few"][2]
    assert "(" in found["source mixed"][2]


def test_sizes_are_divided_into_thirds_and_formats_by_name():
    truth, probability = probabilities(2.0)
    sizes = {
        "width": np.arange(COUNT) + 100.0,
        "height": 150.0,
        "format": np.where(THIRD, "PNG", "JPEG"),
    }
    found = subgroups(answered(truth, probability, headers=sizes).material)
    sides = [name for name in found if "side" in name]
    assert sides == [
        "longer side up to 200 pixels",
        "longer side over 200 to 299 pixels",
        "longer side over 299 pixels",
    ]
    assert [int(found[name].sum()) for name in sides] == [100, 100, 100]
    assert found["longer side up to 200 pixels"][:50].all()
    assert (found["format PNG"] == THIRD).all()
    assert sorted(found)[:2] == ["format JPEG", "format PNG"]


def test_a_size_that_most_slices_have_makes_fewer_than_three_parts():
    truth, probability = probabilities(2.0)
    width = np.where(np.arange(COUNT) < 250, 512.0, 256.0)
    sizes = {"width": width, "height": 256.0}
    found = subgroups(answered(truth, probability, headers=sizes).material)
    assert found == {}
    width[:120] = 1024.0
    found = subgroups(answered(truth, probability, headers=sizes | {"width": width}).material)
    assert {name: int(one.sum()) for name, one in found.items()} == {
        "longer side up to 512 pixels": 180,
        "longer side over 512 pixels": 120,
    }


def test_figures_per_patient_are_next_to_those_per_slice():
    truth, probability = probabilities(1.0)
    patient = [f"p{row // 10}-{row % 2}" for row in range(COUNT)]
    trial = answered(truth, probability, patient=patient)
    result = Subgroups().run(trial)
    expected = evaluate_patients(trial.predictions, 0.5, resamples=1000)
    auc = format_estimate(expected.metrics["roc_auc"])
    assert cells(result)["all, per patient"][:3] == ("60", "30", auc)
    assert f"per patient {auc}" in result.message
    assert "No subgroup is large enough" in result.message
    assert result.figure.value is None


def test_identical_slices_have_no_subgroups():
    truth, probability = probabilities(1.0)
    with pytest.raises(NotApplicable, match="none names its patient"):
        Subgroups().run(answered(truth, probability))
