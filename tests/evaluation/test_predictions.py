from pathlib import Path

import pandas as pd
import pytest

from groundglass.errors import GroundglassError
from groundglass.evaluation.predictions import (
    COLUMNS,
    check_predictions,
    class_column,
    classes_of,
    read_predictions,
    truth_of,
    unit_codes,
    write_predictions,
)

HEADER = "path,patient,group,label,score,probability,verdict\n"
GOOD = "a.png,007,,covid,0.9,0.8,covid\n"
CLASSES = "path,score,probability,verdict,class,probability_covid,probability_viral pneumonia\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read_back(tmp_path, table):
    frame = table([True, False, False], [0.123456789, 1.0, 0.0], patient=["007", "NA", ""])
    frame["lung_share"] = ["0.25", "", "null"]
    write_predictions(frame, tmp_path / "predictions.csv")
    back = read_predictions(tmp_path / "predictions.csv")
    assert list(back.columns) == [*COLUMNS, "lung_share"]
    assert back["patient"].tolist() == ["007", "NA", ""]
    assert back["lung_share"].tolist() == ["0.25", "", "null"]
    assert back["probability"].tolist() == [0.123457, 1.0, 0.0]
    assert back["probability"].dtype == float
    pd.testing.assert_frame_equal(
        back[["path", "label", "verdict"]], frame[["path", "label", "verdict"]].astype(str)
    )


