"""What the CSV tables of evaluation share: reading them as text, and naming the rows that do not fit."""

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.errors import GroundglassError
from groundglass.files import replacing
from groundglass.labels import (
    CLASS,
    CLASS_PREFIX,
    LUNG_AREAS,
    NEGATIVE,
    NOT_A_CHEST_CT,
    POSITIVE,
    UNCERTAIN,
    UNLIKE,
)


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV file with a header.

    Returns
    -------
    Every column as text, blank lines left out; the index is the row's line in the file, from 2 on. NaN where a
    row is shorter than the header.

    Raises
    ------
    GroundglassError
        If the file is missing, empty or no CSV, or a row is longer than the header.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # index_col=False: otherwise rows that are longer than the header shift all columns in silence.
            frame = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                index_col=False,
                skip_blank_lines=False,
                encoding="utf-8-sig",
            )
    except FileNotFoundError as error:
        raise GroundglassError(f"{path}: there is no such file") from error
    except pd.errors.EmptyDataError as error:
        raise GroundglassError(f"{path}: cannot be read as CSV (the file is empty)") from error
    except OSError as error:
        raise GroundglassError(f"{path}: cannot be read as CSV ({error.strerror or error})") from error
    except (ValueError, pd.errors.ParserWarning) as error:
        raise GroundglassError(f"{path}: cannot be read as CSV ({error})") from error
    frame.index += 2
    return frame[(frame.fillna("") != "").any(axis=1)]


def as_text(column: "pd.Series[str]") -> "pd.Series[str]":
    """Values as text without spaces around it, "" where one is missing."""
    texts = column.astype(object)
    return texts.where(texts.notna(), "").astype(str).str.strip()


