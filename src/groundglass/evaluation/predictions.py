"""The tables of evaluation, predictions.csv and masks.csv: their columns, reading, checking and writing.

Tables are checked when they are read or written, and in the functions that evaluate a table. All other
functions of this package assume that a table has been checked.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.errors import GroundglassError
from groundglass.files import replacing
from groundglass.labels import (
    CLASS,
    CLASS_PREFIX,
    LESION_PROBABILITY,
    LUNG_AREAS,
    NEGATIVE,
    NOT_A_CHEST_CT,
    POSITIVE,
    UNCERTAIN,
    canonical_labels,
)


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV file with a header.

    Returns
    -------
    Every column as text, blank lines left out; the index is the row's line in the file, from 2 on. NaN if a
    row is shorter than the header.

    Raises
    ------
    GroundglassError
        If the file is missing, empty or not a CSV, or a row is longer than the header.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # index_col=False: otherwise rows that are longer than the header silently shift all columns.
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
    """Values as text without spaces around it, "" if one is missing."""
    texts = column.astype(object)
    return texts.where(texts.notna(), "").astype(str).str.strip()


def refuse_rows(
    source: str, frame: pd.DataFrame, column: str, wrong: "pd.Series[bool]", problem: str, remedy: str = ""
) -> None:
    """Raise GroundglassError if a row is ``wrong``; it names the column, the rows by their index, and a value.

    Parameters
    ----------
    source
        The table's origin.
    frame
        The table before any conversion.
    column, wrong
        The column with invalid values, and in which rows.
    problem, remedy
        What is wrong, following the column's name, and what to do about it.
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


@dataclass(frozen=True)
class Column:
    """What the values of a column must be.

    Attributes
    ----------
    kind
        Text, or a number: a share in [0, 1], a non-negative integer, or a non-negative distance.
    may_be_blank
        Whether a value may be missing.
    choices
        The values that a text may have; any value if empty.
    remedy
        What to do about an invalid value.
    """

    kind: Literal["text", "share", "whole number", "distance"] = "text"
    may_be_blank: bool = False
    choices: tuple[str, ...] = ()
    remedy: str = ""


NUMBERS = {
    "share": (1.0, "is not a number in [0, 1]"),
    "whole number": (2.0**53, "is not a whole number"),
    "distance": (float(np.finfo(float).max), "is not a distance"),
}
"""The largest number of each kind, and the problem with other values. Above 2**53 float64 skips integers."""


def _check_table(
    frame: pd.DataFrame,
    source: str,
    rows: str,
    required: Mapping[str, Column],
    optional: Mapping[str, Column] | None = None,
) -> pd.DataFrame:
    """Check a table and convert its values; texts are stripped, and "" if missing.

    Parameters
    ----------
    frame
        Its index names rows in errors.
    source, rows
        The table's origin and a word for its rows, for errors.
    required, optional
        Its columns by name; ``optional`` ones are checked if the table has them.

    Returns
    -------
    A copy, the ``required`` columns first; columns that are in neither are unchanged.

    Raises
    ------
    GroundglassError
        If there are no rows, a required column is missing or a value is invalid.
    """
    missing = [name for name in required if name not in frame]
    if missing:
        raise GroundglassError(
            f"{source}: has no column {', '.join(missing)}; {rows} have the columns {', '.join(required)}"
        )
    if frame.empty:
        raise GroundglassError(f"{source}: holds no {rows}")
    columns = {**required, **(optional or {})}
    checked = {name: _check_column(frame, source, name, columns[name]) for name in columns if name in frame}
    return frame.assign(**checked)[[*required, *(name for name in frame if name not in required)]]


