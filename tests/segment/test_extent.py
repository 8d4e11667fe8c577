"""Lung and lesions by region of a volume."""

import numpy as np
import pytest

from groundglass.segment.extent import (
    REGIONS,
    SIDES,
    disease_extent,
    extent_cells,
    extent_columns,
    extent_table,
)

# Two slices without lung, then lungs on four, from the feet to the head; the left lung begins one slice higher.
LUNGS = np.array([[0, 0], [10, 0], [40, 40], [40, 20], [10, 20], [0, 0]], dtype=float)
LESIONS = np.array([[0, 0], [10, 0], [20, 0], [0, 0], [0, 5], [0, 0]], dtype=float)
SOLID = np.array([[0, 0], [10, 0], [5, 0], [0, 0], [0, 5], [0, 0]], dtype=float)


def test_slices_weigh_by_their_thickness() -> None:
    areas = {"lungs": [[40, 20], [10, 0]], "lesions": [[10, 2], [10, 0]], "solid": [[4, 0], [10, 0]]}
    lungs, lesions, solid = (np.array(value, dtype=float) for value in areas.values())
    typed = disease_extent(lungs, lesions, np.array([1.0, 3.0]), 0.5, solid)
    assert typed["right"].type_shares == {"ground_glass_share": 6 / 70, "consolidation_share": 34 / 70}
    assert typed["right"].consolidation_ml == pytest.approx(34 * 0.5 / 1000)
    assert typed["both"].lesion_share == pytest.approx(sum(typed["both"].type_shares.values()))
    assert disease_extent(lungs, lesions, None, None)["both"].type_shares == {}


def test_zones_are_thirds_of_the_height_of_the_lungs() -> None:
    """The lungs take four slices of 3 mm: a third is 4 mm, so that the two in the middle are divided."""
    extent = disease_extent(LUNGS, LESIONS, np.full(6, 3.0), 1000.0, SOLID)
    assert tuple(extent) == REGIONS
    figures = {region: one.figures() for region, one in extent.items()}
    assert figures["right_lower"] == pytest.approx(
        {
            "lung_ml": 3 * 10 + 1 * 40,
            "lesion_ml": 3 * 10 + 1 * 20,
            "lesion_share": 50 / 70,
            "ground_glass_ml": 15,
            "consolidation_ml": 35,
            "ground_glass_share": 15 / 70,
            "consolidation_share": 35 / 70,
        }
    )
    assert extent["left_lower"].lung_ml == 40
    assert extent["left_upper"].lung_ml == pytest.approx(1 * 20 + 3 * 20)
    assert extent["left_upper"].consolidation_share == pytest.approx(15 / 80)
    for side in ("right", "left"):
        for name in ("lung_ml", "lesion_ml", "consolidation_ml"):
            parts = [figures[f"{side}_{third}"][name] for third in ("upper", "middle", "lower")]
            assert sum(parts) == pytest.approx(figures[side][name])


def test_uneven_slices_and_no_spacing() -> None:
    """Thirds are of the height in mm, not of the number of slices, unless that is all there is."""
    thick = disease_extent(LUNGS, LESIONS, np.array([5.0, 1, 1, 1, 6, 5]), 1000.0)
    assert thick["right_lower"].lung_ml == pytest.approx(10 + 40 + 40)
    assert thick["right_upper"].lung_ml == thick["right_middle"].lung_ml == pytest.approx(30)
    bare = disease_extent(LUNGS, LESIONS, None, None)
    assert bare["right_lower"].lung_ml is None
    assert bare["right_lower"].lesion_share == pytest.approx(50 / 70)


@pytest.mark.parametrize(("first", "last"), [(2, 6), (0, 4)])
def test_no_zones_of_lungs_that_are_cut_off(first: int, last: int) -> None:
    part = slice(first, last)
    extent = disease_extent(LUNGS[part], LESIONS[part], np.ones(last - first), 1000.0)
    assert set(extent) == set(SIDES)


def test_no_sides_without_a_known_orientation() -> None:
    whole = disease_extent(LUNGS, LESIONS, np.ones(6), 1000.0)
    assert disease_extent(LUNGS, LESIONS, np.ones(6), 1000.0, oriented=False) == {"both": whole["both"]}


def test_no_lungs_at_all() -> None:
    extent = disease_extent(LUNGS * 0, LUNGS * 0, np.ones(6), 1000.0, LUNGS * 0)
    assert extent["right_upper"].lung_ml == 0
    assert extent["both"].lesion_share is extent["right_upper"].consolidation_share is None
    assert extent["both"].type_shares == {}


@pytest.mark.parametrize("solid", [SOLID, None])
def test_tables_have_a_row_or_columns_for_each_region(solid: np.ndarray | None) -> None:
    extent = disease_extent(LUNGS, LESIONS, np.full(6, 3.0), 1000.0, solid)
    header, rows = extent_table(extent)
    assert {len(row) for row in rows} == {len(header)} == {4 if solid is None else 8}
    assert [row[0] for row in rows][:3] == ["both lungs", "right lung", "right upper third"]
    assert rows[4][:4] == ("right lower third", "70 ml", "50 ml", "71.4%")
    assert rows[4][4:] == (() if solid is None else ("15 ml", "21.4%", "35 ml", "50.0%"))
    cells = extent_cells({region: one.figures() for region, one in extent.items()})
    assert tuple(cells) == extent_columns(solid is not None)
