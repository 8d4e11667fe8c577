import gzip
import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from groundglass.errors import GroundglassError
from groundglass.scan.nifti import nifti_series
from groundglass.scan.nifti_out import is_even, note_on_grid, write_nifti_mask
from groundglass.scan.volume import Geometry

SHAPE = (33, 40, 36)
HEIGHTS = np.arange(SHAPE[0]) * 2.5 - 300


def mask() -> NDArray[np.uint8]:
    made = np.zeros(SHAPE, np.uint8)
    made[4:20, 12:22, 6:14] = 1
    made[10:30, 26:30, 20:28] = 2
    return made


MASK = mask()


def geometry(heights: NDArray[np.float64] = HEIGHTS, *, tilt: float = 0.0, turn: float = 0.0) -> Geometry:
    """Slices at ``heights``; rows tilted as by a gantry, all rotated about the left-right axis, in degrees."""
    tilted, turned = np.radians((tilt, turn))
    rotation = np.array(
        [[1, 0, 0], [0, np.cos(turned), -np.sin(turned)], [0, np.sin(turned), np.cos(turned)]]
    )
    positions = np.stack([np.full(len(heights), -130.0), np.full(len(heights), -170.5), heights], axis=1)
    row_step = np.array([0, 0.9 * np.cos(tilted), 0.9 * np.sin(tilted)])
    return Geometry(positions @ rotation.T, rotation @ row_step, np.array([0.7, 0, 0]))


def place(where: Geometry, slice_: int, row: int, column: int) -> NDArray[np.float64]:
    """A voxel's centre in RAS mm."""
    lps = where.positions[slice_] + row * where.row_step + column * where.column_step
    return lps * (-1, -1, 1)


@pytest.mark.parametrize("turn", [0, 12])
def test_is_where_the_geometry_says(tmp_path: Path, turn: float) -> None:
    where = geometry(turn=turn)
    write_nifti_mask(tmp_path / "new" / "mask.nii.gz", MASK, where)
    read = nib.load(tmp_path / "new" / "mask.nii.gz")
    values = np.asarray(read.dataobj)
    assert read.get_data_dtype() == np.uint8
    assert values.shape == SHAPE[::-1]
    for slice_, row, column in ((0, 0, 0), (15, 27, 24), (32, 39, 35)):
        assert values[column, row, slice_] == MASK[slice_, row, column]
        stored = apply_affine(read.affine, (column, row, slice_))
        assert stored == pytest.approx(place(where, slice_, row, column), abs=1e-3)
    assert np.array_equal(values.T, MASK)
    assert read.header.get_xyzt_units()[0] == "mm"
    assert read.header.get_zooms()[:2] == pytest.approx((0.7, 0.9))


@pytest.mark.parametrize(("tilt", "turn"), [(0, 12), (20, 0), (-15, 5), (0.2, 0)])
def test_a_tilted_stack_is_written_on_a_grid_with_right_angles(
    tmp_path: Path, tilt: float, turn: float
) -> None:
    where = geometry(tilt=tilt, turn=turn)
    write_nifti_mask(tmp_path / "mask.nii.gz", MASK, where)
    read = nib.load(tmp_path / "mask.nii.gz")
    assert read.get_qform() == pytest.approx(read.get_sform(), abs=1e-3)
    axes = read.affine[:3, :3] / np.linalg.norm(read.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    values = np.asarray(read.dataobj)
    assert all((values == label).sum() == (label == MASK).sum() for label in (1, 2))
    for slice_, row, column in np.argwhere(MASK)[::97]:
        at = apply_affine(np.linalg.inv(read.affine), place(where, slice_, row, column))
        assert np.abs(at - np.rint(at)).max() <= 0.51, "off by half a pixel at most"
        assert values[tuple(np.rint(at - [0, 1e-9, 0]).astype(int))] == MASK[
            slice_, row, column
        ] or np.isclose(np.abs(at - np.rint(at)).max(), 0.5, atol=0.02)
    assert bool(note_on_grid(where)) == (abs(tilt) > 0.5) == (b"tilt" in bytes(read.header["descrip"]))


@pytest.mark.parametrize(
    "codes",
    [
        "".join(codes)
        for axes in itertools.permutations(("RL", "AP", "SI"))
        for codes in itertools.product(*axes)
    ],
)
def test_aligns_with_a_nifti_source_on_its_own_grid(tmp_path: Path, codes: str) -> None:
    rng = np.random.default_rng(1)
    hu = np.clip(np.where(MASK > 0, -800, 40) + rng.normal(0, 10, SHAPE), -1024, 3000).astype(np.int16)
    affine = np.array([[0, 0, -0.7, 90], [0.1, -0.9, 0, 80], [2.5, 0.1, 0, -300], [0, 0, 0, 1]])
    spl = nib.Nifti1Image(hu, affine)
    change = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(codes))
    nib.save(spl.as_reoriented(change), tmp_path / "ct.nii.gz")
    volume = nifti_series(tmp_path / "ct.nii.gz").load()
    upright = np.stack([volume.read(number) for number in range(SHAPE[0])])
    assert np.array_equal(upright, hu)
    write_nifti_mask(tmp_path / "mask.nii.gz", MASK, volume.geometry, source=volume.grid)
    source, written = nib.load(tmp_path / "ct.nii.gz"), nib.load(tmp_path / "mask.nii.gz")
    assert written.shape == source.shape
    assert np.array_equal(written.affine, source.affine)
    for form in ("get_sform", "get_qform"):
        theirs, ours = getattr(source, form)(coded=True), getattr(written, form)(coded=True)
        assert theirs[1] == ours[1]
        assert np.array_equal(theirs[0], ours[0]) if theirs[0] is not None else ours[0] is None
    assert np.array_equal(np.asarray(written.dataobj) > 0, np.asarray(source.dataobj) < -400)