def _check_column(frame: pd.DataFrame, source: str, name: str, column: Column) -> "pd.Series[Any]":
    refuse = partial(refuse_rows, source, frame, name, remedy=column.remedy)
    texts = as_text(frame[name])
    blank = texts == ""
    if column.choices:
        refuse(~texts.isin(column.choices), f"is none of {', '.join(map(repr, column.choices))}")
    elif column.kind == "text" and not column.may_be_blank:
        refuse(blank, "is blank")
    if column.kind == "text":
        return texts
    largest, problem = NUMBERS[column.kind]
    numbers = pd.to_numeric(frame[name].mask(blank), errors="coerce").astype(float)
    fits = numbers.between(0, largest)
    if column.kind == "whole number":
        fits &= numbers % 1 == 0
    refuse(~fits & ~(blank & column.may_be_blank), problem)
    if column.kind == "whole number":
        return numbers.astype("Int64" if column.may_be_blank else np.int64)
    return numbers


def _write_table(checked: pd.DataFrame, path: Path) -> None:
    with replacing(path) as handle:
        checked.to_csv(handle, index=False, float_format="%.6f", lineterminator="\n")


VERDICTS = (POSITIVE, NEGATIVE, UNCERTAIN, NOT_A_CHEST_CT)
PREDICTIONS = {
    "path": Column(),
    "patient": Column(may_be_blank=True),
    "group": Column(may_be_blank=True),
    "label": Column(may_be_blank=True),
    "score": Column("share"),
    "probability": Column("share"),
    "verdict": Column(choices=VERDICTS),
}
"""The columns of a predictions.csv, in this order in the file; columns of other names follow."""
COLUMNS = tuple(PREDICTIONS)


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and check a predictions.csv.

    Returns
    -------
    A row per slice, in the file's order. ``score`` (the model's output) and ``probability`` (calibrated) are
    float64 in [0, 1]; every other column is text, blank if unknown. Labels are canonical
    (:func:`groundglass.labels.canonical_labels`). ``patient``, ``group`` and ``label`` are blank if the file
    lacks them. ``LUNG_AREAS``, if the file has them, are integers (Int64), missing where
    blank. Predictions of a detector of several classes also have ``class``, the name of the class answered,
    and for each class, including POSITIVE, a column ``probability_NAME``, float64 in [0, 1].

    Raises
    ------
    GroundglassError
        If the file is missing, empty or not a CSV, lacks a column, or a value is invalid; rows are named by
        their line in the file.
    """
    return check_predictions(read_text_table(path), str(path)).reset_index(drop=True)


def write_predictions(frame: pd.DataFrame, path: Path) -> None:
    """Check ``frame`` and write it as CSV, floats with 6 decimal places.

    Raises
    ------
    GroundglassError
        If a column is missing, a value is invalid or the file cannot be written.
    """
    _write_table(check_predictions(frame, str(path)), path)


def check_predictions(frame: pd.DataFrame, source: str = "predictions") -> pd.DataFrame:
    """A copy of ``frame`` in the form that :func:`read_predictions` describes.

    Parameters
    ----------
    frame
        Its index names rows in errors.
    source
        The table's origin, for errors.

    Raises
    ------
    GroundglassError
        If there are no rows, a column is missing, a value is invalid, or classes are incomplete.
    """
    blank = {name: "" for name in COLUMNS if PREDICTIONS[name].may_be_blank and name not in frame}
    optional = dict.fromkeys(LUNG_AREAS, Column("whole number", may_be_blank=True))
    optional[LESION_PROBABILITY] = Column("share", may_be_blank=True)
    classes = classes_of(frame)
    if classes:
        _check_classes_are_complete(frame, source)
        optional |= {
            CLASS: Column(may_be_blank=True),
            **dict.fromkeys(map(class_column, classes), Column("share")),
        }
    checked = _check_table(frame.assign(**blank), source, "predictions", PREDICTIONS, optional)
    labels = pd.Series(canonical_labels(checked["label"]), index=checked.index, dtype=object)
    checked["label"] = checked["label"].where(checked["label"].isin(classes), labels)
    if classes:
        answered = (checked[CLASS] != "") | checked["verdict"].isin((POSITIVE, NEGATIVE))
        known = ", ".join(map(repr, classes))
        refuse_rows(source, checked, CLASS, answered & ~checked[CLASS].isin(classes), f"is none of {known}")
    return checked


def _check_classes_are_complete(frame: pd.DataFrame, source: str) -> None:
    classes = classes_of(frame)
    if len(classes) < 2 or POSITIVE not in classes:
        raise GroundglassError(
            f"{source}: has class probabilities only of {', '.join(classes)}; add the column "
            f"{CLASS_PREFIX}NAME of every class, {POSITIVE} among them, or leave all of them out"
        )
    if CLASS not in frame:
        raise GroundglassError(
            f"{source}: has probabilities of classes but no column {CLASS}; add it with the class answered"
        )


def classes_of(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The classes with a column of probabilities, in column order; none if the question is covid or not."""
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
            f"the label is missing in {unlabelled} of {len(predictions)} predictions: evaluation compares with the "
            "truth, so fill the column label, or evaluate on a labelled dataset"
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
    """Number the groups that slices belong to, from 0; a slice whose group name is blank is its own group."""
    listed = list(names)
    own = [(name, row if name == "" else -1) for row, name in enumerate(listed)]
    return pd.factorize(pd.MultiIndex.from_tuples(own))[0]


