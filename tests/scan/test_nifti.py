import gzip
import io
import itertools
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nifti_files import HU, SHAPE, SPACING, edited, image, load, pixels, saved

from groundglass.errors import ScanError
from groundglass.scan.nifti import nifti_series
from groundglass.scan.volume import Member

ALL_CODES = [
    codes
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(axes[0], axes[1], axes[2])
]


@pytest.mark.parametrize("codes", ALL_CODES, ids="".join)
@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_every_orientation_gives_the_same_volume_and_place(
    tmp_path: Path, codes: tuple[str, ...], tilt: float
) -> None:
    path = saved(image(codes, tilt=tilt), tmp_path / "ct.nii")
    assert nib.aff2axcodes(nib.load(path).affine) == codes
    series = nifti_series(path)
    assert (series.slices, series.rows, series.columns, series.plane) == (*SHAPE, "axial")
    volume = series.load()
    assert np.array_equal(pixels(volume), HU.astype(np.float32))
    assert volume.is_hu
    assert not volume.warnings
    assert volume.geometry is not None
    assert series.spacing == volume.geometry.spacing == pytest.approx(SPACING, rel=1e-5)
    canonical = nib.as_closest_canonical(nib.load(path))
    values = np.asarray(canonical.dataobj)
    for slice_, row, column in ((0, 0, 0), (32, 39, 35), (7, 21, 30)):
        index = (SHAPE[2] - 1 - column, SHAPE[1] - 1 - row, slice_)
        assert values[index] == HU[slice_, row, column]
        place = volume.geometry.positions[slice_] + row * volume.geometry.row_step
        place = place + column * volume.geometry.column_step
        assert place * (-1, -1, 1) == pytest.approx(apply_affine(canonical.affine, index), abs=1e-3)


def test_there_are_48_orientations() -> None:
    assert len(set(ALL_CODES)) == 48


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("made", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
def test_every_version_byte_order_and_type(
    tmp_path: Path, name: str, made: Any, endian: str, dtype: Any
) -> None:
    source = image()
    header = made.header_class(endianness=endian)
    header.set_data_dtype(dtype)
    path = saved(
        made(np.asarray(source.dataobj).astype(dtype), source.affine, header, dtype=dtype), tmp_path / name
    )
    volume = load(path)
    assert np.array_equal(pixels(volume), HU.astype(np.float32))
    assert volume.scan_id == "ct"
    assert volume.source == path


def test_the_content_counts_and_not_the_name(tmp_path: Path) -> None:
    packed = saved(image(), tmp_path / "ct.nii.gz").rename(tmp_path / "packed.nii")
    plain = saved(image(), tmp_path / "ct.nii").rename(tmp_path / "plain.nii.gz")
    for path in (packed, plain):
        assert np.array_equal(pixels(load(path)), HU)


@pytest.mark.parametrize("name", ["in/ct.nii", "in/ct.nii.gz"])
def test_within_a_zip(tmp_path: Path, name: str) -> None:
    path = saved(image(), tmp_path / Path(name).name)
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, name)
    series = nifti_series(Member(tmp_path / "all.zip", name))
    volume = series.load()
    assert np.array_equal(pixels(volume), HU)
    assert (volume.scan_id, volume.source) == ("ct", tmp_path / "all.zip" / name)
    with pytest.raises(ScanError, match="ZIP"):
        nifti_series(Member(tmp_path / "all.zip", "none.nii"))


def test_slices_are_read_from_several_threads(tmp_path: Path) -> None:
    volume = load(saved(image("SAR"), tmp_path / "ct.nii.gz"))
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(volume.read, list(range(SHAPE[0])) * 5))
    assert np.array_equal(np.stack(read), np.concatenate([HU] * 5))
    read[0][:] = 7
    assert np.array_equal(volume.read(0), HU[0])


def test_slice_of_the_volume_is_a_scan(tmp_path: Path) -> None:
    scan = load(saved(image(), tmp_path / "ct.nii")).slice(2)
    assert (scan.scan_id, scan.orientation, scan.is_hu) == ("ct-0003", "PL", True)
    assert scan.spacing == pytest.approx(SPACING[1:])


def test_qform_counts_where_there_is_no_sform(tmp_path: Path) -> None:
    source = image("PIR")
    source.set_sform(np.diag([9, 9, 9, 1]), 0)
    volume = load(saved(source, tmp_path / "ct.nii"))
    assert np.array_equal(pixels(volume), HU)
    assert not volume.warnings


