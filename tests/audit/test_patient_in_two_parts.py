import numpy as np
import pytest
from series import material_of

from groundglass.audit.check import NotApplicable, run_checks
from groundglass.audit.data.groups import PatientInTwoParts

SPLIT = ["train"] * 6 + ["val"] * 2 + ["test"] * 4


def made(**columns):
    return material_of(np.zeros((12, 8, 8), dtype=np.uint8), **{"split": SPLIT, **columns})


def test_a_divided_patient_is_an_error_with_its_files():
    result = PatientInTwoParts().run(made(patient=[*"aabbccddccef"]))
    assert result.severity == "error"
    assert result.figure.value == 2 / 4
    assert 0 <= result.figure.low < 0.5 < result.figure.high <= 1
    assert result.message.startswith("1 patient is in two parts of the split, with 4 slices; a share of 0.50")
    assert result.rows == (("patient 1", "2", "0", "2"),)
    assert result.files == tuple(f"/made/scan ({number}).png" for number in (4, 5, 8, 9))
    assert result.side_by_side == (result.files,)


def test_between_train_and_val_no_test_slice_is_touched():
    result = PatientInTwoParts().run(made(patient=[*"aabbccdceeff"]))
    assert result.severity == "error"
    assert result.figure.value == 0


def test_whole_patients_pass():
    result = PatientInTwoParts().run(made(patient=[*"aabbccddeeff"]))
    assert result.severity is None
    assert result.message == "No patient is in two parts of the split."
    assert result.figure.value == 0


def test_the_same_id_in_two_sources_is_two_patients():
    result = PatientInTwoParts().run(made(patient=[*"aabbccddccef"], source=["x"] * 8 + ["y"] * 4))
    assert result.severity is None


def test_a_divided_group_is_an_error_although_its_patients_are_whole():
    result = PatientInTwoParts().run(made(patient=[*"aabbccddeeff"], group=[""] * 5 + ["g"] * 4 + [""] * 3))
    assert result.severity == "error"
    assert result.rows == (("group 1", "1", "2", "1"),)
    assert result.measure == "share of the test slices whose group is also in train or val"
    assert "No patient is in two parts" in result.message


def test_slices_without_a_name_or_part_are_not_checked():
    split = ["train"] * 4 + ["test"] * 4 + [""] * 4
    result = PatientInTwoParts().run(made(patient=["a"] * 2 + [""] * 4 + ["b"] * 2 + ["a"] * 4, split=split))
    assert result.severity is None
    assert "Without a patient or group, and so not checked: 4 slices." in result.message


def test_without_names_or_parts_it_does_not_apply():
    with pytest.raises(NotApplicable, match="names no patients or groups"):
        PatientInTwoParts().run(made())
    outcome = run_checks([PatientInTwoParts], made(patient="a", split="train"))[0]
    assert outcome.status == "not applicable"
