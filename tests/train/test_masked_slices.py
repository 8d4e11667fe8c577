from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing
from groundglass.segment.segmenter import Segmenter
from groundglass.train.losses import UNKNOWN
from groundglass.train.masks import case_codes, load_masked_part, read_truth
from groundglass.train.overlaps import overlaps
from groundglass.train.slices import Slices, make_loader
from segmenter_stub import threshold_segmenter

PREPROCESSING = Preprocessing(size=(32, 48), channels=1)


def save(path: Path, pixels: NDArray[np.generic]) -> str:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture
def manifest(tmp_path: Path) -> pd.DataFrame:
    """Five slices of two patients and of no patient, bright where lungs are; half of each lesion is outside."""
    rows = []
    for number in range(5):
        lungs, lesions = np.zeros((64, 96), bool), np.zeros((64, 96), bool)
        lungs[16:48, 8 * number : 8 * number + 32] = True
        lesions[40:56, 8 * number : 8 * number + 16] = True
        rows.append(
            {
                "path": save(tmp_path / f"{number}.png", np.where(lungs | lesions, 200, 40)),
                "label": "covid",
                "patient": ("b", "a", "", "b", "")[number],
                "split": "train" if number < 4 else "val",
                "source": "x",
                "lungs": save(tmp_path / f"{number}_lungs.png", 255 * lungs),
                "lesions": save(tmp_path / f"{number}_lesions.png", 255 * lesions),
            }
        )
    return pd.DataFrame(rows)


def test_slices_come_with_their_masks(manifest: pd.DataFrame) -> None:
    part = load_masked_part(manifest, "train", PREPROCESSING)
    assert part.grey.shape == (4, 32, 48)
    assert part.masks.shape == (4, 32, 48, 2)
    np.testing.assert_array_equal(part.masks[..., 0] > 0, part.grey > 120)  # lesions are lung
    assert (part.masks[..., 1] <= part.masks[..., 0]).all()
    assert part.masks[..., 1].sum(axis=(1, 2)).tolist() == [8 * 8] * 4
    batches = list(make_loader(Slices(np.arange(4), part.grey, part.masks), 3, seed=1))
    rows = np.concatenate([rows.numpy() for rows, _, _ in batches])
    assert sorted(rows) == [0, 1, 2, 3]
    for rows_, grey, masks in batches:
        np.testing.assert_array_equal(grey.numpy(), part.grey[rows_])
        np.testing.assert_array_equal(masks.numpy(), part.masks[rows_])


def test_slices_of_one_patient_are_one_case(manifest: pd.DataFrame) -> None:
    assert case_codes(manifest).tolist() == [0, 1, 2, 0, 3]


def test_data_unfit_for_a_segmenter_are_reported(manifest: pd.DataFrame) -> None:
    with pytest.raises(GroundglassError, match="no column lesions: a segmenter is trained on masks"):
        load_masked_part(manifest.drop(columns="lesions"), "train", PREPROCESSING)
    with pytest.raises(GroundglassError, match="the test set is empty"):
        load_masked_part(manifest, "test", PREPROCESSING)
    manifest.loc[4, "lungs"] = ""
    with pytest.raises(GroundglassError, match=r"4\.png: has no mask of its lungs"):
        load_masked_part(manifest, "val", PREPROCESSING)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"0_lungs\.png: the mask cannot be read"),
        (b"no picture", r"0_lungs\.png: the mask cannot be read"),
        ("cut", r"0_lungs\.png: the mask cannot be read"),
        ("broken", r"0_lungs\.png: the mask cannot be read"),
        (np.eye(64, 96), r"0_lungs\.png: the mask's values reach only 1; it must hold 0 and 255"),
        (np.zeros((32, 48)), r"0_lesions\.png: its size \(64, 96\) differs from that of .*0_lungs\.png"),
    ],
    ids=["empty", "no picture", "cut off", "broken chunk", "0 and 1", "another size"],
)
def test_a_mask_that_does_not_serve_is_named(manifest: pd.DataFrame, content: object, problem: str) -> None:
    path = Path(manifest.loc[0, "lungs"])
    whole = path.read_bytes()
    if isinstance(content, np.ndarray):
        save(path, content)
    elif content == "broken":
        path.write_bytes(whole[:37] + b"\xff" * 8 + whole[45:])
    else:
        path.write_bytes(whole[:60] if content == "cut" else content)  # type: ignore[arg-type]
    with pytest.raises(GroundglassError, match=problem):
        load_masked_part(manifest, "train", PREPROCESSING)


