"""Segmenters that tell ground glass from consolidation, from the network's answer to tables and volumes."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from groundglass.commands.segment import segment, segment_paths
from groundglass.detect.findings import SliceFinding, write_predictions_csv
from groundglass.phantom import Lesion, make_phantom
from groundglass.phantom.volumes import write_phantom_nifti
from groundglass.scan.scan import LUNG_WINDOW, Scan, apply_window
from groundglass.segment.masks import LEFT, RIGHT, Segmentation
from groundglass.segment.overlay import (
    CONSOLIDATION_COLOUR,
    LEFT_COLOUR,
    LESION_COLOUR,
    RIGHT_COLOUR,
    layer,
    legend,
    overlay,
)
from groundglass.segment.segmenter import Segmenter
from groundglass.segment.shares import (
    CONSOLIDATION,
    LESION,
    TYPE_COLUMNS,
    consolidation_counts,
    counts,
    label_plane,
    segmentation_of,
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


def test_labels_keep_types() -> None:
    back = segmentation_of(label_plane(made()))
    np.testing.assert_array_equal(back.consolidation, made().consolidation)
    np.testing.assert_array_equal(back.lesions, made().lesions)


def test_each_type_has_its_colour() -> None:
    rgb = np.asarray(overlay(np.full((10, 20), 100, np.uint8), replace(made(), lungs=made().lungs * 0)))
    solid, ground = (
        np.rint(0.55 * 100 + 0.45 * np.array(colour)) for colour in (CONSOLIDATION_COLOUR, LESION_COLOUR)
    )
    assert (rgb[:4, 1] == solid).all()
    assert (rgb[4:, 1] == ground).all()
    assert (rgb[:2, 10] == ground).all()
    laid = np.asarray(Image.open(io.BytesIO(layer(made()))).convert("RGBA"))
    assert tuple(laid[5, 15]) == (0, 0, 0, 0)
    assert tuple(laid[5, 10, :3]) == LEFT_COLOUR
    assert {tuple(pixel) for pixel in laid[1:3, 1, :3]} == {RIGHT_COLOUR}
    filled = np.asarray(
        Image.open(io.BytesIO(layer(replace(made(), lungs=made().lungs * 0)))).convert("RGBA")
    )
    assert tuple(filled[0, 1, :3]) == CONSOLIDATION_COLOUR
    assert tuple(filled[9, 1, :3]) == LESION_COLOUR
    assert "consolidation in pink" in legend(typed=True)
    assert "consolidation" not in legend(typed=False)


def test_masks_of_a_slice_hold_the_types(grey: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(tmp_path / "slice.png")
    Image.fromarray(np.full((128, 128), 90, np.uint8) + np.eye(128, dtype=np.uint8)).save(
        tmp_path / "plain.png"
    )
    segmenter = by_thresholds(tmp_path / "bundle", types=True)
    files = [tmp_path / "slice.png", tmp_path / "plain.png"]
    result = segment(files, tmp_path / "out", segmenter=segmenter)
    kinds, lesions = (
        np.asarray(Image.open(tmp_path / f"out/slice_{name}.png")) for name in ("lesion_types", "lesions")
    )
    assert set(np.unique(kinds)) == {0, 127, 254}
    np.testing.assert_array_equal(kinds > 0, lesions > 0)
    both = result.rows[0].shares.both
    assert np.count_nonzero(kinds == 254) == both.consolidation_px
    assert result.document["slices"][0]["masks"]["lesion_types"] == "slice_lesion_types.png"
    assert not np.asarray(Image.open(tmp_path / "out/plain_lesion_types.png")).any()
    page = (tmp_path / "out/report.html").read_text()
    assert ">ground glass</th>" in page
    assert "consolidation in pink" in page


@pytest.mark.parametrize("types", [True, False])
def test_a_volume_has_its_types_in_ml_in_masks_and_by_zone(tmp_path: Path, types: bool) -> None:
    lesions = (
        Lesion("ground glass", 60, density_hu=-560, side="right"),
        Lesion("consolidation", 60, density_hu=-380, side="left"),
    )
    write_phantom_nifti(
        make_phantom(1, shape=(12, 128, 128), lesions=lesions, noise_hu=4), tmp_path / "ct.nii.gz"
    )
    folder = threshold_segmenter(tmp_path / "bundle", types=types)
    result = segment_paths([str(tmp_path / "ct.nii.gz")], tmp_path / "out", segmenter=Segmenter.load(folder))
    (row,) = result.volumes
    with (tmp_path / "out/volumes.csv").open() as handle:
        (written,) = csv.DictReader(handle)
    assert ("both_consolidation_ml" in written) is types
    assert row["right_lung_ml"] == pytest.approx(
        sum(row[f"right_{third}_lung_ml"] for third in ("upper", "middle", "lower"))
    )
    mask = nibabel.load(tmp_path / "out" / row["study"] / "lesions.nii.gz")
    voxel_ml = float(np.prod(mask.header.get_zooms())) / 1000
    counted = np.bincount(np.asarray(mask.dataobj).ravel(), minlength=3) * voxel_ml
    if types:
        amounts = [row["both_ground_glass_ml"], row["both_consolidation_ml"]]
        assert min(amounts) > 1
        assert counted[1:] == pytest.approx(amounts, rel=1e-4)
        assert row["left_consolidation_ml"] > row["right_consolidation_ml"]
        assert sum(amounts) == pytest.approx(row["both_lesion_ml"])
    else:
        assert len(counted) == 3
        assert counted[2] == 0
        assert counted[1] == pytest.approx(row["both_lesion_ml"], rel=1e-4)


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
