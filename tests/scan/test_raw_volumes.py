"""MetaImage, NRRD, Analyze and NIfTI in two files, written by hand or by nibabel and read like NIfTI."""

import gzip
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nifti_files import HU, SPACING, image, load, pixels, refusal

from groundglass.errors import GroundglassError
from groundglass.scan.find import find_series
from groundglass.scan.nifti import nifti_series

STEP = " ".join(map(str, SPACING[::-1]))
SIZE = " ".join(map(str, HU.shape[::-1]))
META = f"""ObjectType = Image
NDims = 3
BinaryData = True
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 5 -6 7
ElementSpacing = {STEP}
"""
NRRD = f"""NRRD0004
# made by hand
type: short
dimension: 3
space: left-posterior-superior
sizes: {SIZE}
space directions: (0.7,0,0) (0,0.9,0) (0,0,2.5)
space origin: (5,-6,7)
key:=value
"""


def metaimage(folder: Path, more: str = "", data: bytes = b"", order: str = "<") -> Path:
    values = data or HU.astype(f"{order}i2").tobytes()
    head = f"{META}DimSize = {SIZE}\nElementType = MET_SHORT\n{more}ElementDataFile = LOCAL\n"
    (folder / "ct.mha").write_bytes(head.encode() + values)
    return folder / "ct.mha"


def detached_metaimage(folder: Path, name: str = "ct.raw", more: str = "") -> Path:
    head = f"{META}DimSize = {SIZE}\nElementType = MET_FLOAT\n{more}ElementDataFile = {name}\n"
    (folder / "ct.mhd").write_text(head)
    (folder / "ct.raw").write_bytes(HU.astype("<f4").tobytes())
    return folder / "ct.mhd"


def nrrd(folder: Path, more: str = "encoding: raw\nendian: little\n", data: bytes = b"") -> Path:
    (folder / "ct.nrrd").write_bytes(f"{NRRD}{more}\n".encode() + (data or HU.astype("<i2").tobytes()))
    return folder / "ct.nrrd"


def detached_nrrd(folder: Path, name: str = "ct.raw.gz") -> Path:
    (folder / "ct.nhdr").write_text(
        f"{NRRD}encoding: gzip\nendian: little\ndata file: {name}\n".replace("\n", "\r\n")
    )
    (folder / "ct.raw.gz").write_bytes(gzip.compress(HU.astype("<i2").tobytes()))
    return folder / "ct.nhdr"


def pair(folder: Path) -> Path:
    nib.save(
        nib.Nifti1Pair(np.asarray(image("LPS").dataobj), np.diag([-0.7, -0.9, 2.5, 1])), folder / "ct.hdr"
    )
    return folder / "ct.hdr"


PACKED = zlib.compress(HU.astype("<i2").tobytes())
FORMATS: dict[str, Callable[[Path], Path]] = {
    "mha": metaimage,
    "mha, big endian": lambda folder: metaimage(folder, "BinaryDataByteOrderMSB = True\n", order=">"),
    "mha, compressed": lambda folder: metaimage(folder, "CompressedData = True\n", PACKED),
    "mhd": detached_metaimage,
    "nrrd": nrrd,
    "nrrd, compressed": lambda folder: nrrd(
        folder, "encoding: gzip\nendian: little\n", gzip.compress(HU.tobytes())
    ),
    "nhdr": detached_nrrd,
}


@pytest.mark.parametrize("form", FORMATS)
def test_values_and_places_are_those_of_the_file(tmp_path: Path, form: str) -> None:
    path = FORMATS[form](tmp_path)
    listing = find_series([tmp_path])
    assert (listing.failures, [one.source for one in listing.series]) == ((), [path])
    volume = listing.series[0].load()
    assert np.array_equal(pixels(volume), HU)
    assert (volume.scan_id, volume.warnings) == ("ct", ())
    assert volume.geometry is not None
    np.testing.assert_allclose(volume.geometry.positions[0], (5, -6, 7), atol=1e-4)
    np.testing.assert_allclose(volume.geometry.positions[-1], (5, -6, 7 + 32 * 2.5), atol=1e-4)
    assert volume.geometry.spacing == pytest.approx(SPACING)


