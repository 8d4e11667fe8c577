import numpy as np
import pytest

from groundglass.scan.scan import Scan, apply_window


def test_a_lung_window_maps_its_edges_to_black_and_white() -> None:
    hu = np.array([-2000, -1350, -600, 150, 3000], dtype=np.float32)
    np.testing.assert_allclose(apply_window(hu, -600, 1500), [0, 0, 0.5, 1, 1])


def test_a_window_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="width"):
        apply_window(np.zeros(1, dtype=np.float32), 0, 0)


@pytest.mark.parametrize(
    ("pixels", "is_hu", "spacing"),
    [
        (np.zeros((4, 4)), False, None),
        (np.zeros(4, dtype=np.float32), False, None),
        (np.full((4, 4), np.nan, dtype=np.float32), True, None),
        (np.full((4, 4), 2, dtype=np.float32), False, None),
        (np.zeros((4, 4), dtype=np.float32), False, (1.0, 1.0, 1.0)),
    ],
    ids=["float64", "one axis", "NaN", "grey over 1", "spacing of another shape"],
)
def test_what_is_not_a_scan_is_refused(
    pixels: np.ndarray, is_hu: bool, spacing: tuple[float, ...] | None
) -> None:
    with pytest.raises(ValueError, match="pixels"):
        Scan(pixels, is_hu, "x", spacing)


def test_hu_may_leave_the_unit_range_and_volumes_are_recognised() -> None:
    assert Scan(np.full((2, 4, 4), -900, dtype=np.float32), True, "x", (5.0, 0.7, 0.7)).is_volume