def refuse_rows(
    source: str, frame: pd.DataFrame, column: str, wrong: "pd.Series[bool]", problem: str, remedy: str = ""
) -> None:
    """Raise GroundglassError where a row is ``wrong``; it names the column, the rows by their index, and a value.

    Parameters
    ----------
    source
        The table's origin.
    frame
        The table as it was given.
    column, wrong
        The column that does not fit, and in which rows.
    problem, remedy
        What is wrong, behind the column's name, and what to do about it.
    """
    if not wrong.any():
        return
    rows = frame.index[wrong]
    named = ", ".join(str(row) for row in rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
    where = f"row{'s' if len(rows) > 1 else ''} {named}"
    value = frame[column][wrong].iloc[0]
    raise GroundglassError(
        f"{source}: {column} {problem} in {where} (got {value!r})" + (f"; {remedy}" if remedy else "")
    )


COLUMNS = ("path", "patient", "group", "label", "score", "probability", "verdict")
"""In this order in the file; columns of other names follow."""
MAY_BE_BLANK = ("patient", "group", "label")
NUMBERS = ("score", "probability")
VERDICTS = (POSITIVE, NEGATIVE, UNCERTAIN, NOT_A_CHEST_CT)


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and check a predictions.csv.

    Returns
    -------
    A row a slice, in the file's order. ``score`` (the model's output) and ``probability`` (calibrated) are
    float64 in [0, 1]; every other column is text, blank where nothing is known. ``patient``, ``group`` and
    ``label`` are blank where the file lacks them. ``LUNG_AREAS`` and ``UNLIKE``, if the file has them, are whole
    numbers (Int64), missing where blank. Where a detector tells several classes apart, there is also
    ``class``, the name of the one that it answered, and float64 in [0, 1] a column ``probability_NAME`` for each
    class, among them POSITIVE.

    Raises
    ------
    GroundglassError
        If the file is missing, empty or no CSV, lacks a column, or a value does not fit; rows are named by
        their line in the file.
    """
    return check_predictions(read_text_table(path), str(path)).reset_index(drop=True)


def write_predictions(frame: pd.DataFrame, path: Path) -> None:
    """Check ``frame`` and write it as CSV, floats with 6 digits after the point.

    Raises
    ------
    GroundglassError
        If a column is missing, a value does not fit or the file cannot be written.
    """
    checked = check_predictions(frame, str(path))
    with replacing(path) as handle:
        checked.to_csv(handle, index=False, float_format="%.6f", lineterminator="\n")


def check_predictions(frame: pd.DataFrame, source: str = "predictions") -> pd.DataFrame:
    """A copy of ``frame`` in the form that :func:`read_predictions` describes.

    Parameters
    ----------
    frame
        Rows are named by their index where a value does not fit.
    source
        What the error names as the table's origin.

    Raises
    ------
    GroundglassError
        If there is no row, a column is missing, a value does not fit, or classes are incomplete.
    """
    missing = [name for name in COLUMNS if name not in frame and name not in MAY_BE_BLANK]
    if missing:
        raise GroundglassError(
            f"{source}: has no column {', '.join(missing)}; predictions have the columns {', '.join(COLUMNS)}"
        )
    if frame.empty:
        raise GroundglassError(f"{source}: holds no predictions")
    checked = frame.reindex(columns=[*COLUMNS, *(name for name in frame if name not in COLUMNS)])
    for name in COLUMNS:
        if name in NUMBERS:
            checked[name] = _shares(frame, name, source)
        else:
            checked[name] = as_text(checked[name])
    refuse_rows(source, frame, "path", checked["path"] == "", "is blank")
    known = ", ".join(repr(verdict) for verdict in VERDICTS)
    refuse_rows(source, frame, "verdict", ~checked["verdict"].isin(VERDICTS), f"is none of {known}")
    # Any other spelling would count as a negative.
    misspelt = (checked["label"].str.casefold() == POSITIVE.casefold()) & (checked["label"] != POSITIVE)
    refuse_rows(source, frame, "label", misspelt, f"must be written {POSITIVE!r}")
    for name in (*LUNG_AREAS, UNLIKE):
        if name in frame:
            checked[name] = _whole_numbers(frame, name, source)
    return checked.assign(**_class_columns(frame, source))


def _whole_numbers(frame: pd.DataFrame, name: str, source: str) -> "pd.Series[Any]":
    """A column as whole numbers from 0 on (Int64), missing where it is blank."""
    blank = as_text(frame[name]).isin(("", "<NA>", "nan"))
    numbers = pd.to_numeric(frame[name].mask(blank), errors="coerce").astype(float)
    refuse_rows(source, frame, name, ~blank & ~((numbers >= 0) & (numbers % 1 == 0)), "is not a whole number")
    return numbers.astype("Int64")


def _shares(frame: pd.DataFrame, name: str, source: str) -> "pd.Series[float]":
    """A column as numbers in [0, 1]."""
    shares = pd.to_numeric(frame[name], errors="coerce").astype(float)
    refuse_rows(source, frame, name, ~shares.between(0, 1), "is no number in [0, 1]")
    return shares


def _class_columns(frame: pd.DataFrame, source: str) -> "dict[str, pd.Series[Any]]":
    """The columns of a table of several classes, checked; none of a table of two."""
    classes = classes_of(frame)
    if not classes:
        return {}
    if len(classes) < 2 or POSITIVE not in classes:
        raise GroundglassError(
            f"{source}: has class probabilities of {', '.join(classes)} alone; add the column "
            f"{CLASS_PREFIX}NAME of every class, {POSITIVE} among them, or leave all of them out"
        )
    if CLASS not in frame:
        raise GroundglassError(
            f"{source}: has probabilities of classes but no column {CLASS}; name there the class answered"
        )
    answers = as_text(frame[CLASS])
    known = ", ".join(map(repr, classes))
    silent = (answers == "") & ~frame["verdict"].isin((POSITIVE, NEGATIVE))
    refuse_rows(source, frame, CLASS, ~answers.isin(classes) & ~silent, f"is none of {known}")
    return {CLASS: answers, **{name: _shares(frame, name, source) for name in map(class_column, classes)}}


def classes_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The classes that have a column of probabilities, in its order; none where covid is told from the rest."""
    names = map(str, predictions.columns)
    return tuple(name.removeprefix(CLASS_PREFIX) for name in names if name.startswith(CLASS_PREFIX))


def class_column(name: str) -> str:
    """The column of the probability of a class."""
    return f"{CLASS_PREFIX}{name}"


def labels_of(predictions: pd.DataFrame) -> "pd.Series[str]":
    """The label of each slice.

    Raises
    ------
    GroundglassError
        If a label is blank.
    """
    unlabelled = int((predictions["label"] == "").sum())
    if unlabelled:
        raise GroundglassError(
            f"{unlabelled} of {len(predictions)} predictions have no label: evaluation compares with the truth, "
            "so fill the column label, or evaluate on a labelled dataset"
        )
    return predictions["label"]


