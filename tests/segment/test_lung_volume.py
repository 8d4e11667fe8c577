import numpy as np
import pytest

from groundglass.segment.masks import Segmentation
from groundglass.segment.shares import counts, label_plane, segmentation_of
from groundglass.segment.volume import drop_strays


def test_labels_there_and_back() -> None:
    lungs = np.array([[0, 1, 1], [2, 2, 0]], dtype=np.uint8)
    lesions = np.array([[0, 1, 0], [0, 1, 0]], dtype=bool)
    plane = label_plane(Segmentation(lungs, lesions, 0.9))
    assert plane.tolist() == [[0, 5, 1], [2, 6, 0]]
    back = segmentation_of(plane)
    np.testing.assert_array_equal(back.lungs, lungs)
    np.testing.assert_array_equal(back.lesions, lesions)
    assert counts(plane) == ((2, 2), (1, 1))


def test_a_slice_with_a_problem_has_no_labels() -> None:
    lungs = np.ones((4, 4), dtype=np.uint8)
    plane = label_plane(Segmentation(lungs, lungs > 0, 0.1, "no lungs found"))
    assert not plane.any()


def two_lungs(slices: int = 8, height: int = 61, width: int = 83) -> np.ndarray:
    labels = np.zeros((slices, height, width), dtype=np.uint8)
    labels[1:7, 10:40, 5:35] = 1
    labels[1:7, 10:40, 45:75] = 2
    return labels


def test_a_bowel_loop_is_dropped_and_the_lungs_stay() -> None:
    labels = two_lungs()
    alone = labels.copy()
    labels[0, 52:58, 2:10] = 1
    drop_strays(labels)
    np.testing.assert_array_equal(labels[1:], alone[1:])
    assert not labels[0].any()


def test_a_loop_in_a_slice_with_lungs_is_dropped_alone() -> None:
    labels = two_lungs()
    alone = labels.copy()
    labels[3, 56:60, 70:80] = 2
    drop_strays(labels)
    np.testing.assert_array_equal(labels, alone)


def test_both_lungs_stay_though_they_hang_apart() -> None:
    labels = two_lungs()
    alone = labels.copy()
    drop_strays(labels)
    np.testing.assert_array_equal(labels, alone)


@pytest.mark.parametrize("value", [0, 1])
def test_nothing_to_drop(value: int) -> None:
    labels = np.full((2, 9, 9), value, dtype=np.uint8)
    drop_strays(labels)
    assert (labels == value).all()