def test_soft_borders_and_colour_are_read_as_masks(manifest: pd.DataFrame, tmp_path: Path) -> None:
    row = manifest.loc[0].copy()
    expected = read_truth(row)
    for name in ("lungs", "lesions"):
        with Image.open(row[name]) as image:
            image.convert("RGB").save(tmp_path / f"{name}.jpg", quality=60)
        row[name] = str(tmp_path / f"{name}.jpg")
    got = read_truth(row)
    assert got.keys() == expected.keys() == {"lungs", "lesions"}
    assert all((got[name] == wanted).mean() > 0.99 for name, wanted in expected.items())


def test_masks_of_another_size_than_their_slice_cannot_be_measured(
    manifest: pd.DataFrame, tmp_path: Path
) -> None:
    segmenter = Segmenter.load(threshold_segmenter(tmp_path / "stub"))
    table = overlaps(segmenter, manifest)
    cases = ["b", "a", manifest["path"][2], "b", manifest["path"][4]]
    assert table["case"].tolist() == [case for case in cases for _ in range(2)]
    assert table["true_px"].tolist()[:2] == [32 * 32 + 8 * 16, 16 * 16]
    for name in ("lungs", "lesions"):
        save(Path(manifest.loc[1, name]), np.zeros((32, 48)))
    with pytest.raises(
        GroundglassError, match=r"1_lungs\.png: its size \(32, 48\) differs from that of .*1\.png"
    ):
        overlaps(segmenter, manifest)


@pytest.fixture
def mixed(manifest: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    """Slices with masks of lungs and lesions, of lesion types, without lesions, of only lungs, and of nothing."""
    rows = manifest.assign(split="train", lesion_types="")
    types = np.zeros((64, 96))
    types[40:50, 8:16], types[50:56, 8:16] = 127, 254
    rows.loc[1, ["lungs", "lesions", "lesion_types"]] = ["", "", save(tmp_path / "types.png", types)]
    rows.loc[2, ["lungs", "lesions"]] = ["", "none"]
    rows.loc[3, "lesions"] = ""
    rows.loc[4, ["lungs", "lesions"]] = ""
    return rows


def test_each_slice_teaches_what_its_dataset_knows(mixed: pd.DataFrame, tmp_path: Path) -> None:
    finder = Segmenter.load(threshold_segmenter(tmp_path / "stub"))
    part = load_masked_part(mixed, "train", PREPROCESSING, lungs_from=finder, planes=3)
    assert part.rows["path"].tolist() == mixed["path"].tolist()[:4], (
        "a slice of which nothing is known is left out"
    )
    assert part.taught.tolist() == [
        [True, True, False],
        [False, True, True],
        [False, True, True],
        [True, False, False],
    ]
    inside = part.masks % UNKNOWN
    assert (inside.max(axis=(1, 2))[2, 1:] == 0).all()
    assert inside[1, ..., 1].sum() == 8 * 4
    assert inside[1, ..., 2].sum() == 3 * 4
    assert (inside[..., 1] <= inside[..., 0]).all()
    assert (inside[..., 2] <= inside[..., 1]).all()


def test_masks_are_measured_where_they_are_known(mixed: pd.DataFrame, tmp_path: Path) -> None:
    table = overlaps(Segmenter.load(threshold_segmenter(tmp_path / "stub")), mixed.iloc[:4])
    assert table["structure"].tolist() == ["lungs", "lesions", "lesions", "lesions", "lungs"]
    assert table["true_px"].tolist()[2:4] == [16 * 8, 0]


def test_without_a_finder_of_lungs_every_slice_needs_both_masks(mixed: pd.DataFrame) -> None:
    with pytest.raises(GroundglassError, match=r"1\.png: has no mask of its lungs; .* training\.lungs_from"):
        load_masked_part(mixed, "train", PREPROCESSING)
