import numpy as np
import pytest
from series import guessable, pictures_of

from groundglass.audit.check import NotApplicable
from groundglass.audit.data.groups import UnnamedGroups

SLICES = [6] * 10
PATIENTS = np.repeat([f"patient {number}" for number in range(10)], 6)


def made(**columns):
    return guessable(pictures_of(SLICES), **columns)


def test_divided_groups_are_a_warning_with_their_files():
    result = UnnamedGroups().run(made(split=["train"] * 27 + ["test"] * 33))
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(3 / 33)
    assert result.rows == (("scan (24).png", "scan (29).png", "6", "train 3, test 3"),)
    assert result.files == tuple(f"/made/scan ({number}).png" for number in range(24, 30))
    assert result.side_by_side[0] == tuple(f"/made/scan ({number}).png" for number in (24, 25, 27, 28))
    assert "10 groups of several slices, with a median of 6 slices and 6 at most" in result.message
    assert "This is a guess." in result.message


def test_groups_that_the_split_keeps_together_pass():
    result = UnnamedGroups().run(made(split=["train"] * 30 + ["test"] * 30))
    assert result.severity is None
    assert result.figure.value == 0
    assert "None of them is in two parts" in result.message


def test_without_a_split_the_largest_groups_are_shown():
    grey = pictures_of([4] * 10 + [1, 1, 20])
    result = UnnamedGroups().run(guessable(grey))
    assert result.severity == "warning"
    assert result.figure.value == pytest.approx(60 / 62)
    assert result.rows[0] == ("scan (42).png", "scan (61).png", "20", "none 20")
    assert len(result.side_by_side) == 11
    assert result.rows[1] == ("scan (0).png", "scan (3).png", "4", "none 4")
    assert [len(files) for files in result.side_by_side[:2]] == [6, 4]
    assert "2 slices stay alone" in result.message


def test_the_groups_known_so_far_are_compared_with_the_guess():
    grey = pictures_of([3] * 2 + [6] * 9 + [3])
    paths = [f"/made/Covid ({number}).png" for number in range(1, len(grey) + 1)]
    result = UnnamedGroups().run(guessable(grey, path=paths, source="sarscov2-ct"))
    # The first block of 21 ends within the third group of 6, the second with the sixth.
    assert "A split by the known groups could separate 1 of them." in result.message


def test_only_groups_with_unnamed_slices_count():
    patients = np.where(np.arange(60) < 48, PATIENTS, "")
    result = UnnamedGroups().run(made(patient=patients, split=["train", "test"] * 30))
    assert len(result.rows) == 2
    assert "No patient or group is named for 12 of 60 slices." in result.message


def test_known_patients_pass_where_nothing_is_in_doubt():
    result = UnnamedGroups().run(made(patient=PATIENTS))
    assert result.severity is None
    assert result.figure.value == 1


def test_one_picture_of_two_patients_is_a_note():
    grey = pictures_of(SLICES)
    grey[57] = grey[3]
    result = UnnamedGroups().run(guessable(grey, patient=PATIENTS))
    assert result.severity == "note"
    assert ("scan (3).png", "scan (57).png") in result.rows
    assert ("/made/scan (3).png", "/made/scan (57).png") in result.side_by_side
    assert all(row[1] == "scan (57).png" for row in result.rows)
    assert "of different patients show the same picture, or nearly" in result.message


def test_a_group_that_joins_both_patients_settles_it():
    grey = pictures_of(SLICES)
    grey[57] = grey[3]
    one = np.where(np.isin(PATIENTS, ["patient 0", "patient 9"]), "both", "")
    assert UnnamedGroups().run(guessable(grey, patient=PATIENTS, group=one)).severity is None


@pytest.mark.parametrize("patient", ["", "named"])
def test_where_nothing_can_be_guessed_it_does_not_apply(patient):
    with pytest.raises(NotApplicable, match=r"no groups can be guessed.*there are too few slices"):
        UnnamedGroups().run(guessable(pictures_of([1] * 12), patient=patient))