STRUCTURES = ("lungs", "lesions")
_COUNT = Column("whole number", remedy="count the mask's pixels, 0 if it is empty")
OVERLAPS = {
    "path": Column(remedy="name the slice's file"),
    "case": Column(remedy="name the patient or volume, or the slice's own path if neither is known"),
    "structure": Column(choices=STRUCTURES),
    "true_px": _COUNT,
    "predicted_px": _COUNT,
    "common_px": _COUNT,
    "hd95": Column(
        "distance",
        may_be_blank=True,
        remedy="give a distance of 0 pixels or more, or leave it blank if one of the masks is empty",
    ),
}
"""The columns of a masks.csv, in this order in the file; columns of other names follow and stay text."""
OVERLAP_COLUMNS = tuple(OVERLAPS)


def read_overlaps(path: Path) -> pd.DataFrame:
    """Read and check a masks.csv.

    Returns
    -------
    A row per slice and structure, in the file's order, index 0, 1, ... Pixel counts are int64, ``hd95`` is
    float64 in pixels of the slice, NaN if one of the masks is empty; every other column is text.

    Raises
    ------
    GroundglassError
        If the file is missing, empty or not a CSV, lacks a column, or a value is invalid; rows are named by
        their line in the file.
    """
    return check_overlaps(read_text_table(path), str(path)).reset_index(drop=True)


def write_overlaps(path: Path, frame: pd.DataFrame) -> None:
    """Check ``frame`` and write it as CSV, floats with 6 decimal places.

    Raises
    ------
    GroundglassError
        If a column is missing, a value is invalid or the file cannot be written.
    """
    _write_table(check_overlaps(frame, str(path)), path)


def check_overlaps(frame: pd.DataFrame, source: str = "masks") -> pd.DataFrame:
    """A copy of ``frame`` in the form that :func:`read_overlaps` describes, its index kept.

    Parameters
    ----------
    frame
        Its index names rows in errors.
    source
        The table's origin, for errors.

    Raises
    ------
    GroundglassError
        If there are no rows, a column is missing, a value is invalid, more pixels are common than either mask
        has, ``hd95`` is blank although neither mask is empty or given although one is, or a path occurs twice
        with one structure or with two cases.
    """
    checked = _check_table(frame, source, "masks", OVERLAPS)
    smaller = checked[["true_px", "predicted_px"]].min(axis=1)
    blank, empty = checked["hd95"].isna(), smaller == 0
    remedy = OVERLAPS["hd95"].remedy
    refuse: Callable[..., None] = partial(refuse_rows, source, frame)
    again = checked.duplicated(["path", "structure"])
    refuse("path", again, "occurs twice with one structure", "keep one row per slice")
    differs = checked.groupby("path")["case"].transform("nunique") > 1
    refuse("case", differs, "differs between rows of one path", "a slice belongs to one case")
    too_many = checked["common_px"] > smaller
    refuse(
        "common_px", too_many, "exceeds true_px or predicted_px", "count the pixels that are in both masks"
    )
    refuse("hd95", blank & ~empty, "is blank although neither mask is empty", remedy)
    refuse("hd95", ~blank & empty, "is given although one of the masks is empty", remedy)
    return checked