def truth_of(predictions: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each slice is labelled positive: bool, shape (slices,).

    Raises
    ------
    GroundglassError
        If a label is blank.
    """
    return (labels_of(predictions) == POSITIVE).to_numpy()


def unit_codes(names: Iterable[str]) -> NDArray[np.intp]:
    """Number the groups that slices belong to, from 0; a slice whose group's name is blank is its own group."""
    listed = list(names)
    own = [(name, row if name == "" else -1) for row, name in enumerate(listed)]
    return pd.factorize(pd.MultiIndex.from_tuples(own))[0]


OVERLAP_COLUMNS = ("path", "case", "structure", "true_px", "predicted_px", "common_px", "hd95")
"""In this order in the file; columns of other names follow and are kept as text."""
COUNTS = ("true_px", "predicted_px", "common_px")
STRUCTURES = ("lungs", "lesions")
LARGEST_COUNT = 2**53
"""Beyond it float64 skips whole numbers."""

Refuse = Callable[[str, "pd.Series[bool]", str, str], None]


def read_overlaps(path: Path) -> pd.DataFrame:
    """Read and check a masks.csv.

    Returns
    -------
    A row a slice and structure, in the file's order, index 0, 1, ... Pixel counts are int64, ``hd95`` is float64
    in pixels of the slice, NaN where one of the masks is empty; every other column is text.

    Raises
    ------
    GroundglassError
        If the file is missing, empty or no CSV, lacks a column, or a value does not fit; rows are named by
        their line in the file.
    """
    return check_overlaps(read_text_table(path), str(path)).reset_index(drop=True)


def write_overlaps(path: Path, frame: pd.DataFrame) -> None:
    """Check ``frame`` and write it as CSV, floats with 6 digits after the point.

    Raises
    ------
    GroundglassError
        If a column is missing, a value does not fit or the file cannot be written.
    """
    checked = check_overlaps(frame, str(path))
    with replacing(path) as handle:
        checked.to_csv(handle, index=False, float_format="%.6f", lineterminator="\n")


def check_overlaps(frame: pd.DataFrame, source: str = "masks") -> pd.DataFrame:
    """A copy of ``frame`` in the form that :func:`read_overlaps` describes, its index kept.

    Parameters
    ----------
    frame
        Rows are named by their index where a value does not fit.
    source
        What the error names as the table's origin.

    Raises
    ------
    GroundglassError
        If there is no row, a column is missing, a value does not fit, more pixels are common than either mask
        has, ``hd95`` is blank where neither mask is empty or given where one is, a path stands twice with one
        structure, or with two cases.
    """
    missing = [name for name in OVERLAP_COLUMNS if name not in frame]
    if missing:
        raise GroundglassError(
            f"{source}: has no column {', '.join(missing)}; masks have the columns {', '.join(OVERLAP_COLUMNS)}"
        )
    if frame.empty:
        raise GroundglassError(f"{source}: holds no masks; it needs a row for each slice and structure")
    checked = frame.reindex(
        columns=[*OVERLAP_COLUMNS, *(name for name in frame if name not in OVERLAP_COLUMNS)]
    )
    for name in ("path", "case", "structure", "hd95"):
        checked[name] = as_text(checked[name])
    for check in (_check_names, _check_counts, _check_distances):
        check(checked, partial(refuse_rows, source, frame))
    return checked


def _check_names(checked: pd.DataFrame, refuse: Refuse) -> None:
    refuse("path", checked["path"] == "", "is blank", "name the slice's file")
    remedy = "name the patient or volume, or the slice's own path where neither is known"
    refuse("case", checked["case"] == "", "is blank", remedy)
    unknown = ~checked["structure"].isin(STRUCTURES)
    refuse("structure", unknown, "is unknown", f"it must be {' or '.join(STRUCTURES)}")
    again = checked.duplicated(["path", "structure"])
    refuse("path", again, "stands twice with one structure", "keep one row of each slice")
    torn = checked.groupby("path")["case"].transform("nunique") > 1
    refuse("case", torn, "differs between rows of one path", "a slice is of one case")


def _check_counts(checked: pd.DataFrame, refuse: Refuse) -> None:
    """Turn the counts from text into numbers."""
    for name in COUNTS:
        number = pd.to_numeric(checked[name], errors="coerce").astype(float)
        wrong = ~number.between(0, LARGEST_COUNT) | (number % 1 != 0)
        refuse(name, wrong, "is no whole number", "count the mask's pixels, 0 if it is empty")
        checked[name] = number.astype(np.int64)
    most = checked[["true_px", "predicted_px"]].min(axis=1)
    remedy = "count the pixels that lie in both masks"
    refuse("common_px", checked["common_px"] > most, "exceeds true_px or predicted_px", remedy)


def _check_distances(checked: pd.DataFrame, refuse: Refuse) -> None:
    """Turn ``hd95`` from text into numbers; the counts must be checked."""
    blank = checked["hd95"] == ""
    number = pd.to_numeric(checked["hd95"], errors="coerce").astype(float)
    wrong = ~blank & ~number.between(0, np.finfo(float).max)
    remedy = "give pixels from 0 on, or a blank where one of the masks is empty"
    refuse("hd95", wrong, "is no distance", remedy)
    empty = checked[["true_px", "predicted_px"]].min(axis=1) == 0
    refuse("hd95", blank & ~empty, "is blank though neither mask is empty", remedy)
    refuse("hd95", ~blank & empty, "is given though one of the masks is empty", remedy)
    checked["hd95"] = number
