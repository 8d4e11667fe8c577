import numpy as np
import pytest
from PIL import Image
from series import material_of, pictures_of

from groundglass.audit.check import NotApplicable, run_checks
from groundglass.audit.data.duplicates import (
    DuplicatesAcrossParts,
    ExactDuplicates,
    NearDuplicates,
    OppositeLabels,
)
from groundglass.audit.near_duplicates import DuplicatePair

CHECKS = [ExactDuplicates, NearDuplicates, OppositeLabels, DuplicatesAcrossParts]


def made(count, *twins, **columns):
    """A material of this many slices; twins as ``(first, second)`` for equal files, with a likeness for others."""
    material = material_of(np.zeros((count, 8, 8), dtype=np.uint8), **columns)
    material.__dict__["duplicates"] = sorted(
        DuplicatePair(*twin, "same picture") if len(twin) == 3 else DuplicatePair(*twin, 1.0, "same file")
        for twin in twins
    )
    return material


def names(files):
    return [int(path.removeprefix("/made/scan (").removesuffix(").png")) for path in files]


def test_equal_files_are_a_warning_the_largest_set_first():
    material = made(10, (0, 1), (2, 4), (2, 9), (5, 6, 0.95), label=["covid"] * 5 + ["not covid"] * 5)
    result = ExactDuplicates().run(material)
    assert result.severity == "warning"
    assert result.figure.value == 0.5
    assert result.figure.low < 0.5 < result.figure.high
    assert "The files of 5 of 10 slices, a share of 0.500 (" in result.message
    assert result.message.endswith("in 2 sets. With one file of each set, 7 are left.")
    assert names(result.files) == [0, 1, 2, 4, 9]
    assert [names(files) for files in result.side_by_side] == [[2, 4, 9], [0, 1]]
    assert result.rows[0] == ("3", "scan (2).png, scan (4).png, scan (9).png", "covid, not covid", "")


def test_one_set_of_equal_files_within_one_part_is_described():
    result = ExactDuplicates().run(made(4, (0, 1), split=["train"] * 2 + ["test"] * 2))
    assert "in 1 set." in result.message
    assert result.rows == (("2", "scan (0).png, scan (1).png", "covid", "train"),)


def test_near_copies_of_two_patients_come_before_those_of_one():
    patient = ["a", "a", "a", "b", "c", "d", "e", "f"]
    material = made(8, (0, 1, 0.99), (1, 2, 0.98), (3, 4, 0.90), (5, 6, 0.92), (0, 7), patient=patient)
    result = NearDuplicates().run(material)
    assert result.severity == "warning"
    assert result.figure.value == 7 / 8
    assert result.message.startswith("7 of 8 slices, a share of 0.88")
    assert "4 pairs in 3 sets; in 0 of the pairs one is the other's mirror image" in result.message
    assert "2 of the pairs are within one patient, 2 are not." in result.message
    assert "Neighbouring slices of one patient can be this similar" in result.message
    assert [names(files) for files in result.side_by_side] == [[5, 6], [3, 4], [0, 1, 2]]
    groups = [row[1::2][:2] for row in result.rows]
    assert [one == other for one, other in groups] == [False, False, True, True]
    assert not {"a", "b", "c", "d", "e"} & {name for pair in groups for name in pair}  # no id in a report
    assert names(result.files) == [0, 1, 2, 3, 4, 5, 6]


def test_mirror_images_are_counted():
    material = made(3)
    material.__dict__["duplicates"] = [DuplicatePair(0, 2, 0.93, "same picture", mirrored=True)]
    result = NearDuplicates().run(material)
    assert "1 pair in 1 set; in 1 of the pairs" in result.message
    assert result.rows[0][-1] == "mirror image"


def test_without_patients_they_are_not_mentioned():
    result = NearDuplicates().run(made(3, (0, 2, 0.93)))
    assert "No patient is known" in result.message
    assert "within one" not in result.message
    assert result.header[1] == "Its patient"
    assert result.rows[0][1] == ""


def test_guessed_blocks_are_called_so():
    paths = [f"/made/Covid ({number}).png" for number in range(1, 31)]
    result = NearDuplicates().run(made(30, (0, 2, 0.93), (3, 29, 0.92), path=paths, source="sarscov2-ct"))
    assert "1 of the pairs are within one guessed block, 1 are not." in result.message
    assert result.header[1] == "Its guessed block"
    assert result.rows[0][1:4:2] == ("1", "2")


@pytest.mark.parametrize("twin", [(1, 4), (1, 4, 0.9)])
def test_a_picture_under_both_labels_is_an_error(twin):
    label = ["covid"] * 3 + ["not covid"] * 3
    result = OppositeLabels().run(made(6, (0, 1, 0.99), (3, 5), twin, label=label))
    assert result.severity == "error"
    assert result.figure.value == 2 / 6
    assert result.message.startswith("In 1 pair of slices the same picture has opposite labels")
    assert "This concerns 2 of the 6 slices" in result.message
    assert names(result.files) == [1, 4]
    assert [names(files) for files in result.side_by_side] == [[1, 4]]
    assert result.rows[0][1:4:2] == ("covid", "not covid")


