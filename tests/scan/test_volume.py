from pathlib import Path

import numpy as np
import pytest

from groundglass.errors import ScanError
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Geometry, Instance, Member, Origin, Volume

ROW, COLUMN = np.array([0.0, 0.8, 0.0]), np.array([0.7, 0.0, 0.0])


def stack(*heights: float, shift: float = 0.0) -> Geometry:
    """Slices at ``heights``, each moved to the back by ``shift`` times its height."""
    positions = np.array([(-100.0, -90.0 + shift * height, height) for height in heights])
    return Geometry(positions, ROW, COLUMN)


def test_thickness_of_an_even_stack_is_its_spacing() -> None:
    geometry = stack(0, 2.5, 5, 7.5)
    np.testing.assert_allclose(geometry.thickness_mm, 2.5)
    assert geometry.spacing == pytest.approx((2.5, 0.8, 0.7))
    assert geometry.pixel_mm2 == pytest.approx(0.56)


def test_a_missing_slice_is_shared_by_its_neighbours() -> None:
    np.testing.assert_allclose(stack(0, 1, 2, 4, 5).thickness_mm, [1, 1, 1.5, 1.5, 1])


@pytest.mark.parametrize("heights", [(0, 1, 2, 3), (0, 1, 3, 4, 8), (-7.5, 0, 2)])
def test_thickness_adds_up_to_what_the_stack_covers(heights: tuple[float, ...]) -> None:
    thickness = stack(*heights).thickness_mm
    assert thickness is not None
    ends = (heights[1] - heights[0] + heights[-1] - heights[-2]) / 2
    assert thickness.sum() == pytest.approx(heights[-1] - heights[0] + ends)


def test_a_tilted_gantry_does_not_thicken_slices() -> None:
    tilted = stack(0, 2, 4, shift=0.3)
    np.testing.assert_allclose(tilted.thickness_mm, 2)


def test_a_single_slice_has_no_thickness() -> None:
    assert stack(3.0).thickness_mm is None
    assert stack(3.0).spacing is None


@pytest.mark.parametrize(
    ("positions", "row"),
    [
        (np.zeros((0, 3)), ROW),
        (np.zeros((2, 2)), ROW),
        (np.full((2, 3), np.nan), ROW),
        (np.zeros((2, 3)), np.zeros(3)),
        (np.zeros((2, 3)), np.array([0, np.inf, 0])),
    ],
)
def test_geometry_refuses_what_is_none(positions: np.ndarray, row: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"positions|step"):
        Geometry(positions, row, COLUMN)


@pytest.mark.parametrize(
    "turn", [(t, r, c) for t in (False, True) for r in (False, True) for c in (False, True)]
)
def test_origin_turns_there_and_back(turn: tuple[bool, bool, bool]) -> None:
    instances = (Instance(Member(Path("x")), "1.2"),)
    origin = Origin(instances, *turn)
    stored = np.arange(12).reshape(3, 4)
    upright = origin.upright(stored)
    assert (upright.shape == (4, 3)) == turn[0]
    np.testing.assert_array_equal(origin.stored(upright), stored)


def test_a_damaged_slice_is_reported_and_the_others_are_answered() -> None:
    def read(number: int) -> np.ndarray:
        if number == 1:
            raise ScanError("x", "is damaged")
        return np.full((4, 5), number, dtype=np.float32)

    volume = Volume((3, 4, 5), True, "ct", Path("x"), read, stack(0, 1, 2))
    slices = list(volume.slices())
    assert [isinstance(one, Scan) for one in slices] == [True, False, True]
    first = slices[0]
    assert isinstance(first, Scan)
    assert (first.scan_id, first.spacing, first.orientation) == ("ct-0001", (0.8, 0.7), "PL")
