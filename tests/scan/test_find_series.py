"""Finding series among files, folders, patterns, ZIPs and DICOMDIRs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from dicom_faults import write_series
from groundglass.errors import GroundglassError, ScanError
from groundglass.phantom import make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.scan import members
from groundglass.scan.find import find_dicom, find_scans, find_series
from groundglass.scan.read import read_scan
from groundglass.scan.volume import mark_results

SLICES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series whose files have no suffix."""
    folder = tmp_path_factory.mktemp("series")
    for path in write_phantom_dicom(make_phantom(shape=(SLICES, 64, 64)), folder):
        path.rename(path.with_suffix(""))
    return folder


def zipped(folder: Path, target: Path, **also: bytes) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"disc/{path.name}")
        for name, content in also.items():
            archive.writestr(name.replace("__", "/"), content)
    return target


def test_a_folder_is_searched_regardless_of_file_names(tmp_path: Path, folder: Path) -> None:
    deep = tmp_path / "a" / "b"
    shutil.copytree(folder, deep)
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / ".hidden").mkdir()
    shutil.copy(next(folder.iterdir()), tmp_path / ".hidden" / "copy")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "x.dcm").write_text("x")
    Image.new("L", (64, 64)).save(tmp_path / "slice.png")
    seen: list[tuple[int, int]] = []
    listing = find_series([tmp_path], progress=lambda done, total: seen.append((done, total)))
    assert [one.slices for one in listing.series] == [SLICES]
    assert listing.series[0].source == deep
    assert listing.pictures == (tmp_path / "slice.png",)
    assert listing.failures == ()
    assert listing.ignored == 1
    assert seen == [(number + 1, SLICES) for number in range(SLICES)]


def test_dicom_files_are_listed_with_those_among_earlier_results(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder, tmp_path / "all" / "ct")
    results = tmp_path / "all" / "results" / "study"
    results.mkdir(parents=True)
    mark_results(results)
    shutil.copy(next(folder.iterdir()), results / "sr.dcm")
    for name in ("report.html", "lungs.nii.gz", "montage.png"):
        (results / name).write_bytes(b"x")
    (tmp_path / "all" / "broken.dcm").write_bytes(b"x")
    found, failures, others = find_dicom([tmp_path / "all"])
    assert len(found) == len(list(folder.iterdir())) + 1
    assert {failure.path.name for failure in failures} == {"broken.dcm"}
    assert others == 3
    found, failures, others = find_dicom([results / "montage.png"])
    assert [failure.problem for failure in failures] == ["is not a DICOM file"]
    assert (found, others) == ([], 0)


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path, folder: Path) -> None:
    cohort = tmp_path / "cohort"
    (cohort / "patient-1").mkdir(parents=True)
    (cohort / "patient-1" / "ct").symlink_to(folder, target_is_directory=True)
    (cohort / "patient-1" / "again").symlink_to(cohort, target_is_directory=True)
    (cohort / "same").symlink_to(folder, target_is_directory=True)
    (cohort / "gone.dcm").symlink_to(tmp_path / "nowhere")
    listing = find_series([cohort])
    assert [(one.slices, one.warnings) for one in listing.series] == [
        (SLICES, find_series([folder]).series[0].warnings)
    ]
    (failure,) = listing.failures
    assert "link to a file that does not exist" in str(failure)
    assert find_scans([cohort])[0].parent in (cohort / "patient-1" / "ct", cohort / "same")
    assert len(find_scans([cohort])) == SLICES + 1, "reading the broken link reports it"


def test_a_folder_that_may_not_be_read_is_reported(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "open")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = find_series([tmp_path])
    assert [one.slices for one in listing.series] == [SLICES]
    assert [failure.path for failure in listing.failures] == [tmp_path / "closed"]


def test_files_and_patterns_are_used_once(folder: Path) -> None:
    files = sorted(folder.iterdir())
    listing = find_series([folder / "0*", files[0], folder])
    assert [one.slices for one in listing.series] == [SLICES]


