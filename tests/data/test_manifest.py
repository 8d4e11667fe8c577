from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from groundglass.data.manifest import (
    ManifestWarning,
    fingerprint,
    import_path,
    read_manifest,
    summarise,
    write_manifest,
)
from groundglass.errors import GroundglassError

Draw = Callable[..., Path]
HEAD = "path,label,patient,split,source\n"


def manifest_of(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_comes_back_as_it_was_written(draw: Draw, tmp_path: Path) -> None:
    folder = draw("a.png", "deep/b.png", "mask.png")
    frame = pd.DataFrame(
        {
            "note": ["x, y", ""],
            "path": [str(folder / "a.png"), str(folder / "deep/b.png")],
            "label": ["covid", "not covid"],
            "patient": ["007", ""],
            "split": ["train", ""],
            "source": ["here", "here"],
            "lungs": [str(folder / "mask.png"), ""],
        }
    )
    inside, outside = folder / "m.csv", tmp_path / "elsewhere" / "m.csv"
    for path in (inside, outside):
        write_manifest(frame, path)
        again = read_manifest(path)
        assert list(again.columns) == ["path", "label", "patient", "split", "source", "note", "lungs"]
        pd.testing.assert_frame_equal(again[list(frame.columns)], frame, check_dtype=False)
    assert inside.read_text().splitlines()[2] == "deep/b.png,not covid,,,here,,"
    assert str(folder / "deep/b.png") in outside.read_text()


def test_labels_are_made_canonical_and_excel_marks_are_ignored(draw: Draw) -> None:
    folder = draw("a.png", "b.png")
    path = folder / "m.csv"
    path.write_bytes(("\ufeff" + HEAD + "a.png,COVID-19,,,\nb.png, Non-COVID ,,,\n").encode())
    assert list(read_manifest(path)["label"]) == ["covid", "not covid"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\na.png,covid\n",
            r"has no column patient, split, source \(it has path, label\).*data import",
        ),
        (HEAD, "has no rows"),
        ("", "cannot be read as CSV"),
        (HEAD + "a.png,covid,,train,\nb.png,covid,,training,\n", "row 3: split 'training' is not"),
        (HEAD + "a.png,covid,,,\n./a.png,covid,,,\n", "row 3: .*a.png is also in an earlier row"),
        (HEAD + "a.png,,,,\nb.png,,,,\n", r"row 2: label is blank \(and 1 more row\)"),
        (HEAD + "a.png,covid,,,\n" + "".join(f"no{n}.png,covid,,,\n" for n in range(7)), "7 of 8 files"),
    ],
)
def test_mistakes_are_named_with_file_and_row(draw: Draw, text: str, message: str) -> None:
    folder = draw("a.png", "b.png")
    with pytest.raises(GroundglassError, match=message) as caught:
        read_manifest(manifest_of(folder, text))
    assert "manifest.csv" in str(caught.value)


def test_missing_files_are_named_five_and_counted(draw: Draw) -> None:
    folder = draw("a.png")
    path = manifest_of(folder, HEAD + "".join(f"no{n}.png,covid,,,\n" for n in range(7)))
    with pytest.raises(GroundglassError) as caught:
        read_manifest(path)
    assert "no4.png" in str(caught.value)
    assert "no5.png" not in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match=r"nowhere\.csv: there is no such file"):
        read_manifest(tmp_path / "nowhere.csv")


def test_class_folders_become_labels(draw: Draw) -> None:
    folder = draw("CT_COVID/2.png", "CT_COVID/10.jpg", "CT_NonCOVID/x.png", "CT_NonCOVID/.hidden.png")
    (folder / "readme.txt").write_text("no picture")
    frame = import_path(folder)
    assert [Path(path).name for path in frame["path"]] == ["2.png", "10.jpg", "x.png"]
    assert list(frame["label"]) == ["covid", "covid", "not covid"]
    assert set(frame["source"]) == {"scans"}
    assert set(frame["patient"]) == set(frame["split"]) == {""}


def test_part_folders_above_the_classes_set_the_split(draw: Draw) -> None:
    folder = draw("training/covid/a.png", "Valid/covid/b.png", "testing/normal/c.png")
    frame = import_path(folder, source="mine")
    assert list(zip(frame["split"], frame["label"], strict=True)) == [
        ("test", "normal"),
        ("train", "covid"),
        ("val", "covid"),
    ]
    assert set(frame["source"]) == {"mine"}


