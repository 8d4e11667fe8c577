from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from nibabel.orientations import aff2axcodes

from groundglass.errors import GroundglassError
from groundglass.phantom import Lesion, Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.phantom import phantom_geometry
from groundglass.phantom.volumes import write_phantom_nifti
from phantom_nifti import ORIENTATIONS, write_nifti


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(3, shape=(10, 48, 40), lesions=[Lesion("consolidation", 60)])


def at_phantom_places(image: nib.Nifti1Image, phantom: Phantom) -> np.ndarray:
    """The image's values at the phantom's voxels, found only by their positions in the patient."""
    geometry = phantom_geometry(phantom)
    slices, rows, columns = phantom.lungs.shape
    points = (
        geometry.positions[:, None, None]
        + np.arange(rows)[:, None, None] * geometry.row_step
        + np.arange(columns)[:, None] * geometry.column_step
    )
    right_front_head = points.reshape(-1, 3) * (-1, -1, 1)
    indices = nib.affines.apply_affine(np.linalg.inv(image.affine), right_front_head)
    assert np.allclose(indices, np.rint(indices), atol=1e-4)
    i, j, k = np.rint(indices).astype(int).T
    return np.asarray(image.dataobj)[i, j, k].reshape(slices, rows, columns)


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48
    assert {"RAS", "LPS", "SPL"} <= set(ORIENTATIONS)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_puts_every_voxel_in_its_place(
    phantom: Phantom, tmp_path: Path, orientation: str
) -> None:
    image = nib.load(write_nifti(phantom, tmp_path / "a.nii", orientation=orientation))
    assert "".join(aff2axcodes(image.affine)) == orientation
    assert np.array_equal(at_phantom_places(image, phantom), phantom.scan.pixels)


def test_the_front_is_the_front(phantom: Phantom, tmp_path: Path) -> None:
    values = np.asarray(nib.load(write_phantom_nifti(phantom, tmp_path / "a.nii")).dataobj)
    body = (values[:, :, :3] > 0).sum(axis=(0, 2))
    assert body[:10].sum() < body[-10:].sum(), "the couch and the air under it lie behind, where RAS begins"
    bone = (values > 300)[12:28].sum(axis=(0, 2))
    assert bone[:24].sum() > 1.5 * bone[24:].sum(), "the spine is more bone than the breastbone"
    lungs = np.asarray(nib.load(write_phantom_nifti(phantom, tmp_path / "l.nii", content="lungs")).dataobj)
    assert np.nonzero(lungs == 1)[0].mean() > np.nonzero(lungs == 2)[0].mean(), (
        "the right lung is to the right"
    )


@pytest.mark.parametrize("content", ["lungs", "lesions"])
def test_masks_are_exact(phantom: Phantom, tmp_path: Path, content: str) -> None:
    path = write_phantom_nifti(phantom, tmp_path / "mask.nii.gz", content=content)
    image = nib.load(path)
    assert image.get_data_dtype() == np.int16
    mask = at_phantom_places(image, phantom)
    assert mask.any()
    assert np.array_equal(mask, getattr(phantom, content))


def test_grey_is_the_lung_window(phantom: Phantom, tmp_path: Path) -> None:
    path = write_nifti(phantom, tmp_path / "grey.nii", content="grey", dtype=np.uint8)
    grey = at_phantom_places(nib.load(path), phantom)
    assert grey[phantom.scan.pixels == -1000].max() == round(255 * 350 / 1500), "air in -1350 to 150 HU"
    assert (grey[phantom.scan.pixels > 150] == 255).all()
    middle = np.abs(phantom.scan.pixels + 600) <= 1
    assert (np.abs(grey[middle].astype(int) - 127.5) <= 1.5).all()


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "nearest"),
    [
        ("int16", 2.0, -1024.0, 1.0),
        ("uint16", 1.0, -2000.0, 0.0),
        ("float32", 0.5, 3.0, 0.0),
        ("float64", None, 0, 0.0),
    ],
)
def test_slope_and_intercept_give_the_values_back(
    phantom: Phantom, tmp_path: Path, dtype: str, slope: float | None, intercept: float, nearest: float
) -> None:
    path = write_nifti(phantom, tmp_path / "a.nii", dtype=dtype, slope=slope, intercept=intercept)
    image = nib.load(path)
    assert image.get_data_dtype() == np.dtype(dtype)
    assert image.dataobj.slope == (slope or 1)
    assert np.abs(at_phantom_places(image, phantom) - phantom.scan.pixels).max() <= nearest


def test_values_that_do_not_fit_are_cut_off(phantom: Phantom, tmp_path: Path) -> None:
    path = write_nifti(phantom, tmp_path / "a.nii", dtype=np.uint8)
    assert np.array_equal(at_phantom_places(nib.load(path), phantom), phantom.scan.pixels.clip(0, 255))


def test_the_ending_compresses(phantom: Phantom, tmp_path: Path) -> None:
    plain = write_phantom_nifti(phantom, tmp_path / "a.nii").read_bytes()
    packed = write_phantom_nifti(phantom, tmp_path / "a.nii.gz").read_bytes()
    assert packed[:2] == b"\x1f\x8b"
    assert len(packed) < len(plain)
    assert packed == write_phantom_nifti(phantom, tmp_path / "b.nii.gz").read_bytes()
    assert np.array_equal(nib.load(tmp_path / "a.nii").dataobj, nib.load(tmp_path / "a.nii.gz").dataobj)


def test_dicom_and_nifti_have_the_same_position(phantom: Phantom, tmp_path: Path) -> None:
    image = nib.load(write_nifti(phantom, tmp_path / "a.nii", orientation="LPS"))
    first = pydicom.dcmread(write_phantom_dicom(phantom, tmp_path)[0])
    assert np.allclose(image.affine[:3, 3] * (-1, -1, 1), np.array(first.ImagePositionPatient, dtype=float))
    assert np.array_equal(np.asarray(image.dataobj)[:, :, 0].T, first.pixel_array - 1024.0)


def test_a_bad_ending_is_named(phantom: Phantom, tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match=r"ends in \.nii or \.nii\.gz"):
        write_phantom_nifti(phantom, tmp_path / "a.img")
    assert not list(tmp_path.iterdir())
