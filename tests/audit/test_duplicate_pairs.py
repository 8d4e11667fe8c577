import numpy as np
from series import material_of

from groundglass.audit.data.duplicates import ExactDuplicates, OppositeLabels, differing, sets
from groundglass.audit.near_duplicates import DuplicatePair


def file(first, second):
    return DuplicatePair(first, second, 1.0, "same file")


def picture(first, second, likeness=0.9, mirrored=False):
    return DuplicatePair(first, second, likeness, "same picture", mirrored)


def values(text):
    return np.array([letter.strip("-") for letter in text])


def test_chains_make_one_set_in_the_order_of_the_pairs():
    assert sets(8, [picture(5, 7), picture(0, 3), picture(3, 5), picture(1, 6)]) == [[5, 7, 0, 3], [1, 6]]
    assert sets(3, []) == []


def test_pairs_that_differ_are_sorted_most_alike_first():
    twins = [picture(0, 1), picture(0, 3, 0.95), picture(1, 2), picture(2, 3, 0.99)]
    assert differing(twins, values("aabb")) == [picture(0, 3, 0.95), picture(1, 2)]


def test_unknown_values_differ_from_none():
    assert differing([picture(0, 1), file(0, 2), file(0, 3)], values("-ab-")) == []
    assert differing([file(0, 1), file(0, 2)], values("-ab")) == [file(1, 2)]


def test_each_of_many_equal_files_is_compared_with_all():
    # Only pairs with the first are listed, and the first differs from only one.
    twins = [file(0, 1), file(0, 2), file(0, 3)]
    assert differing(twins, values("aaab")) == [file(0, 3), file(1, 3), file(2, 3)]
    assert differing(twins, values("baaa")) == [file(0, 1), file(0, 2), file(0, 3)]
    assert {place for twin in differing(twins, values("abcc")) for place in (twin.first, twin.second)} == {
        *range(4)
    }
    assert differing(twins, values("aaaa")) == []


def test_pictures_are_those_of_the_first_twelve_sets():
    material = material_of(np.zeros((30, 8, 8), dtype=np.uint8))
    material.duplicates = [file(2 * number, 2 * number + 1) for number in range(15)]
    result = ExactDuplicates().run(material)
    assert len(result.files) == 30
    assert len(result.side_by_side) == 12
    assert result.side_by_side[1] == ("/made/scan (2).png", "/made/scan (3).png")


def test_rows_name_files_values_and_how():
    check, labels = OppositeLabels(), ["a", "b", "c"]
    material = material_of(np.zeros((3, 8, 8), dtype=np.uint8), label=labels)
    rows = check.rows(material, [picture(0, 2, 0.95678, mirrored=True), file(1, 2)])
    assert tuple(rows) == (
        ("/made/scan (0).png", "a", "/made/scan (2).png", "c", "0.957", "mirror image"),
        ("/made/scan (1).png", "b", "/made/scan (2).png", "c", "1.000", "same file"),
    )