def test_sform_counts_before_qform(tmp_path: Path) -> None:
    source = image("PIR")
    source.set_qform(np.diag([1, 1, 1, 1]), 1)
    assert np.array_equal(pixels(load(saved(source, tmp_path / "ct.nii"))), HU)


def test_without_either_code_the_sides_are_assumed_aloud(tmp_path: Path) -> None:
    path = edited(saved(image("LAS"), tmp_path / "ct.nii"), sform_code=0, qform_code=0)
    series = nifti_series(path)
    volume = series.load()
    assert np.array_equal(pixels(volume), HU)
    assert volume.geometry is not None
    assert volume.geometry.spacing == pytest.approx(SPACING)
    assert len(volume.warnings) == 1
    assert "from the patient's right to the left" in volume.warnings[0]
    assert series.plane == "unknown"


@pytest.mark.parametrize("length", [0.0, float("nan"), float("inf"), 1e9, 1e-6])
def test_without_any_usable_spacing_the_place_is_unknown(tmp_path: Path, length: float) -> None:
    path = edited(saved(image("LAS"), tmp_path / "ct.nii"), sform_code=0, qform_code=0, pixdim__2=length)
    series = nifti_series(path)
    volume = series.load()
    assert np.array_equal(pixels(volume), HU)
    assert volume.geometry is None
    assert series.spacing is None
    assert any("size is unknown" in warning for warning in volume.warnings)
    assert volume.slice(0).spacing is None


def test_negative_spacing_counts_by_its_size(tmp_path: Path) -> None:
    path = edited(saved(image("LAS"), tmp_path / "ct.nii"), sform_code=0, qform_code=0, pixdim__3=-2.5)
    geometry = load(path).geometry
    assert geometry is not None
    assert geometry.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [float("nan"), 0, 0, 0], [1e30, 0, 0, 0]])
def test_a_damaged_sform_is_ignored_with_a_warning(tmp_path: Path, row: list[float]) -> None:
    volume = load(edited(saved(image("LAS"), tmp_path / "ct.nii"), srow_x=row))
    assert np.array_equal(pixels(volume), HU)
    assert volume.geometry is not None
    assert volume.warnings == ("its sform is not usable and was ignored",)


def test_units_of_length(tmp_path: Path) -> None:
    source = image()
    source.set_sform(np.diag([1e-3, 1e-3, 1e-3, 1]) @ source.affine, 1)
    path = edited(saved(source, tmp_path / "ct.nii"), xyzt_units=1)
    geometry = load(path).geometry
    assert geometry is not None
    assert geometry.spacing == pytest.approx(SPACING, rel=1e-5)


def test_slope_and_intercept(tmp_path: Path) -> None:
    stored = ((image().get_fdata() + 1024) * 2).astype(np.uint16)
    made = nib.Nifti1Image(stored, image().affine)
    made.header.set_slope_inter(1, 0)
    path = edited(saved(made, tmp_path / "ct.nii"), scl_slope=0.5, scl_inter=-1024)
    assert np.array_equal(pixels(load(path)), HU)


def test_a_falling_slope(tmp_path: Path) -> None:
    made = nib.Nifti1Image(-np.asarray(image().dataobj), image().affine)
    assert np.array_equal(
        pixels(load(edited(saved(made, tmp_path / "ct.nii"), scl_slope=-1, scl_inter=0))), HU
    )


def test_lost_intercept_is_put_back_aloud(tmp_path: Path) -> None:
    volume = load(saved(image(values=(HU + 1024).astype(np.uint16)), tmp_path / "ct.nii"))
    assert np.array_equal(pixels(volume), HU)
    assert volume.is_hu
    assert any("1024 was subtracted" in warning for warning in volume.warnings)


def test_lost_intercept_with_padding_round_the_field(tmp_path: Path) -> None:
    raw = HU + np.int16(1024)
    raw[:, :4] = -2000
    volume = load(saved(image(values=raw), tmp_path / "ct.nii"))
    assert np.array_equal(pixels(volume)[:, 4:], HU[:, 4:])
    assert (pixels(volume)[:, :4] == -1024).all()


def test_padding_under_air_becomes_air(tmp_path: Path) -> None:
    padded = HU.copy()
    padded[:, :4] = -3024
    volume = load(saved(image(values=padded), tmp_path / "ct.nii"))
    assert (pixels(volume)[:, :4] == -1024).all()
    assert not volume.warnings


