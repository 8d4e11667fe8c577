import shutil
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from dicom_faults import FAULTS, write_faulty_dicom, write_series
from dicom_faults.series import STORAGES
from groundglass.errors import GroundglassError
from groundglass.phantom import Phantom, make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.phantom.dicom_syntax import J2K_PSNR, JLS_ERROR, SYNTAXES
from groundglass.phantom.phantom import MIDDLE, phantom_geometry

SHAPE = (6, 64, 64)
UNREAD_BY_DCIODVFY = ("deflated", "htj2k")
"""dicom3tools 1.00 (2022) reads neither."""
BY_HIGHDICOM = "ReferencedSeriesSequence present but Instance does not reference Instances"
"""dciodvfy overlooks the references of highdicom's Legacy Converted Enhanced CT, which are in its frames."""
DECODERS = {
    "jpeg-lossless": "dcmdjpeg",
    "jpeg-lossless-any": "dcmdjpeg",
    "jpeg-ls": "dcmdjpls",
    "rle": "dcmdrle",
    "deflated": "dcmconv",
    "explicit-big": "dcmconv",
}
"""dcmtk's program that reads a syntax."""


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(7, shape=SHAPE, spacing=(32.0, 5.5, 5.6))


def hu_of(path: Path) -> np.ndarray:
    image = pydicom.dcmread(path)
    return image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)


def as_stored(phantom: Phantom, storage: str = "unsigned") -> np.ndarray:
    kind = STORAGES[storage]
    low, high = kind.limits
    return np.clip(phantom.scan.pixels, low * kind.slope + kind.intercept, high * kind.slope + kind.intercept)


def errors_of(path: Path) -> list[str]:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    return [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if line.startswith("Error") and BY_HIGHDICOM not in line
    ]


@pytest.mark.parametrize("syntax", [name for name in SYNTAXES if name not in UNREAD_BY_DCIODVFY])
@pytest.mark.parametrize("form", ["classic", "enhanced", "legacy-enhanced"])
def test_is_valid_dicom(phantom: Phantom, tmp_path: Path, form: str, syntax: str) -> None:
    paths = write_phantom_dicom(phantom, tmp_path, form=form, syntax=syntax)
    assert errors_of(paths[0]) == []


@pytest.mark.parametrize(
    "options",
    [
        {"storage": "signed", "padding": -2000},
        {"storage": "signed-1024", "padding": -2000},
        {"fault": "prone", "storage": "half-hu"},
        {"fault": "feet-first"},
        {"fault": "gantry-tilt"},
        {"fault": "other-script"},
    ],
    ids=str,
)
def test_what_is_sound_stays_valid(phantom: Phantom, tmp_path: Path, options: dict[str, object]) -> None:
    assert errors_of(write_series(phantom, tmp_path, **options)[2]) == []


def test_dciodvfy_finds_a_fault(phantom: Phantom, tmp_path: Path) -> None:
    assert errors_of(write_faulty_dicom(phantom, tmp_path, fault="no-position")[0])


@pytest.mark.parametrize("syntax", [name for name, kind in SYNTAXES.items() if kind.lossless])
@pytest.mark.parametrize("storage", ["unsigned", "signed-1024"])
def test_lossless_syntaxes_give_the_very_pixels(
    phantom: Phantom, tmp_path: Path, syntax: str, storage: str
) -> None:
    path = write_series(phantom, tmp_path, syntax=syntax, storage=storage)[2]
    image = pydicom.dcmread(path)
    assert image.file_meta.TransferSyntaxUID == SYNTAXES[syntax].uid
    expected = as_stored(phantom, storage)[2] + 1024
    if syntax.startswith("jpeg-lossless"):
        stream = next(generate_frames(image.PixelData, number_of_frames=1))
        # Two independent implementations other than libjpeg-turbo, which wrote it.
        for decode in (imagecodecs.jpegsof3_decode, imagecodecs.ljpeg_decode):
            stored = (
                decode(stream).astype(np.uint16).view(np.int16 if image.PixelRepresentation else np.uint16)
            )
            assert np.array_equal(stored, expected)
    else:
        assert np.array_equal(image.pixel_array, expected)


@pytest.mark.parametrize(("syntax", "program"), DECODERS.items())
@pytest.mark.parametrize("storage", ["unsigned", "signed-1024"])
def test_dcmtk_reads_the_same_pixels(
    phantom: Phantom, tmp_path: Path, syntax: str, program: str, storage: str
) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} (dcmtk) is not installed")
    path = write_series(phantom, tmp_path, syntax=syntax, storage=storage)[1]
    plain = tmp_path / "plain"
    subprocess.run([program, *(["+te"] if program == "dcmconv" else []), path, plain], check=True)
    assert np.array_equal(hu_of(plain), as_stored(phantom, storage)[1])


