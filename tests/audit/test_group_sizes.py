import numpy as np
import pandas as pd
import pytest

from groundglass.audit.data.counts import GroupSizes, effective_number, sizes
from groundglass.audit.material import Material, SmallPictures
from groundglass.audit.measures import kind_of_groups


def made(positives, negatives, source="made"):
    """Patients with this many slices each."""
    sides = (("covid", positives), ("not covid", negatives))
    rows = [
        {"label": label, "patient": f"{label} {patient}"}
        for label, counts in sides
        for patient, count in enumerate(counts)
        for _ in range(count)
    ]
    manifest = pd.DataFrame(rows).assign(split="", source=source)
    manifest["path"] = [f"/made/Covid ({number + 1}).png" for number in range(len(rows))]
    nothing = np.zeros((len(rows), 1, 1))
    return Material("made", manifest, SmallPictures(nothing.astype(np.uint8), nothing > 0, nothing > 0, ()))


def test_the_effective_number_is_that_of_equal_groups():
    assert effective_number(np.array([4, 4, 4])) == 3
    # (5 + 1 + 1 + 1)^2 / (25 + 1 + 1 + 1)
    assert effective_number(np.array([5, 1, 1, 1])) == pytest.approx(64 / 28)
    assert sizes(np.array([7, 2, 2, 9, 2])).tolist() == [3, 1, 1]


def test_many_equal_patients_pass():
    result = GroupSizes().run(made([3] * 12, [2] * 15))
    assert result.severity is None
    assert result.figure.value == pytest.approx(66**2 / (12 * 9 + 15 * 4))
    assert (
        result.message
        == "66 slices come from 27 patients, the largest with 3; these are equivalent to 26 of equal size."
    )
    assert result.header[2] == "Patients"
    assert result.rows[1] == ("covid", "36", "12", "3", "3", "8.3%", "12.0")
    assert result.files == ()


def test_a_dominating_patient_is_a_warning_and_its_files_are_named():
    result = GroupSizes().run(made([6] + [2] * 20, [2] * 20))
    assert result.severity == "warning"
    assert "One patient holds 13% of the slices of covid." in result.message
    assert result.files == tuple(f"/made/Covid ({number}).png" for number in range(1, 7))


def test_few_patients_of_a_class_are_a_warning():
    result = GroupSizes().run(made([2] * 9, [2] * 20))
    assert result.severity == "warning"
    assert "All slices of covid come from 9 patients." in result.message
    one = GroupSizes().run(made([5], [2] * 20))
    assert "All slices of covid come from one patient." in one.message


def test_very_unequal_patients_get_a_note():
    result = GroupSizes().run(made([20] * 11 + [1] * 60, [1] * 100))
    assert result.severity == "note"
    assert "very unequal" in result.message


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("made", "slice", "intervals are by slice and too narrow"),
        ("sarscov2-ct", "guessed block", "intervals are by guessed blocks"),
    ],
)
def test_unknown_patients_are_a_warning(source, kind, words):
    material = made([1] * 300, [1] * 300, source)
    material.manifest["patient"] = ""
    assert kind_of_groups(material.manifest) == kind
    result = GroupSizes().run(material)
    assert result.severity == "warning"
    assert words in result.message


def test_some_unknown_patients_get_a_note():
    material = made([1] * 30, [1] * 30)
    material.manifest.loc[:4, "patient"] = ""
    assert kind_of_groups(material.manifest) == "group"
    result = GroupSizes().run(material)
    assert result.severity == "note"
    assert "No patient is named for 5 of 60 slices." in result.message
    assert result.measure == "effective number of groups"