def test_columns_that_may_be_blank_may_be_absent(tmp_path):
    path = written(tmp_path, "verdict,probability,score,path\nuncertain,0.5,0.4,a.png\n")
    frame = read_predictions(path)
    assert list(frame.columns) == list(COLUMNS)
    assert frame.loc[0, ["patient", "group", "label"]].tolist() == ["", "", ""]


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    frame = read_predictions(written(tmp_path, "\ufeff" + HEADER + GOOD + "\n" + GOOD + "\n\n"))
    assert frame.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        (HEADER, "holds no predictions"),
        ("path,score,verdict\na.png,0.5,covid\n", "has no column probability"),
        (HEADER + GOOD + "a.png,,,,,0.8,covid\n", "score is not a number in [0, 1] in row 3 (got '')"),
        (
            HEADER + GOOD + "a.png,,,,0.5,nan,covid\n",
            "probability is not a number in [0, 1] in row 3 (got 'nan')",
        ),
        (HEADER + "a.png,,,,0.5,1.01,covid\n", "probability is not a number in [0, 1] in row 2 (got '1.01')"),
        (HEADER + "a.png,,,,-0.1,0.5,covid\n", "score is not a number in [0, 1] in row 2"),
        (HEADER + "a.png,,,,inf,0.5,covid\n", "score is not a number in [0, 1] in row 2"),
        (
            HEADER + GOOD + "\n" + "a.png,,,,0.5,0.5,maybe\n",
            "verdict is none of 'covid', 'not covid', 'uncertain'",
        ),
        (HEADER + GOOD + "\n" + "a.png,,,,0.5,0.5,maybe\n", "in row 4 (got 'maybe')"),
        (HEADER + "a.png,,,,0.5,0.5\n", "verdict is none of"),
        (HEADER + ",,,,0.5,0.5,covid\n", "path is blank in row 2"),
        (HEADER + "a.png,,,,2,0.5,covid\n" * 7, "in rows 2, 3, 4, 5, 6 and 2 more (got '2')"),
        (HEADER + GOOD.strip() + ",more\n", "cannot be read as CSV"),
        (HEADER + GOOD + GOOD.strip() + ",more\n", "cannot be read as CSV"),
    ],
)
def test_each_fault_is_named_with_file_and_row(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(GroundglassError) as error:
        read_predictions(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_a_file_that_is_missing_a_folder_or_no_text_is_named(tmp_path):
    with pytest.raises(GroundglassError, match=r"none\.csv: there is no such file"):
        read_predictions(tmp_path / "none.csv")
    with pytest.raises(GroundglassError, match="cannot be read"):
        read_predictions(tmp_path)
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    with pytest.raises(GroundglassError, match=r"picture\.csv: cannot be read as CSV"):
        read_predictions(tmp_path / "picture.csv")


def test_a_faulty_table_is_not_written(tmp_path, table):
    path = tmp_path / "predictions.csv"
    with pytest.raises(GroundglassError, match="probability is not a number"):
        write_predictions(table([True], [0.5]).assign(probability=float("nan")), path)
    assert not path.exists()


def test_missing_values_in_a_table_are_blanks(tmp_path, table):
    frame = table([True, False], [0.9, 0.1]).drop(columns="group").assign(patient=[None, 7])
    write_predictions(frame, tmp_path / "predictions.csv")
    back = read_predictions(tmp_path / "predictions.csv")
    assert back["group"].tolist() == ["", ""]
    assert back["patient"][0] == ""


def test_the_truth_of_unlabelled_slices_is_not_guessed(table):
    frame = table([True, False, False], [0.9, 0.1, 0.2])
    assert truth_of(frame).tolist() == [True, False, False]
    frame.loc[1, "label"] = ""
    with pytest.raises(GroundglassError, match="the label is missing in 1 of 3 predictions"):
        truth_of(frame)


def test_blank_names_are_units_of_their_own():
    assert unit_codes(["a", "", "b", "a", "", "0"]).tolist() == [0, 1, 2, 0, 3, 4]


def test_classes_are_written_and_read_back(tmp_path, table):
    frame = table([True, False], [0.9, 0.1]).assign(
        **{
            "probability_viral pneumonia": [0.1, 0.9],
            "class": ["covid", " viral pneumonia"],
            "note": ["1", ""],
        },
        probability_covid=["0.9", 0.1000000004],
    )
    write_predictions(frame, tmp_path / "predictions.csv")
    assert "0.900000,viral pneumonia,,0.100000\n" in (tmp_path / "predictions.csv").read_text()
    back = read_predictions(tmp_path / "predictions.csv")
    assert classes_of(back) == ("viral pneumonia", "covid")
    assert [class_column(name) for name in classes_of(back)] == [
        "probability_viral pneumonia",
        "probability_covid",
    ]
    assert back["probability_covid"].tolist() == [0.9, 0.1]
    assert back["probability_viral pneumonia"].dtype == back["probability_covid"].dtype == float
    assert back["class"].tolist() == ["covid", "viral pneumonia"]
    assert back["note"].tolist() == ["1", ""]
    assert list(back.columns) == list(frame.columns)


def test_a_column_class_alone_is_another_column(table):
    frame = table([True, False], [0.9, 0.1]).assign(**{"class": ["a", "b"]})
    assert classes_of(frame) == ()
    assert check_predictions(frame)["class"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,score,probability,verdict,class,probability_covid\na.png,1,1,covid,covid,1\n",
            "has class probabilities only of covid; add the column probability_NAME of every class",
        ),
        (
            "path,score,probability,verdict,class,probability_a,probability_b\na.png,1,1,covid,a,1,0\n",
            "has class probabilities only of a, b; add the column probability_NAME of every class, covid among",
        ),
        (CLASSES.replace("class,", "") + "a.png,1,1,covid,1,0\n", "but no column class"),
        (
            CLASSES + "a.png,1,1,covid,covid,1,0\na.png,1,1,covid,flu,1,0\n",
            "class is none of 'covid', 'viral ",
        ),
        (CLASSES + "a.png,1,1,covid,covid,1,0\na.png,1,1,covid,flu,1,0\n", "in row 3 (got 'flu')"),
        (CLASSES + "a.png,1,1,covid,,1,0\n", "class is none of"),
        (
            CLASSES + "a.png,1,1,covid,covid,1.5,0\n",
            "probability_covid is not a number in [0, 1] in row 2 (got '1.5')",
        ),
        (
            CLASSES + "a.png,1,1,covid,covid,1\n",
            "probability_viral pneumonia is not a number in [0, 1] in row 2",
        ),
    ],
)
def test_faults_of_classes_are_named(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(GroundglassError) as error:
        read_predictions(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