@pytest.mark.parametrize(("top", "dtype"), [(1, np.float32), (255, np.uint8), (255, np.float64)])
def test_grey_is_distinguished_from_hu(tmp_path: Path, top: int, dtype: Any) -> None:
    grey = np.clip((HU + 1350) / 1500, 0, 1) * top
    grey = grey.astype(dtype)
    volume = load(saved(image(values=grey), tmp_path / "ct.nii"))
    assert not volume.is_hu
    assert any("not Hounsfield" in warning for warning in volume.warnings)
    assert pixels(volume) == pytest.approx(grey / top, abs=1e-6)


def test_holes_become_air_aloud(tmp_path: Path) -> None:
    values = HU.astype(np.float32)
    values[:, 0, 0], values[3, 3, 3] = np.nan, np.inf
    volume = load(saved(image(values=values), tmp_path / "ct.nii"))
    assert volume.warnings == ("34 voxels without a number, read as air",)
    assert (pixels(volume)[:, 0, 0] == -1024).all()
    assert pixels(volume)[3, 3, 3] == -1024
    assert np.array_equal(pixels(volume)[:, 20], HU[:, 20])


def test_one_volume_of_four_axes_is_read(tmp_path: Path) -> None:
    made = nib.Nifti1Image(np.asarray(image().dataobj)[..., None], image().affine)
    assert np.array_equal(pixels(load(saved(made, tmp_path / "ct.nii"))), HU)


def test_a_single_axial_slice_is_read(tmp_path: Path) -> None:
    path = saved(nib.Nifti1Image(np.asarray(image().dataobj)[..., 12], image().affine), tmp_path / "ct.nii")
    volume = load(path)
    assert np.array_equal(pixels(volume), HU[12:13])
    assert volume.geometry is not None
    assert volume.geometry.spacing is None


def test_coarse_pixels_of_a_coronal_volume_are_reported(tmp_path: Path) -> None:
    made = image("LSA")
    made.set_sform(made.affine @ np.diag([1, 1, 6, 1]), 1)
    series = nifti_series(saved(made, tmp_path / "ct.nii"))
    assert any("coronal" in warning for warning in series.warnings)


def test_strongly_tilted_slices_are_reported(tmp_path: Path) -> None:
    series = nifti_series(saved(image(tilt=35), tmp_path / "ct.nii"))
    assert series.plane == "oblique"
    assert any("35 degrees" in warning for warning in series.warnings)


def test_content_changes_with_the_file(tmp_path: Path) -> None:
    path = saved(image(), tmp_path / "ct.nii")
    before = nifti_series(path).content
    assert nifti_series(path).content == before
    path.write_bytes(path.read_bytes() + b"\0")
    assert nifti_series(path).content != before


def test_listing_reads_no_voxels(tmp_path: Path) -> None:
    path = saved(image(), tmp_path / "ct.nii")
    whole = path.read_bytes()
    path.write_bytes(whole[:400])
    series = nifti_series(path)
    assert series.usable
    path.write_bytes(whole)
    assert np.array_equal(pixels(series.load()), HU)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    plain = io.BytesIO()
    image().to_file_map({"image": nib.FileHolder(fileobj=plain)})
    content = plain.getvalue()
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    assert np.array_equal(pixels(load(path)), HU)


@pytest.mark.parametrize(("signs", "flipped"), [((1, 1, 1), False), ((-1, -1, 1), True), ((-1, 1, 1), False)])
def test_an_identity_affine_is_not_believed(tmp_path: Path, signs: tuple[int, ...], flipped: bool) -> None:
    stored = np.asarray(image("LAS").dataobj)
    made = nib.Nifti1Image(stored[:, ::-1] if flipped else stored, np.diag((*signs, 1)))
    series = nifti_series(saved(made, tmp_path / "ct.nii"))
    assert series.spacing is None
    assert series.plane == "unknown"
    assert "patient's right side" in series.warnings[0]
    volume = series.load()
    assert volume.geometry is None
    assert not volume.oriented
    assert np.array_equal(pixels(volume), HU)


def test_an_affine_without_origin_keeps_its_spacing_and_warns(tmp_path: Path) -> None:
    made = image("LPS")
    affine = made.affine.copy()
    affine[:3, 3] = 0
    series = nifti_series(saved(nib.Nifti1Image(np.asarray(made.dataobj), affine), tmp_path / "ct.nii"))
    assert series.spacing == pytest.approx(SPACING)
    assert "right and left may be exchanged" in series.warnings[0]
    assert not series.load().oriented
    assert nifti_series(saved(made, tmp_path / "placed.nii")).load().oriented