def test_lossy_syntaxes_lose_little_and_say_so(phantom: Phantom, tmp_path: Path) -> None:
    for syntax, largest in (("jpeg-ls-near", JLS_ERROR), ("jpeg-2000-lossy", 400)):
        path = write_phantom_dicom(phantom, tmp_path / syntax, syntax=syntax)[3]
        lost = np.abs(hu_of(path) - as_stored(phantom)[3])
        assert 0 < lost.max() <= largest
        assert pydicom.dcmread(path).LossyImageCompression == "01"
    assert 20 * np.log10(4095 / np.sqrt(np.mean(lost**2))) == pytest.approx(J2K_PSNR, abs=1)
    assert float(pydicom.dcmread(path).LossyImageCompressionRatio) > 2


@pytest.mark.parametrize("storage", STORAGES)
def test_every_storage_gives_hu(phantom: Phantom, tmp_path: Path, storage: str) -> None:
    path = write_series(phantom, tmp_path, storage=storage)[4]
    assert np.array_equal(hu_of(path), as_stored(phantom, storage)[4])


def test_padding_fills_the_area_outside_a_circle(phantom: Phantom, tmp_path: Path) -> None:
    path = write_series(phantom, tmp_path, storage="signed-1024", padding=-2000)[3]
    image = pydicom.dcmread(path)
    assert image.PixelPaddingValue == -2000
    padded = image.pixel_array == -2000
    assert padded[0, 0]
    assert padded.mean() == pytest.approx(1 - np.pi / 4, abs=0.03)
    assert np.array_equal(hu_of(path)[~padded], phantom.scan.pixels[3][~padded])