def test_a_zip_reads_as_its_folder_does(tmp_path: Path, folder: Path) -> None:
    archive = zipped(folder, tmp_path / "disc.zip", __MACOSX__x=b"x", DICOMDIR=b"no", readme=b"text")
    listing = find_series([archive])
    assert [one.slices for one in listing.series] == [SLICES]
    assert listing.series[0].source == archive
    inside, outside = listing.series[0].load(), find_series([folder]).series[0].load()
    assert inside.origin is not None
    assert inside.origin.instances[0].member.inside.startswith("disc/")
    for number in range(SLICES):
        np.testing.assert_array_equal(inside.read(number), outside.read(number))


def test_a_multi_frame_file_reads_from_a_zip(tmp_path: Path) -> None:
    phantom = make_phantom(shape=(SLICES, 64, 64))
    for syntax in ("explicit-little", "deflated"):
        write_phantom_dicom(phantom, tmp_path / syntax, form="enhanced", syntax=syntax)
        archive = zipped(tmp_path / syntax, tmp_path / f"{syntax}.zip")
        volume = find_series([archive]).series[0].load()
        np.testing.assert_array_equal(volume.read(5), np.clip(np.rint(phantom.scan.pixels[5]), -1024, None))


def test_an_encrypted_zip_names_the_remedy(tmp_path: Path, folder: Path) -> None:
    archive = zipped(folder, tmp_path / "disc.zip")
    content = bytearray(archive.read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 8] |= 1
    archive.write_bytes(content)
    failures = find_series([archive]).failures
    assert len(failures) == 1
    assert "encrypted" in str(failures[0])
    assert "password" in failures[0].remedy


def test_a_damaged_zip_is_a_failure(tmp_path: Path, folder: Path) -> None:
    archive = zipped(folder, tmp_path / "disc.zip")
    archive.write_bytes(archive.read_bytes()[:5000])
    failures = find_series([archive]).failures
    assert [failure.path for failure in failures] == [archive]
    assert "damaged" in str(failures[0])


def test_damage_within_a_zip_leaves_the_other_files(tmp_path: Path, folder: Path) -> None:
    archive = zipped(folder, tmp_path / "disc.zip")
    with zipfile.ZipFile(archive) as opened:
        at = opened.infolist()[5].header_offset
    content = bytearray(archive.read_bytes())
    content[at + 60 : at + 400] = bytes(340)
    archive.write_bytes(content)
    listing = find_series([archive])
    assert [one.slices for one in listing.series] == [SLICES - 1]
    assert len(listing.failures) == 1


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("x.dcm", bytes(members.RATIO_FROM + 1))
    failures = find_series([archive]).failures
    assert "unpacks to" in str(failures[0])


def test_pictures_in_a_zip_are_pointed_out(tmp_path: Path) -> None:
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.png", b"x")
        opened.writestr("b.jpg", b"x")
    (failure,) = find_series([archive]).failures
    assert "2 pictures" in str(failure)
    assert "unpack" in failure.remedy


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_nifti_file_reads_from_a_zip(tmp_path: Path, ending: str) -> None:
    values = np.random.default_rng(0).integers(-1000, 200, (64, 64, SLICES)).astype(np.int16)
    file = tmp_path / f"chest{ending}"
    nib.save(nib.Nifti1Image(values, np.diag([-0.7, -0.7, 5.0, 1.0])), file)  # type: ignore[attr-defined]
    archive = tmp_path / "chest.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.write(file, f"disc/{file.name}")
    listing = find_series([archive])
    assert listing.failures == ()
    inside, outside = listing.series[0].load(), find_series([file]).series[0].load()
    assert inside.shape == (SLICES, 64, 64)
    for number in range(SLICES):
        np.testing.assert_array_equal(inside.read(number), outside.read(number))


