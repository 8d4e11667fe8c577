"""Segmenters that tell ground glass from consolidation, from the network's answer to tables and volumes."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundglass.commands.segment import segment
from groundglass.detect.findings import SliceFinding, write_predictions_csv
from groundglass.phantom import Lesion, make_phantom
from groundglass.scan.scan import LUNG_WINDOW, Scan, apply_window
from groundglass.segment.masks import LEFT, RIGHT, Segmentation
from groundglass.segment.segmenter import Segmenter
from groundglass.segment.shares import (
    CONSOLIDATION,
    LESION,
    TYPE_COLUMNS,
    consolidation_counts,
    counts,
    disease_extent,
    label_plane,
    shares,
)
from segmenter_stub import threshold_segmenter


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """The middle slice of a phantom with two lesions, one of ground glass and one that is denser."""
    lesions = (
        Lesion("ground glass", 60, density_hu=-560, side="right"),
        Lesion("consolidation", 60, density_hu=-380, side="left"),
    )
    phantom = make_phantom(1, shape=(12, 128, 128), lesions=lesions, noise_hu=4)
    shown = int((phantom.lesions > 0).sum(axis=(1, 2)).argmax())
    return apply_window(phantom.scan.pixels[shown], *LUNG_WINDOW)


def by_thresholds(folder: Path, *, types: bool) -> Segmenter:
    return Segmenter.load(threshold_segmenter(folder, types=types))


def test_types_divide_the_lesions_that_a_segmenter_without_types_finds(
    grey: np.ndarray, tmp_path: Path
) -> None:
    scan = Scan(np.asarray(Image.fromarray(grey).resize((200, 160))).clip(0, 1), False, "x")
    plain = by_thresholds(tmp_path / "plain", types=False).segment_scans([scan])
    typed = by_thresholds(tmp_path / "typed", types=True).segment_scans([scan])
    (_, one), (_, other) = next(plain), next(typed)
    assert one.consolidation is None
    assert other.consolidation is not None
    assert np.mean(one.lesions == other.lesions) > 0.999
    assert other.consolidation.any()
    assert (other.consolidation <= other.lesions).all()
    solid, ground = scan.pixels[other.consolidation], scan.pixels[other.lesions & ~other.consolidation]
    assert len(ground) > 50
    assert np.median(solid) > 0.6 > np.median(ground)


@pytest.mark.parametrize("types", [True, False])
def test_tables_carry_types_where_the_segmenter_tells_them(
    grey: np.ndarray, tmp_path: Path, types: bool
) -> None:
    Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(tmp_path / "slice.png")
    folder = threshold_segmenter(tmp_path / "bundle", types=types)
    result = segment([tmp_path / "slice.png"], tmp_path / "out", segmenter=Segmenter.load(folder))
    with (tmp_path / "out/shares.csv").open() as handle:
        (row,) = csv.DictReader(handle)
    both = result.document["slices"][0]["both"]
    assert ([name for name in TYPE_COLUMNS if name in row] == list(TYPE_COLUMNS)) is types
    assert (set(TYPE_COLUMNS) <= both.keys()) is types
    assert "consolidation_px" not in both
    if types:
        parts = [float(row[name]) for name in TYPE_COLUMNS]
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(float(row["lesion_share"]), abs=2e-6)
        assert [both[name] for name in TYPE_COLUMNS] == parts


def made() -> Segmentation:
    """A right lung of 40 pixels, 10 of lesion, 4 of them consolidation; a left one of 20, 2 of ground glass."""
    lungs, lesions, solid = np.zeros((10, 20), np.uint8), np.zeros((10, 20), bool), np.zeros((10, 20), bool)
    lungs[:, 1:5], lungs[:, 10:12] = RIGHT, LEFT
    lesions[:, 1], lesions[:2, 10], solid[:4, 1] = True, True, True
    return Segmentation(lungs, lesions, 0.9, consolidation=solid)


def test_areas_and_labels_by_hand() -> None:
    measured, plane = shares(made()), label_plane(made())
    assert measured.right.type_shares == {"ground_glass_share": 6 / 40, "consolidation_share": 4 / 40}
    assert measured.left.type_shares == {"ground_glass_share": 2 / 20, "consolidation_share": 0}
    assert set(np.unique(plane)) == {0, 1, 2, LESION + 1, LESION + 2, LESION + CONSOLIDATION + 1}
    assert counts(plane) == ((40, 20), (10, 2))
    assert consolidation_counts(plane) == (4, 0)


def test_the_extent_of_a_volume_weighs_its_slices() -> None:
    areas = {"lungs": [[40, 20], [10, 0]], "lesions": [[10, 2], [10, 0]], "solid": [[4, 0], [10, 0]]}
    lungs, lesions, solid = (np.array(value, dtype=float) for value in areas.values())
    typed = disease_extent(lungs, lesions, np.array([1.0, 3.0]), 0.5, solid)
    assert typed["right"].type_shares == {"ground_glass_share": 6 / 70, "consolidation_share": 34 / 70}
    assert typed["both"].lesion_share == pytest.approx(sum(typed["both"].type_shares.values()))
    assert disease_extent(lungs, lesions, None, None)["both"].type_shares == {}


def test_predictions_carry_types_where_they_are_known(tmp_path: Path) -> None:
    known = SliceFinding(
        0.5, 0.5, "covid", lungs_px=(40, 20), lesions_px=(10, 2), consolidation_px=(4, 0), path="a.png"
    )
    without_lungs = SliceFinding(0.5, 0.5, "not a chest CT", path="b.png")
    write_predictions_csv(tmp_path / "typed.csv", [without_lungs, known])
    with (tmp_path / "typed.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["ground_glass_share"] for row in rows] == ["", "0.133333"]
    assert [row["consolidation_share"] for row in rows] == ["", "0.066667"]
    write_predictions_csv(tmp_path / "plain.csv", [without_lungs])
    assert "ground_glass_share" not in (tmp_path / "plain.csv").read_text()