def test_the_label_of_every_equal_file_counts():
    label = ["covid", "not covid", "not covid", "covid"]
    result = OppositeLabels().run(made(4, (0, 1), (0, 2), (0, 3), label=label))
    assert names(result.files) == [0, 1, 2, 3]
    assert [names(files) for files in result.side_by_side] == [[0, 1, 2, 3]]


def test_copies_under_one_label_pass():
    result = OppositeLabels().run(made(4, (0, 1), (2, 3, 0.95), label=["covid"] * 2 + ["not covid"] * 2))
    assert result.severity is None
    assert result.figure.value == 0
    assert result.message == "No picture has both labels."


def test_a_picture_in_two_parts_is_an_error():
    split = ["train"] * 4 + ["val"] * 2 + ["test"] * 4
    result = DuplicatesAcrossParts().run(made(10, (0, 6), (1, 7, 0.9), (2, 4, 0.95), (8, 9), split=split))
    assert result.severity == "error"
    assert result.figure.value == 2 / 4
    assert result.figure.low < 0.5 < result.figure.high
    assert result.measure == "share of the test slices whose picture is also in train or val"
    assert result.message.startswith("In 3 pairs of slices the same picture is in two parts of the split")
    assert names(result.files) == [0, 1, 2, 4, 6, 7]
    assert [names(files) for files in result.side_by_side] == [[0, 6], [2, 4], [1, 7]]
    assert [row[1:4:2] for row in result.rows] == [("train", "test"), ("train", "val"), ("train", "test")]


def test_a_copy_in_training_counts_for_each_equal_file_of_the_test():
    result = DuplicatesAcrossParts().run(made(4, (0, 1), (0, 2), split=["test", "test", "train", "test"]))
    assert result.figure.value == 2 / 3


def test_without_a_test_part_the_last_one_is_held_out():
    result = DuplicatesAcrossParts().run(made(5, (0, 4, 0.9), split=["train"] * 3 + ["val"] * 2))
    assert result.figure.value == 1 / 2
    assert "of the 2 val slices" in result.message


def test_between_train_and_val_no_test_slice_is_touched():
    result = DuplicatesAcrossParts().run(made(4, (0, 1), split=["train", "val", "test", "test"]))
    assert result.severity == "error"
    assert result.figure.value == 0


def test_copies_within_a_part_or_without_one_pass():
    split = ["train", "train", "test", "", "test"]
    result = DuplicatesAcrossParts().run(made(5, (0, 1), (2, 3, 0.95), (2, 4, 0.99), split=split))
    assert result.severity is None
    assert result.message == "No slice shows the same picture as one in another part."


@pytest.mark.parametrize("check", CHECKS)
def test_no_more_than_twelve_sets_are_shown(check):
    label, split = ["covid", "not covid"] * 20, ["train", "test"] * 20
    exact = [(place, place + 1) for place in range(0, 40, 2)]
    twins = [(*pair, 0.9) for pair in exact] if check is NearDuplicates else exact
    result = check().run(made(40, *twins, label=label, split=split))
    assert len(result.side_by_side) == 12
    assert len(result.rows) == 20
    assert len(result.files) == 40


@pytest.mark.parametrize("check", CHECKS[:2])
@pytest.mark.parametrize("count", [0, 1])
def test_less_than_two_slices_cannot_be_compared(check, count):
    with pytest.raises(NotApplicable, match="fewer than two"):
        check().run(made(count))


@pytest.mark.parametrize("check", CHECKS)
def test_without_twins_all_pass(check):
    columns = {"label": ["covid", "not covid", "covid"], "split": ["train", "test", "test"]}
    (outcome,) = run_checks([check], made(3, **columns))
    assert outcome.status == "passed"
    assert outcome.result.figure.value == 0
    assert outcome.result.message.startswith("No ")
    assert outcome.result.files == outcome.result.side_by_side == outcome.result.rows == ()


def test_one_class_or_an_undivided_manifest_does_not_apply():
    assert {outcome.status for outcome in run_checks(CHECKS[2:], made(3, (0, 1)))} == {"not applicable"}


def test_real_files_are_searched(tmp_path):
    grey = pictures_of([1] * 6)
    grey[5], grey[4] = grey[0], grey[1][:, ::-1]
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    for path, picture in zip(paths, grey, strict=True):
        Image.fromarray(picture).save(path)
    columns = {"label": ["covid"] * 3 + ["not covid"] * 3, "split": ["train"] * 4 + ["test"] * 2}
    outcomes = run_checks(CHECKS, material_of(grey, path=paths, **columns))
    assert [outcome.result.severity for outcome in outcomes] == ["warning", "warning", "error", "error"]
    assert [outcome.result.side_by_side for outcome in outcomes] == [
        ((paths[0], paths[5]),),
        ((paths[1], paths[4]),),
        ((paths[0], paths[5]), (paths[1], paths[4])),
        ((paths[0], paths[5]), (paths[1], paths[4])),
    ]
    assert outcomes[1].result.rows[0][-1] == "mirror image"