def test_a_folder_of_dicom_files_is_read_slice_by_slice(folder: Path) -> None:
    files = find_scans([folder])
    assert files == sorted(folder.iterdir())
    volume = find_series([folder]).series[0].load()
    assert volume.origin is not None
    at = {instance.member.path: number for number, instance in enumerate(volume.origin.instances)}
    for file in files:
        np.testing.assert_array_equal(read_scan(file).pixels, volume.read(at[file]))


@pytest.mark.skipif(shutil.which("dcmmkdir") is None, reason="dcmtk's dcmmkdir is not installed")
def test_a_dicomdir_gives_its_files_and_counts_missing_ones(tmp_path: Path, folder: Path) -> None:
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, tmp_path / f"IM{number:03d}")
    names = [path.name for path in tmp_path.iterdir()]
    subprocess.run(["dcmmkdir", "-W", *names], cwd=tmp_path, capture_output=True, check=True)
    assert [one.slices for one in find_series([tmp_path / "DICOMDIR"]).series] == [SLICES]
    assert [one.slices for one in find_series([tmp_path]).series] == [SLICES]
    (tmp_path / "IM003").unlink()
    listing = find_series([tmp_path / "DICOMDIR"])
    assert [one.slices for one in listing.series] == [SLICES - 1]
    assert "lists 1 file" in str(listing.failures[0])


def test_what_is_not_there_or_holds_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="no such file"):
        find_series([tmp_path / "nowhere"])
    with pytest.raises(GroundglassError, match="no file matches"):
        find_series([tmp_path / "*.dcm"])
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(GroundglassError, match="no DICOM, NIfTI or picture"):
        find_series([tmp_path])


def test_a_named_file_that_is_not_a_scan_is_left_to_the_picture_reader(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("nothing")
    assert find_series([notes]).pictures == (notes,)


def test_series_of_one_study_are_side_by_side(tmp_path: Path) -> None:
    phantom = make_phantom(shape=(SLICES, 64, 64))
    for series in (1, 2, 10):
        write_series(phantom, tmp_path, series=series)
    write_series(make_phantom(1, shape=(SLICES, 64, 64)), tmp_path, series=3)
    listed = find_series([tmp_path]).series
    assert [one.number for one in listed] == ["1", "2", "10", "3"]
    assert len({one.study for one in listed[:3]}) == 1


def test_a_single_dicom_slice_reads_as_a_scan(folder: Path, tmp_path: Path) -> None:
    one = sorted(folder.iterdir())[4]
    scan = read_scan(one)
    assert scan.is_hu
    assert scan.pixels.shape == (64, 64)
    assert scan.pixels.min() >= -1024
    (several,) = write_phantom_dicom(make_phantom(shape=(SLICES, 64, 64)), tmp_path, form="enhanced")
    with pytest.raises(ScanError, match=r"12 slices.*groundglass predict"):
        read_scan(several)


def test_pictures_need_no_dicom_library(tmp_path: Path) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "slice.png")
    code = (
        "import sys; from groundglass.scan.find import find_series; "
        f"find_series([{str(tmp_path)!r}]); "
        "print([m for m in ('pydicom', 'nibabel', 'imagecodecs', 'scipy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_manifest_names_files_and_folders(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "ct")
    Image.linear_gradient("L").save(tmp_path / "slice.png")
    manifest = tmp_path / "cohort.csv"
    manifest.write_text(
        f"label,path\n,ct\n,slice.png\n,slice.png\n,gone\n,cohort.csv\n,\n,{tmp_path / 'ct'}\n"
    )
    listing = find_series([manifest])
    assert [series.slices for series in listing.series] == [SLICES]
    assert [path.name for path in listing.pictures] == ["slice.png"]
    problems = [failure.problem for failure in listing.failures]
    assert problems == [
        "does not exist, but cohort.csv lists it",
        "is a table within the manifest cohort.csv",
    ]
    other = tmp_path / "other.csv"
    for content, problem in (("file\nct\n", "no column path"), ("path\n \n", "nothing in its column path")):
        other.write_text(content)
        with pytest.raises(GroundglassError, match=f"has {problem}; write one"):
            find_series([other])