def test_deeper_folders_are_patients_only_on_request(draw: Draw) -> None:
    folder = draw("covid/p1/a.png", "covid/p1/series/b.png", "covid/c.png", "normal/p2/d.png")
    assert set(import_path(folder)["patient"]) == {""}
    frame = import_path(folder, patients_from_folders=True)
    patients = {
        Path(path).name: patient for path, patient in zip(frame["path"], frame["patient"], strict=True)
    }
    assert patients == {"a.png": "p1", "b.png": "p1", "c.png": "", "d.png": "p2"}


def test_a_patient_folder_of_the_same_name_in_two_classes_is_doubted(draw: Draw) -> None:
    folder = draw("covid/001/a.png", "normal/001/b.png")
    with pytest.warns(UserWarning, match=r"patient folders of the same name.*1 in all, first: 001"):
        import_path(folder, patients_from_folders=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png"], r"pictures are outside.*1 in all, first: a"),
        (["covid/a.png", "b.png"], r"pictures are outside.*1 in all, first: b"),
        (["train/covid/a.png", "b.png"], r"pictures are outside.*1 in all, first: b"),
        (["train/a.png", "test/covid/b.png"], r"train: pictures are outside.*1 in all"),
        (["train/covid/a.png", "covid/b.png"], "covid is beside train"),
    ],
)
def test_unclear_folders_are_refused(draw: Draw, names: list[str], message: str) -> None:
    with pytest.raises(GroundglassError, match=message):
        import_path(draw(*names))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "covid").mkdir()
    with pytest.raises(GroundglassError, match=r"no picture \(.*\.png"):
        import_path(tmp_path)
    with pytest.raises(GroundglassError, match="there is no such file or folder"):
        import_path(tmp_path / "nowhere")


def test_one_class_or_none_of_covid_is_doubted(draw: Draw) -> None:
    with pytest.warns(ManifestWarning, match="one class only, covid"):
        import_path(draw("covid/a.png"))
    folder = draw("CP/a.png", "Normal/b.png")
    (folder / "covid/a.png").unlink()
    with pytest.warns(ManifestWarning, match=r"no class means COVID-19 \(found: cp, normal\)"):
        import_path(folder)


def test_a_csv_with_path_and_label_is_enough(draw: Draw) -> None:
    folder = draw("a.png", "b.png")
    path = folder / "list.csv"
    path.write_text("label,path,split,age\nCOVID,a.png,Validation,50\nnormal,b.png,,\n")
    frame = import_path(path)
    assert list(frame.columns) == ["path", "label", "patient", "split", "source", "age"]
    assert list(frame["split"]) == ["val", ""]
    assert set(frame["source"]) == {"list"}
    path.write_text("path;label\na.png;covid\n")
    with pytest.raises(GroundglassError, match=r"has no column path, label .*commas"):
        import_path(path)


def test_the_summary_counts_slices_and_known_patients() -> None:
    frame = pd.DataFrame(
        [
            ("1", "covid", "p", "test"),
            ("2", "covid", "p", "test"),
            ("3", "covid", "", "test"),
            ("4", "x", "q", ""),
        ],
        columns=["path", "label", "patient", "split"],
    )
    assert summarise(frame).to_numpy().tolist() == [["test", "covid", 3, 1], ["", "x", 1, 1]]


def test_the_fingerprint_follows_content_and_labels_not_the_place(draw: Draw, tmp_path: Path) -> None:
    folder = draw("covid/a.png", "normal/b.png")
    frame = import_path(folder)
    print_here = fingerprint(frame)
    moved = tmp_path / "moved"
    folder.rename(moved)
    there = import_path(moved)
    assert fingerprint(there) == print_here
    assert fingerprint(there.iloc[::-1]) == print_here
    assert fingerprint(there.assign(split=["train", ""])) != print_here
    assert fingerprint(there.assign(label=["covid", "covid"])) != print_here
    (moved / "covid/a.png").write_bytes((moved / "normal/b.png").read_bytes())
    assert fingerprint(there) != print_here
    (moved / "covid/a.png").unlink()
    with pytest.raises(GroundglassError, match=r"a\.png: cannot be read"):
        fingerprint(there)
