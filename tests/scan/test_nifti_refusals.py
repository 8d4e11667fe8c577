import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nifti_files import HU, SHAPE, edited, image, refusal, saved

from groundglass.errors import ScanError
from groundglass.scan.nifti import nifti_series


def test_an_intercept_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    path = edited(saved(image(), tmp_path / "ct.nii"), scl_slope=1, scl_inter=float("nan"))
    assert "scale" in refusal(path)


def test_other_numbers_are_refused(tmp_path: Path) -> None:
    for values in (HU / 1000, (HU + 1100) * np.int16(8), HU + 4000, HU * 1e6):
        path = saved(image(values=values.astype(np.float32)), tmp_path / "ct.nii")
        assert "neither Hounsfield" in refusal(path)


def test_masks_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    organs = np.repeat(np.repeat(rng.integers(0, 118, (11, 10, 4)), 3, 0), 4, 1).repeat(9, 2)
    for mask in (HU > -500, np.digitize(HU, (-900, -500, 0)), organs):
        for dtype in (np.uint8, np.float32):
            assert "mask" in refusal(saved(image(values=mask.astype(dtype)), tmp_path / "m.nii"))
    labelled = image()
    labelled.header.set_intent("label")
    path = saved(labelled, tmp_path / "l.nii")
    assert "mask" in nifti_series(path).problem
    assert "mask" in refusal(path)


def test_one_value_is_refused(tmp_path: Path) -> None:
    assert "same value" in refusal(saved(image(values=np.zeros(SHAPE, np.int16)), tmp_path / "m.nii"))


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_mostly_holes_are_refused(tmp_path: Path, share: float) -> None:
    values = HU.astype(np.float32)
    values[: int(np.ceil(share * len(values)))] = np.nan
    assert "no number" in refusal(saved(image(values=values), tmp_path / "ct.nii"))


def test_several_volumes_are_refused_by_their_number(tmp_path: Path) -> None:
    made = nib.Nifti1Image(np.stack([np.asarray(image().dataobj)] * 3, -1), image().affine)
    path = saved(made, tmp_path / "ct.nii")
    assert nifti_series(path).problem == "holds 3 volumes"
    assert "holds 3 volumes" in refusal(path)


def test_a_single_coronal_slice_is_refused(tmp_path: Path) -> None:
    coronal = image("LSA").slicer[:, :, 5:6]
    assert "too few" in refusal(saved(coronal, tmp_path / "ct.nii"))


def test_colours_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for values, word in ((rgb, "colours"), (HU.astype(np.complex64), "complex")):
        assert word in refusal(saved(nib.Nifti1Image(values, np.eye(4)), tmp_path / "ct.nii"))
    for datatype in (0, 1, 3, -1, 32767):
        path = edited(saved(image(), tmp_path / "ct.nii"), datatype=datatype)
        assert "unknown type" in refusal(path)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, name: str, share: float) -> None:
    path = saved(image(), tmp_path / name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert str(path) in refusal(path)


def test_a_flipped_byte_in_gzip_is_refused(tmp_path: Path) -> None:
    path = saved(image(), tmp_path / "ct.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # in the checksum
    path.write_bytes(content)
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"not a scan\n" * 200, b"\x1f\x8b" + b"x" * 900, bytes(1000), b"\x5c\x01\0\0"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ct.nii"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.nii", tmp_path):
        with pytest.raises(ScanError):
            nifti_series(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"dim__0": 0},
        {"dim__0": 9},
        {"dim__1": 0},
        {"dim__2": -5},
        {"vox_offset": float("nan")},
        {"vox_offset": 100},
        {"vox_offset": 1e30},
        {"dim__1": 32767, "dim__2": 32767, "dim__3": 32767},
        {"dim__1": 32767, "dim__2": 32767},
        {"dim__3": 32767},
        {"dim__3": 4000},
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = edited(saved(image(), tmp_path / "ct.nii"), **fields)
    refusal(path)
    packed = tmp_path / "ct.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    refusal(packed)


def test_headers_free_text_is_not_repeated(tmp_path: Path) -> None:
    made = image(values=np.zeros(SHAPE, np.int16))
    made.header["descrip"] = made.header["db_name"] = b"Doe^John"
    path = saved(made, tmp_path / "ct.nii")
    assert "Doe" not in refusal(path) + repr(nifti_series(path))
