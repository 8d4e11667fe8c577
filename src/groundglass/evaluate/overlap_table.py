"""masks.csv: one row a slice and structure, how far the predicted mask overlaps the true one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from groundglass.errors import GroundglassError
from groundglass.evaluate.tables import as_text, read_text_table, refuse_rows
from groundglass.files import replacing

COLUMNS = ("path", "case", "structure", "true_px", "predicted_px", "common_px", "hd95")
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
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise GroundglassError(
            f"{source}: has no column {', '.join(missing)}; masks have the columns {', '.join(COLUMNS)}"
        )
    if frame.empty:
        raise GroundglassError(f"{source}: holds no masks; it needs a row for each slice and structure")
    checked = frame.reindex(columns=[*COLUMNS, *(name for name in frame if name not in COLUMNS)])
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
