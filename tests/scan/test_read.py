"""One call reads a scan from any source, and each gives the same pixels at the same position."""

import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from groundglass.errors import GroundglassError, ScanError
from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.scan.read import read, read_scan
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume
from phantom_nifti import write_nifti

SHAPE = (12, 64, 80)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(3, shape=SHAPE)


@pytest.fixture(scope="module")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "series"
    write_phantom_dicom(phantom, folder)
    return folder


@pytest.fixture(scope="module")
def nifti(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nifti(phantom, tmp_path_factory.mktemp("nifti") / "ct.nii.gz", orientation="LAS")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    grey = np.random.default_rng(0).integers(0, 256, (50, 60), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "slice.png")
    return tmp_path / "slice.png"


def assert_is(found: Scan | Volume, phantom: Phantom, *, placed: bool = True) -> None:
    """The volume is the phantom's, voxel for voxel, and at the phantom's position if ``placed``."""
    assert isinstance(found, Volume)
    assert (found.shape, found.is_hu) == (SHAPE, True)
    pixels = np.stack([found.read(number) for number in range(SHAPE[0])])
    np.testing.assert_allclose(pixels, np.rint(phantom.scan.pixels), atol=0.51)
    if placed:
        assert found.spacing == pytest.approx(phantom.scan.spacing, abs=1e-3)


def test_volumes_are_read_in_every_form(phantom: Phantom, series: Path, nifti: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.write(nifti, nifti.name)
    multiframe = tmp_path / "enhanced"
    write_phantom_dicom(phantom, multiframe, form="enhanced")
    for path in (series, str(series.parent), nifti, tmp_path / "study.zip", multiframe):
        assert_is(read(path), phantom)


def test_a_single_slice_is_a_scan(series: Path, picture: Path) -> None:
    grey = read(picture)
    assert isinstance(grey, Scan)
    assert not grey.is_hu
    one = read(sorted(series.iterdir())[0])
    assert isinstance(one, Scan)
    assert one.is_hu
    assert read_scan(sorted(series.iterdir())[0]).pixels.tolist() == one.pixels.tolist()
    assert read(one) is one
    with pytest.raises(ScanError, match="holds 12 slices; read it as a volume"):
        read_scan(series)


def test_several_studies_and_pictures_are_refused_with_the_remedy(series: Path, tmp_path: Path) -> None:
    shutil.copytree(series, tmp_path / "one")
    write_phantom_dicom(make_phantom(4, shape=SHAPE), tmp_path / "two")
    with pytest.raises(ScanError, match=r"holds 2 studies, and only one.*find_series\(path\).*predict"):
        read(tmp_path)
    for name in "ab":
        Image.effect_noise((40, 40), 50).save(tmp_path / f"{name}.png")
    with pytest.raises(ScanError, match="holds 2 studies and 2 pictures"):
        read(tmp_path)
    with pytest.raises(GroundglassError, match="there is no such file"):
        read(tmp_path / "gone")


def test_unread_files_are_reported(phantom: Phantom, series: Path, tmp_path: Path) -> None:
    shutil.copytree(series, tmp_path / "study")
    (tmp_path / "study" / "broken.dcm").write_bytes(b"")
    found = read(tmp_path / "study")
    assert_is(found, phantom)
    assert any("broken.dcm: the file is empty" in warning for warning in found.warnings)


def test_arrays_in_hu_are_volumes_and_slices(phantom: Phantom) -> None:
    pixels = np.rint(phantom.scan.pixels).astype(np.int16)
    spacing = phantom.scan.spacing
    assert spacing is not None
    found = read(pixels, spacing=spacing)
    assert_is(found, phantom)
    assert isinstance(found, Volume)
    assert found.geometry is not None
    assert found.geometry.pixel_mm2 == pytest.approx(spacing[1] * spacing[2])
    bare = read(pixels)
    assert_is(bare, phantom, placed=False)
    assert isinstance(bare, Volume)
    assert bare.geometry is None
    one = read(pixels[6], spacing=spacing[1:])
    assert isinstance(one, Scan)
    assert (one.is_hu, one.spacing) == (True, pytest.approx(spacing[1:]))
    assert_is(read(Scan(pixels.astype(np.float32), True, "x", spacing=spacing)), phantom)


def test_grey_arrays_are_those_of_the_picture(picture: Path) -> None:
    grey = np.asarray(Image.open(picture))
    for array in (grey, grey / 255):
        found = read(array)
        assert not found.is_hu
        assert isinstance(found, Scan)
        np.testing.assert_allclose(found.pixels, read_scan(picture).pixels, atol=1e-6)
        assert "not Hounsfield units" in found.warnings[0]


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((64, 64, 3)), "make a colour picture grey first"),
        (np.zeros((4, 4)), "at least 32 x 32 pixels"),
        (np.zeros((64, 64)), "every voxel has the same value"),
        (np.full((64, 64), np.nan), "values that are not finite"),
        (np.eye(64, dtype=bool), "looks like a mask"),
        (np.zeros(64), "give numbers of shape"),
        (np.full((64, 64), "a"), "give numbers of shape"),
        (np.linspace(5000, 60000, 64 * 64).reshape(64, 64), "neither Hounsfield units of a chest nor grey"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, problem: str) -> None:
    with pytest.raises(ScanError, match=problem):
        read(array)


def test_spacing_is_only_for_arrays(phantom: Phantom, nifti: Path) -> None:
    with pytest.raises(ScanError, match="is not a length in mm for each axis"):
        read(phantom.scan.pixels, spacing=(1, 1))
    with pytest.raises(TypeError, match="only for arrays"):
        read(nifti, spacing=(1, 1, 1))
    with pytest.raises(TypeError, match="cannot be read from object"):
        read(object())  # type: ignore[arg-type]


def test_nibabel_images_are_read_from_memory(phantom: Phantom, nifti: Path) -> None:
    image = nibabel.load(nifti)
    assert_is(read(image), phantom)
    assert_is(read(nibabel.Nifti1Image(image.get_fdata(), image.affine)), phantom)
    mgh = nibabel.MGHImage(image.get_fdata().astype(np.float32), image.affine)
    assert_is(read(mgh), phantom)


def test_pydicom_datasets_are_read_from_memory(phantom: Phantom, series: Path) -> None:
    datasets = [pydicom.dcmread(path) for path in series.iterdir()]
    assert_is(read(datasets), phantom)
    one = read(datasets[0])
    assert isinstance(one, Scan)
    assert one.is_hu
    del datasets[0].Rows
    with pytest.raises(ScanError):
        read(datasets[0])


@pytest.fixture
def itk(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """SimpleITK, or a stub of what groundglass uses if it is not installed."""
    try:
        import SimpleITK
    except ImportError:
        module = types.ModuleType("StandIn")

        class ItkImage:
            def __init__(self, voxels: np.ndarray) -> None:
                self.voxels, self.place = voxels, {}

            def __getattr__(self, name: str) -> Any:
                place = self.__dict__["place"]
                if name.startswith("Set"):
                    return lambda value: place.__setitem__(name[3:], value)
                if name.startswith("Get") and name[3:] in place:
                    return lambda: place[name[3:]]
                raise AttributeError(name)

        ItkImage.__module__ = module.__name__
        module.GetImageFromArray = ItkImage  # type: ignore[attr-defined]
        module.GetArrayFromImage = lambda image: image.voxels.copy()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return module
    return SimpleITK


def test_simpleitk_images_are_read_from_memory(phantom: Phantom, itk: types.ModuleType) -> None:
    assert phantom.scan.spacing is not None
    stored = np.rint(phantom.scan.pixels).astype(np.int64)[:, :, ::-1]  # columns from the left to the right
    image = itk.GetImageFromArray(stored)
    image.SetSpacing([float(mm) for mm in phantom.scan.spacing[::-1]])
    image.SetOrigin([100.0, -80.0, -30.0])
    image.SetDirection([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    found = read(image)
    assert_is(found, phantom)
    assert isinstance(found, Volume)
    assert found.geometry is not None
    left = 100 - phantom.scan.spacing[2] * (SHAPE[2] - 1)
    np.testing.assert_allclose(found.geometry.positions[0], [left, -80, -30], atol=1e-3)


def test_short_reprs(phantom: Phantom, series: Path, picture: Path) -> None:
    assert repr(read(picture)) == "Scan('slice', 50 x 60 pixels, grey)"
    assert repr(read(series)).startswith("Volume('series-")
    assert "12 slices of 64 x 80 pixels, " in repr(read(series))
    assert len(repr(read(series))) < 120


def test_a_picture_is_read_without_the_readers_of_volumes(picture: Path) -> None:
    code = (
        "import sys; from groundglass.scan.read import read; read(sys.argv[1]);"
        "print([name for name in ('nibabel', 'pydicom', 'SimpleITK') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, picture], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
