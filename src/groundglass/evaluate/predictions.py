"""predictions.csv: one row a slice, the one input of evaluation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.errors import GroundglassError
from groundglass.evaluate.tables import as_text, read_text_table, refuse_rows
from groundglass.files import replacing
from groundglass.labels import (
    CLASS,
    CLASS_PREFIX,
    NEGATIVE,
    NOT_A_CHEST_CT,
    POSITIVE,
    UNCERTAIN,
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
    ``label`` are blank where the file lacks them. Where a detector tells several classes apart, there is also
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
    return checked.assign(**_class_columns(frame, source))


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
