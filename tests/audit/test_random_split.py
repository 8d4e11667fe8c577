import numpy as np
import pytest
from series import guessable, pictures_of
from sklearn.neighbors import KNeighborsClassifier

from groundglass.audit.check import NotApplicable
from groundglass.audit.data import random_split
from groundglass.audit.data.random_split import RandomSplit
from groundglass.similarity import small_pictures, unit_vectors

PATIENTS, SLICES = 40, 6
LABELS = np.repeat(np.where(np.arange(PATIENTS) % 2, "not covid", "covid"), SLICES)
NAMES = np.repeat([f"patient {number}" for number in range(PATIENTS)], SLICES)


def made(**columns):
    """Patients who all look different, so that a label can only be predicted by knowing the patient."""
    return guessable(pictures_of([SLICES] * PATIENTS), **{"label": LABELS, **columns})


def test_it_shows_what_knowing_the_patients_adds():
    result = RandomSplit().run(made(patient=NAMES))
    assert result.severity == "warning"
    assert result.figure.low > 0.3
    assert result.figure.low < result.figure.value < result.figure.high
    random, grouped = result.rows
    assert random[0] == "random"
    assert random[2].startswith("1.00")
    assert grouped[:2] == ("the manifest's groups", "40")
    assert float(grouped[2][:4]) == pytest.approx(1 - result.figure.value, abs=0.006)
    assert float(grouped[2][:4]) < 0.7


def test_a_guess_replaces_unknown_patients():
    order = np.argsort(LABELS, kind="stable")
    grey = pictures_of([SLICES] * PATIENTS)[order]
    guessed = RandomSplit().run(guessable(grey, label=LABELS[order]))
    known = RandomSplit().run(guessable(grey, label=LABELS[order], patient=NAMES[order]))
    assert guessed.severity == "warning"
    assert [row[:2] for row in guessed.rows] == [("random", ""), ("guessed groups", "40")]
    assert guessed.figure.value == pytest.approx(known.figure.value, abs=0.02)


def test_nothing_is_added_if_the_disease_reveals_the_label():
    grey = pictures_of([SLICES] * PATIENTS).astype(float) / 4
    grey[LABELS == "covid", :40] += 120
    grey[LABELS == "not covid", 88:] += 120
    result = RandomSplit().run(guessable(grey.astype(np.uint8), label=LABELS, patient=NAMES))
    assert result.severity is None
    assert result.figure.value == pytest.approx(0, abs=0.01)


def test_answers_are_those_of_scikit_learn():
    material = made()
    pixels = unit_vectors(small_pictures(material.pictures.grey, 32))
    truth, units = material.truth, np.repeat(np.arange(PATIENTS), SLICES)
    told = random_split._nearest(pixels @ pixels.T, truth, units, seed=3)
    expected = np.empty(told.right.shape, dtype=bool)
    for repeat in range(random_split.REPEATS):
        folds = random_split.StratifiedGroupKFold(5, shuffle=True, random_state=3 + repeat)
        for fitted, scored in folds.split(pixels, truth, units):
            neighbour = KNeighborsClassifier(1).fit(pixels[fitted], truth[fitted])
            expected[repeat, scored] = neighbour.predict(pixels[scored]) == truth[scored]
    # The nearest unit vector is the one with the highest correlation; rounding may swap two equally near
    # ones.
    assert (told.right == expected).mean() > 0.998


def test_of_many_slices_whole_groups_are_drawn(monkeypatch):
    monkeypatch.setattr(random_split, "LIMIT", 100)
    result = RandomSplit().run(made(patient=NAMES))
    assert "Measured on whole groups with 96 of the 240 slices." in result.message
    assert result.rows[1][1] == "16"


def test_without_groups_it_does_not_apply():
    with pytest.raises(NotApplicable, match="No groups are known or can be guessed"):
        RandomSplit().run(made(patient=[f"{number}" for number in range(PATIENTS * SLICES)]))


def test_a_class_of_one_patient_does_not_apply():
    names = np.where(LABELS == "covid", "one", NAMES)
    with pytest.raises(NotApplicable, match="fewer than two groups"):
        RandomSplit().run(made(patient=names))