def test_turned_axes_are_turned_upright(tmp_path: Path) -> None:
    turned = np.ascontiguousarray(HU.transpose(1, 2, 0)[:, ::-1])
    text = META.replace("1 0 0 0 1 0 0 0 1", "0 0 1 -1 0 0 0 1 0").replace(STEP, "2.5 0.7 0.9")
    size = " ".join(map(str, turned.shape[::-1]))
    head = f"{text}DimSize = {size}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "ct.mha").write_bytes(head.encode() + turned.tobytes())
    volume = load(tmp_path / "ct.mha")
    assert np.array_equal(pixels(volume), HU)
    assert volume.geometry is not None
    np.testing.assert_allclose(volume.geometry.positions[0], (5 - 35 * 0.7, -6, 7), atol=1e-4)


@pytest.mark.parametrize("named", ["ct.hdr", "ct.img", "."])
def test_nifti_in_two_files_is_read_once(tmp_path: Path, named: str) -> None:
    pair(tmp_path)
    listing = find_series([tmp_path / named])
    (series,) = listing.series
    assert listing.ignored == 0
    assert np.array_equal(pixels(series.load()), HU)
    assert series.spacing == pytest.approx(SPACING)


def test_a_volume_in_two_files_knows_both(tmp_path: Path) -> None:
    header = detached_metaimage(tmp_path)
    series = nifti_series(header)
    assert series.files == {header, tmp_path / "ct.raw"}
    os.utime(tmp_path / "ct.raw", (0, 0))
    assert nifti_series(header).content != series.content


def test_analyze_has_a_size_and_no_sides(tmp_path: Path) -> None:
    analyze = nib.AnalyzeImage(np.asarray(image("LAS").dataobj), None)
    analyze.header.set_zooms(SPACING[::-1])
    nib.save(analyze, tmp_path / "ct.img")
    series = nifti_series(tmp_path / "ct.hdr")
    assert np.array_equal(pixels(series.load()), HU)
    assert series.spacing == pytest.approx(SPACING)
    assert "which way its axes point" in series.warnings[0]


def test_two_files_are_read_from_a_zip(tmp_path: Path) -> None:
    detached_metaimage(tmp_path)
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as archive:
        for name in ("ct.mhd", "ct.raw"):
            archive.write(tmp_path / name, f"disc/{name}")
    (series,) = find_series([tmp_path / "ct.zip"]).series
    assert np.array_equal(pixels(series.load()), HU)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: nrrd(folder, "encoding: bzip2\n"), "not stored as raw or gzip"),
        (lambda folder: nrrd(folder, "encoding: raw\nline skip: 3\n"), "skips lines"),
        (lambda folder: nrrd(folder, data=b"short"), "fewer voxels"),
        (lambda folder: detached_nrrd(folder, "../ct.raw.gz"), "outside its folder"),
        (lambda folder: detached_nrrd(folder, "gone.raw.gz"), "gone.raw.gz, are not beside it"),
        (lambda folder: detached_metaimage(folder, "LIST"), "several files"),
        (lambda folder: detached_metaimage(folder, more="ElementNumberOfChannels = 3\n"), "colours"),
        (lambda folder: metaimage(folder, "DimSize = 1 2\n"), "too few"),
        (lambda folder: metaimage(folder, "NDims = many\n"), "header cannot be read"),
        (lambda folder: metaimage(folder, "ElementType = MET_ODD\n"), "header cannot be read"),
        (lambda folder: metaimage(folder, "CompressedData = True\n", PACKED[:-40]), "fewer voxels"),
        (lambda folder: metaimage(folder, "CompressedData = True\n"), "cannot be read"),
    ],
)
def test_what_is_not_read_names_the_remedy(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    path = make(tmp_path)
    assert words in refusal(path)


def test_a_header_without_its_voxels_says_so(tmp_path: Path) -> None:
    pair(tmp_path)
    (tmp_path / "ct.img").unlink()
    assert "ct.img, are not beside it" in refusal(tmp_path / "ct.hdr")


@pytest.mark.parametrize("make", [metaimage, nrrd])
def test_damage_gives_a_volume_or_a_clear_error(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(0, 420, 3):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged))
        try:
            load(path)
        except GroundglassError:
            refused += 1
    assert 0 < refused < 150


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("ct.npy", "NIfTI"), ("ct.mgz", "NIfTI"), ("all.tar.gz", "unpack"), ("a.heic", "PNG")],
)
def test_files_that_may_hold_scans_and_are_not_read_are_listed(
    tmp_path: Path, name: str, remedy: str
) -> None:
    metaimage(tmp_path)
    (tmp_path / name).write_bytes(b"anything at all")
    listing = find_series([tmp_path])
    assert len(listing.series) == 1
    (failure,) = listing.failures
    assert "are not read" in failure.problem
    assert remedy in failure.remedy
