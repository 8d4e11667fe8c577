"""Earlier findings of benchmarks/fuzz_readers.py: damage that readers did not handle."""

import io
import zipfile
from pathlib import Path

import pytest
from nifti_files import edited, image, refusal, saved

from groundglass.errors import ScanError
from groundglass.phantom import make_phantom
from groundglass.phantom.dicom import write_phantom_dicom
from groundglass.scan.find import find_series


def test_a_zip_with_a_file_without_a_name(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("abc", b"text")
    (tmp_path / "scan.zip").write_bytes(out.getvalue().replace(b"abc", b"\0bc"))
    listing = find_series([tmp_path / "scan.zip"])
    assert not listing.series
    assert listing.failures


def test_run_lengths_that_go_beyond_the_picture(tmp_path: Path) -> None:
    paths = write_phantom_dicom(make_phantom(0, shape=(4, 48, 48)), tmp_path, syntax="rle")
    content = paths[1].read_bytes()
    start = (
        content.rindex(b"\xfe\xff\x00\xe0", 0, -100) + 8 + 64
    )  # past the item's tag, its length and RLE's header
    paths[1].write_bytes(content[:start] + b"\x7f" * 8 + content[start + 8 :])
    (series,) = find_series([tmp_path]).series
    volume = series.load()
    with pytest.raises(ScanError):
        volume.read(1)
    assert volume.read(0).shape == (48, 48)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("\xff" * 4000, "cannot exist"),
        ("ct\0.raw", "cannot exist"),
        ("\xff" * 200, "are not beside it"),  # 400 bytes, more than a file system allows
    ],
)
def test_a_metaimage_that_names_an_impossible_file(tmp_path: Path, name: str, problem: str) -> None:
    head = f"NDims = 3\nDimSize = 9 9 9\nElementType = MET_SHORT\nElementDataFile = {name}\n"
    (tmp_path / "ct.mhd").write_bytes(head.encode("latin-1"))
    assert problem in refusal(tmp_path / "ct.mhd")


def test_a_pair_whose_name_leaves_no_room_for_another_ending(tmp_path: Path) -> None:
    header = tmp_path / f"{'a' * 250}.hdr"
    header.write_bytes(bytes(image().header.binaryblock)[:344] + b"ni1\0")
    assert "are not beside it" in refusal(header)


@pytest.mark.parametrize("datatype", [3, 17, 32767])
def test_a_number_type_that_nifti_does_not_know(tmp_path: Path, datatype: int) -> None:
    assert "unknown type" in refusal(edited(saved(image(), tmp_path / "ct.nii"), datatype=datatype))
