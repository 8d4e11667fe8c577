"""What the CSV tables of evaluation share: reading them as text, and naming the rows that do not fit."""

import warnings
from pathlib import Path

import pandas as pd

from groundglass.errors import GroundglassError


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
