from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from groundglass.phantom import Phantom, make_phantom
from groundglass.scan.volume import Volume
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter, SegmenterBundle
from groundglass.segment.shares import counts, label_plane, segmentation_of
from groundglass.segment.volume import VolumeMasks, drop_strays, pieces_within
from segmenter_stub import threshold_segmenter


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


def test_both_lungs_stay_although_they_are_not_connected() -> None:
    labels = two_lungs()
    alone = labels.copy()
    drop_strays(labels)
    np.testing.assert_array_equal(labels, alone)


@pytest.mark.parametrize("value", [0, 1])
def test_nothing_to_drop(value: int) -> None:
    labels = np.full((2, 9, 9), value, dtype=np.uint8)
    drop_strays(labels)
    assert (labels == value).all()


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(3, shape=(24, 128, 128))


def refusing(folder: Path, share: float) -> Segmenter:
    """A segmenter that refuses slices on which the lungs take less than a share of the picture."""
    bundle = SegmenterBundle.load(threshold_segmenter(folder))
    rules = bundle.facts.post_processing.model_copy(update={"least_lungs": share})
    return Segmenter(replace(bundle, facts=bundle.facts.model_copy(update={"post_processing": rules})))


def masks_of(phantom: Phantom, segmenter: Segmenter) -> tuple[VolumeMasks, list[int], list[bool]]:
    """The masks, the numbers of the slices in order of arrival, and which of them pass on their own."""
    pixels = phantom.scan.pixels
    masks = VolumeMasks(
        Volume(pixels.shape, True, "ct", Path("x"), pixels.__getitem__),
        segmenter.bundle.facts.preprocessing,
    )
    numbers = [number for number, _, found in masks.slices(segmenter) if found.found]
    return masks, numbers, [segmenter(masks.volume.slice(number)).found for number in range(len(pixels))]


def test_neighbours_vouch_for_the_tips_of_the_lungs(tmp_path: Path, phantom: Phantom) -> None:
    masks, numbers, alone = masks_of(phantom, refusing(tmp_path, 0.08))
    found = masks.labels.any(axis=(1, 2))
    tips = found & ~np.array(alone)
    assert tips[: len(tips) // 2].any()
    assert tips[len(tips) // 2 :].any()
    assert sorted(numbers) == np.flatnonzero(found).tolist()
    truth = phantom.lungs > 0
    assert (masks.lungs[tips] > 0)[truth[tips]].mean() > 0.9
    assert truth[tips][masks.lungs[tips] > 0].mean() > 0.9
    assert not any(masks.why_without_lungs(number).startswith("no lungs") for number in np.flatnonzero(found))


def test_nobody_vouches_where_most_slices_are_refused(tmp_path: Path, phantom: Phantom) -> None:
    areas = np.sort((phantom.lungs > 0).mean(axis=(1, 2)))
    masks, numbers, alone = masks_of(phantom, refusing(tmp_path, float(areas[-6])))
    assert 2 < sum(alone) < 12
    assert numbers == np.flatnonzero(alone).tolist()
    assert np.flatnonzero(masks.labels.any(axis=(1, 2))).tolist() == numbers


def test_no_sides_where_the_orientation_is_not_known(tmp_path: Path, phantom: Phantom) -> None:
    pixels = phantom.scan.pixels
    masks = refusing(tmp_path, 0.003)(
        Volume(pixels.shape, True, "ct", Path("x"), pixels.__getitem__, oriented=False)
    )
    assert set(masks.extent()) == {"both"}
    assert "right and left are not known" in masks.legend
    masks.write(tmp_path)
    assert set(np.unique(nib.load(tmp_path / "lungs.nii.gz").dataobj)) == {0, 1}


def test_pieces_beside_the_next_slices_lungs_stay_out() -> None:
    neighbour, lungs = np.zeros((2, 40, 60), dtype=np.uint8)
    neighbour[5:35, 5:25] = 1
    neighbour[5:35, 35:55] = 2
    lungs[10:20, 10:18] = 1  # a tip
    lungs[30:40, 36:50] = 2  # half of it is below the lung
    lungs[2:5, 28:32] = 2  # the throat
    expected = np.zeros((40, 60), dtype=bool)
    expected[10:20, 10:18] = True
    np.testing.assert_array_equal(pieces_within(lungs, neighbour), expected)
    assert not pieces_within(lungs * 0, neighbour).any()
