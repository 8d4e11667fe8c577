"""predictions.csv: one row a slice, the one input of evaluation."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.errors import GroundglassError
from groundglass.evaluate.tables import as_text, read_text_table, refuse_rows
from groundglass.files import replacing
from groundglass.labels import NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

COLUMNS = ("path", "patient", "group", "label", "score", "probability", "verdict")
"""In this order in the file; columns of other names follow and are kept as text."""
MAY_BE_BLANK = ("patient", "group", "label")
NUMBERS = ("score", "probability")
VERDICTS = (POSITIVE, NEGATIVE, UNCERTAIN, NOT_A_CHEST_CT)


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and check a predictions.csv.

    Returns
    -------
    A row a slice, in the file's order. ``score`` (the model's output) and ``probability`` (calibrated) are
    float64 in [0, 1]; every other column is text, blank where nothing is known. ``patient``, ``group`` and
    ``label`` are blank where the file lacks them.

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
        If there is no row, a column is missing or a value does not fit.
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
            checked[name] = pd.to_numeric(checked[name], errors="coerce").astype(float)
            outside = ~checked[name].between(0, 1)
            refuse_rows(source, frame, name, outside, "is no number in [0, 1]")
        else:
            checked[name] = as_text(checked[name])
    refuse_rows(source, frame, "path", checked["path"] == "", "is blank")
    known = ", ".join(repr(verdict) for verdict in VERDICTS)
    refuse_rows(source, frame, "verdict", ~checked["verdict"].isin(VERDICTS), f"is none of {known}")
    # Any other spelling would count as a negative.
    misspelt = (checked["label"].str.casefold() == POSITIVE.casefold()) & (checked["label"] != POSITIVE)
    refuse_rows(source, frame, "label", misspelt, f"must be written {POSITIVE!r}")
    return checked


def truth_of(predictions: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each slice is labelled positive: bool, shape (slices,).

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
    return (predictions["label"] == POSITIVE).to_numpy()


def unit_codes(names: Iterable[str]) -> NDArray[np.intp]:
    """Number the groups that slices belong to, from 0; a slice whose group's name is blank is its own group."""
    listed = list(names)
    own = [(name, row if name == "" else -1) for row, name in enumerate(listed)]
    return pd.factorize(pd.MultiIndex.from_tuples(own))[0]