def test_geometry_is_the_phantoms(phantom: Phantom, tmp_path: Path) -> None:
    images = [pydicom.dcmread(path) for path in write_phantom_dicom(phantom, tmp_path)]
    positions = np.array([image.ImagePositionPatient for image in images], dtype=float)
    assert np.allclose(positions, phantom_geometry(phantom).positions)
    assert np.allclose(np.diff(positions[:, 2]), 32)
    assert np.allclose(positions.mean(axis=0)[2], MIDDLE[2])
    assert images[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert images[0].PixelSpacing == [5.5, 5.6]
    assert images[0].SliceThickness == 32
    # Phantom and DICOM agree on the patient's left, where x is positive: the right lung is at negative x.
    columns = np.nonzero(phantom.lungs == 1)[2]
    assert positions[0, 0] + 5.6 * columns.mean() < MIDDLE[0]


@pytest.mark.parametrize("form", ["enhanced", "legacy-enhanced"])
def test_one_file_holds_all_slices_and_their_places(phantom: Phantom, tmp_path: Path, form: str) -> None:
    (path,) = write_phantom_dicom(phantom, tmp_path, form=form)
    image = pydicom.dcmread(path)
    groups = image.PerFrameFunctionalGroupsSequence
    heights = [float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in groups]
    order = np.argsort(heights)
    assert np.array_equal(image.pixel_array[order] - 1024.0, phantom.scan.pixels)
    assert np.allclose(np.array(heights)[order], phantom_geometry(phantom).positions[:, 2])


def test_file_names_and_numbers(phantom: Phantom, tmp_path: Path) -> None:
    def numbers(names: str) -> list[int]:
        paths = write_series(phantom, tmp_path / names, names=names)
        return [int(pydicom.dcmread(path).InstanceNumber) for path in sorted(paths)]

    assert numbers("ordered") == [1, 2, 3, 4, 5, 6]
    assert numbers("reversed") == [6, 5, 4, 3, 2, 1]
    assert sorted(numbers("shuffled")) == [1, 2, 3, 4, 5, 6]
    assert numbers("shuffled") not in (numbers("ordered"), numbers("reversed"))
    paths = write_phantom_dicom(phantom, tmp_path / "sound")
    heights = [pydicom.dcmread(path).SliceLocation for path in paths]
    assert heights == sorted(heights), "the paths come from the feet to the head"


def test_the_person_does_not_exist(phantom: Phantom, tmp_path: Path) -> None:
    image = pydicom.dcmread(write_phantom_dicom(phantom, tmp_path)[0])
    assert (image.PatientName, image.PatientID, image.PatientBirthDate) == (
        "Phantom^0007",
        "PHANTOM-0007",
        "",
    )


def test_the_same_arguments_give_the_same_bytes(phantom: Phantom, tmp_path: Path) -> None:
    for form, syntax in (("classic", "jpeg-2000-lossy"), ("enhanced", "rle")):
        first, second = (
            [
                path.read_bytes()
                for path in write_phantom_dicom(phantom, tmp_path / name, form=form, syntax=syntax)
            ]
            for name in ("first", "second")
        )
        assert first == second


def test_uids_distinguish_series_studies_and_images(phantom: Phantom, tmp_path: Path) -> None:
    def uids(keyword: str, **options: int) -> set[str]:
        paths = write_series(phantom, tmp_path, **options)
        return {str(pydicom.dcmread(path)[keyword].value) for path in paths}

    assert len(uids("SOPInstanceUID")) == SHAPE[0]
    assert len(uids("SeriesInstanceUID")) == 1
    assert not uids("SeriesInstanceUID") & uids("SeriesInstanceUID", series=2)
    assert uids("StudyInstanceUID") == uids("StudyInstanceUID", series=2)
    assert not uids("SOPInstanceUID") & uids("SOPInstanceUID", series=2)
    assert not uids("StudyInstanceUID") & uids("StudyInstanceUID", seed=1)


def test_an_unknown_fault_is_named(phantom: Phantom, tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="no fault is called mine"):
        write_faulty_dicom(phantom, tmp_path, fault="mine")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_changes_the_files(phantom: Phantom, tmp_path: Path, fault: str) -> None:
    syntax = FAULTS[fault].syntax or "explicit-little"
    sound = {
        path.name: path.read_bytes()
        for path in write_phantom_dicom(phantom, tmp_path / "sound", syntax=syntax)
    }
    paths = write_faulty_dicom(phantom, tmp_path / "bad", fault=fault)
    assert {path.name: path.read_bytes() for path in paths} != sound
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("fault", ["coronal", "sagittal", "prone", "feet-first", "quarter-turn"])
def test_other_cuts_show_the_same_voxels(phantom: Phantom, tmp_path: Path, fault: str) -> None:
    """Each pixel, mapped to its position in the patient, has the phantom's density there."""
    geometry = phantom_geometry(phantom)
    spacing = np.array([5.6, 5.5, 32.0])
    seen = 0
    for path in write_faulty_dicom(phantom, tmp_path, fault=fault, storage="signed"):
        image = pydicom.dcmread(path)
        along, down = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
        rows, columns = np.indices(image.pixel_array.shape)
        step_down, step_along = image.PixelSpacing
        points = (
            np.array(image.ImagePositionPatient, dtype=float)
            + rows[..., None] * step_down * down
            + columns[..., None] * step_along * along
        )
        x, y, z = np.moveaxis(np.rint((points - geometry.positions[0]) / spacing).astype(int), -1, 0)
        assert np.array_equal(image.pixel_array, phantom.scan.pixels[z, y, x])
        seen += image.pixel_array.size
    assert seen == phantom.scan.pixels.size


@pytest.mark.parametrize("fault", ["oblique", "turned-in-plane", "gantry-tilt"])
def test_turned_cuts_show_the_same_body(tmp_path: Path, fault: str) -> None:
    """The body's centre stays in place in the patient, although the pixels are different."""
    phantom = make_phantom(7, shape=(32, 64, 64), noise_hu=0)

    def middle(folder: Path, fault: str | None) -> np.ndarray:
        places = []
        paths = (
            write_faulty_dicom(phantom, folder, fault, storage="signed")
            if fault
            else write_series(phantom, folder, storage="signed")
        )
        for path in paths:
            image = pydicom.dcmread(path)
            along, down = np.array(image.ImageOrientationPatient, dtype=float).reshape(2, 3)
            rows, columns = np.nonzero(image.pixel_array > 200)
            places.append(
                np.array(image.ImagePositionPatient, dtype=float)
                + rows[:, None] * float(image.PixelSpacing[0]) * down
                + columns[:, None] * float(image.PixelSpacing[1]) * along
            )
        return np.concatenate(places).mean(axis=0)

    assert np.allclose(middle(tmp_path / "turned", fault), middle(tmp_path / "straight", None), atol=6)


def test_gantry_tilt_moves_slices_along_the_table_alone(phantom: Phantom, tmp_path: Path) -> None:
    images = [pydicom.dcmread(path) for path in write_faulty_dicom(phantom, tmp_path, fault="gantry-tilt")]
    positions = np.array([image.ImagePositionPatient for image in images], dtype=float)
    assert np.allclose(np.diff(positions, axis=0), [0, 0, 32])
    along, down = np.array(images[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    assert np.cross(along, down)[2] == pytest.approx(np.cos(np.radians(15)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"syntax": "zip"}, "there is no transfer syntax zip"),
        ({"form": "paper"}, "there is no form paper"),
    ],
)
def test_arguments_that_do_not_exist_are_named(
    phantom: Phantom, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(GroundglassError, match=message):
        write_phantom_dicom(phantom, tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_the_phantom_package_loads_no_dicom_library() -> None:
    code = "import sys, groundglass.phantom; print({'pydicom', 'nibabel', 'highdicom'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
