from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from groundglass.errors import GroundglassError
from groundglass.scan.find import find_scans, natural_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("slice 10.png", "slice 9.png", "deeper/a.JPG", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (40, 40)).save(path, "PNG") if path.suffix != ".txt" else path.write_text("x")
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_is_searched_through_in_natural_order(folder: Path) -> None:
    assert names(find_scans([folder])) == ["a.JPG", "slice 9.png", "slice 10.png"]


def test_a_pattern_is_expanded_and_each_file_is_taken_once(folder: Path) -> None:
    found = find_scans([folder / "slice 10.png", folder / "slice*.png"])
    assert names(found) == ["slice 10.png", "slice 9.png"]


def test_a_named_file_is_used_whatever_its_suffix(folder: Path) -> None:
    assert names(find_scans([folder / "notes.txt"])) == ["notes.txt"]


@pytest.mark.parametrize(("name", "reason"), [("gone.png", "no such"), ("*.gif", "no file matches")])
def test_missing_files_are_reported(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(GroundglassError, match=reason):
        find_scans([folder / name])


def test_a_folder_without_scans_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="no DICOM, NIfTI or picture"):
        find_scans([tmp_path])


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_sort_as_numbers(numbers: list[int]) -> None:
    shuffled = [f"Covid ({number}).png" for number in numbers]
    assert sorted(shuffled, key=natural_key) == [f"Covid ({number}).png" for number in sorted(numbers)]