def test_a_source_without_a_place_keeps_it_so(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).normal(-700, 300, SHAPE).clip(-1024, 900).astype(np.int16)
    made = nib.Nifti1Image(hu.T, None)
    made.header["pixdim"][1:4] = 0
    made.to_filename(tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    header["pixdim"][1:4] = (0, 0.9, 2.5)
    header["sform_code"] = header["qform_code"] = 0
    (tmp_path / "ct.nii").write_bytes(header.binaryblock + content[348:])
    volume = nifti_series(tmp_path / "ct.nii").load()
    assert volume.geometry is None
    write_nifti_mask(tmp_path / "mask.nii.gz", MASK, volume.geometry, source=volume.grid)
    written = nib.Nifti1Header(gzip.decompress((tmp_path / "mask.nii.gz").read_bytes())[:348], check=False)
    assert written["pixdim"][1:4] == pytest.approx((0, 0.9, 2.5))
    assert (int(written["sform_code"]), int(written["qform_code"])) == (0, 0)


def stack_with_gaps() -> tuple[Geometry, NDArray[np.uint8], NDArray[np.intp]]:
    """Slices 7, 8 and 20 are missing."""
    left = np.setdiff1d(np.arange(SHAPE[0]), (7, 8, 20))
    return geometry(HEIGHTS[left]), MASK[left], left


def test_missing_slices_are_filled_from_the_nearest(tmp_path: Path) -> None:
    where, left_mask, left = stack_with_gaps()
    assert not is_even(where)
    assert "even spacing" in note_on_grid(where)
    write_nifti_mask(tmp_path / "mask.nii.gz", left_mask, where)
    read = nib.load(tmp_path / "mask.nii.gz")
    values = np.asarray(read.dataobj).T
    assert values.shape == SHAPE
    assert np.array_equal(values[left], left_mask)
    assert np.array_equal(values[7], MASK[6])
    assert np.array_equal(values[8], MASK[9])
    assert np.array_equal(values[20], MASK[19])
    assert b"nearest" in bytes(read.header["descrip"])
    for number, slice_ in enumerate(left):
        stored = apply_affine(read.affine, (3, 5, slice_))
        assert stored == pytest.approx(place(where, number, 5, 3), abs=1e-3)


def test_uneven_slices_stay_within_half_a_step(tmp_path: Path) -> None:
    steps = np.random.default_rng(2).uniform(1.5, 3.5, SHAPE[0])
    where = geometry(np.cumsum(steps))
    numbered = np.broadcast_to(np.arange(SHAPE[0], dtype=np.uint8)[:, None, None], SHAPE).copy()
    write_nifti_mask(tmp_path / "mask.nii.gz", numbered, where)
    read = nib.load(tmp_path / "mask.nii.gz")
    assert read.header.get_zooms()[2] == pytest.approx(np.median(steps[1:]), rel=1e-5)
    for index, number in enumerate(np.asarray(read.dataobj)[0, 0]):
        height = apply_affine(read.affine, (0, 0, index))[2]
        nearest = np.abs(np.cumsum(steps) - height).min()
        assert abs(np.cumsum(steps)[number] - height) == pytest.approx(nearest, abs=1e-3)
    assert np.asarray(read.dataobj)[0, 0, -1] >= SHAPE[0] - 2


def test_slight_unevenness_is_left_as_it_is(tmp_path: Path) -> None:
    where = geometry(HEIGHTS + np.random.default_rng(0).uniform(-0.05, 0.05, SHAPE[0]))
    assert is_even(where)
    write_nifti_mask(tmp_path / "mask.nii.gz", MASK, where)
    read = nib.load(tmp_path / "mask.nii.gz")
    assert np.array_equal(np.asarray(read.dataobj).T, MASK)
    assert bytes(read.header["descrip"]).strip(b"\0") == b""


def test_a_single_slice(tmp_path: Path) -> None:
    write_nifti_mask(tmp_path / "mask.nii.gz", MASK[12:13], geometry(HEIGHTS[:1]))
    read = nib.load(tmp_path / "mask.nii.gz")
    assert read.shape == (36, 40, 1)
    assert read.header.get_zooms() == pytest.approx((0.7, 0.9, 1))


def test_no_place_states_none(tmp_path: Path) -> None:
    write_nifti_mask(tmp_path / "mask.nii.gz", MASK, None)
    header = nib.load(tmp_path / "mask.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti_mask(tmp_path / name, MASK, geometry())
    content = (tmp_path / "a.nii.gz").read_bytes()
    assert content == (tmp_path / "b.nii.gz").read_bytes()
    assert b"a.nii" not in content


def test_any_memory_layout_is_written_in_the_same_way(tmp_path: Path) -> None:
    write_nifti_mask(tmp_path / "a.nii.gz", MASK, geometry())
    write_nifti_mask(tmp_path / "b.nii.gz", np.asfortranarray(MASK), geometry())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("wrong", [MASK.astype(bool), MASK.astype(np.int16), MASK[0], MASK[:5]])
def test_a_wrong_mask_is_the_callers_mistake(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"mask|slices"):
        write_nifti_mask(tmp_path / "mask.nii.gz", wrong, geometry())


def test_an_unwritable_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GroundglassError, match="cannot be written"):
        write_nifti_mask(tmp_path / "file" / "mask.nii.gz", MASK, geometry())
