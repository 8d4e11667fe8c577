import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundglass.segment.masks import LEFT, RIGHT, Segmentation
from groundglass.segment.shares import COLUMNS, ShareRow, shares, write_shares_csv


def made() -> Segmentation:
    """A right lung of 40 pixels with 10 of lesion, a left lung of 20 with 2."""
    lungs, lesions = np.zeros((10, 20), np.uint8), np.zeros((10, 20), bool)
    lungs[:, 1:5], lungs[:, 10:12] = RIGHT, LEFT
    lesions[:, 1], lesions[:2, 10] = True, True
    return Segmentation(lungs, lesions, 0.9)


def test_shares_by_hand() -> None:
    measured = shares(made(), (0.5, 2.0))
    assert (measured.right.lung_px, measured.right.lesions_px, measured.right.lesion_share) == (40, 10, 0.25)
    assert (measured.left.lung_px, measured.left.lesions_px, measured.left.lesion_share) == (20, 2, 0.1)
    assert (measured.both.lung_px, measured.both.lesions_px, measured.both.lesion_share) == (60, 12, 0.2)
    assert (measured.both.lung_mm2, measured.both.lesions_mm2) == (60.0, 12.0)
    assert shares(made(), (0.5, 0.5)).left.lung_mm2 == 5.0


def test_what_is_not_known_is_none() -> None:
    none = Segmentation(np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool), 0.0, "no lungs found")
    measured = shares(none)
    assert measured.both.lesion_share is None
    assert measured.right.lesion_share is None
    assert measured.both.lung_mm2 is None


@pytest.mark.parametrize("spacing", [(1.0,), (5.0, 1.0, 1.0), (1.0, 0.0), (1.0, float("nan"))])
def test_a_spacing_that_is_none_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="two positive lengths"):
        shares(made(), spacing)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_shares_lie_between_none_and_all(seed: int, lung: float, lesion: float) -> None:
    rng = np.random.default_rng(seed)
    lungs = (rng.integers(1, 3, (9, 13)) * (rng.random((9, 13)) < lung)).astype(np.uint8)
    measured = shares(Segmentation(lungs, (rng.random(lungs.shape) < lesion) & (lungs > 0), 1.0))
    for area in (measured.right, measured.left, measured.both):
        assert area.lesion_share is None if area.lung_px == 0 else 0 <= area.lesion_share <= 1
    assert measured.right.lung_px + measured.left.lung_px == measured.both.lung_px
    assert measured.right.lesions_px + measured.left.lesions_px == measured.both.lesions_px


def test_the_table(tmp_path: Path) -> None:
    only_right = made()
    only_right.lungs[only_right.lungs == LEFT] = 0
    rows = [
        ShareRow("a.png", "a", shares(made(), (0.5, 0.5)), 0.9),
        ShareRow("b.png", "b", shares(only_right), 0.8, warnings="cropped, perhaps"),
        ShareRow("c.png", "c", shares(made(), (0.5, 0.5)), 0.1, "no lungs found: 0.00% of the picture"),
    ]
    write_shares_csv(tmp_path / "out" / "shares.csv", rows)
    with (tmp_path / "out" / "shares.csv").open(encoding="utf-8", newline="") as handle:
        first, second, third = csv.DictReader(handle)
    assert tuple(first) == COLUMNS
    assert tuple(first.values()) == (
        *("a.png", "a", "60", "40", "20", "12", "10", "2", "0.200000", "0.250000", "0.100000"),
        *("15.0", "3.0", "0.900000", "", ""),
    )
    assert second["left_lung_px"] == "0"
    assert second["left_lesion_share"] == second["lungs_mm2"] == ""
    assert second["warnings"] == "cropped, perhaps"
    assert {name for name, value in third.items() if value} == {"path", "name", "quality", "problem"}
