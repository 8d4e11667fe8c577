"""The manifest: a table of labelled scans, as CSV.

It has the columns ``path, label, patient, split, source``, all text and blank if unknown, and may have more. A
path inside the CSV's folder is stored relative to it, any other path as absolute; in memory paths are absolute.
"""

import hashlib
import os
import warnings
from pathlib import Path

import pandas as pd

from groundglass.data.layouts import class_folders
from groundglass.errors import GroundglassError, count_of
from groundglass.files import replacing, sha256
from groundglass.labels import NO_LESIONS, POSITIVE, SPLIT_NAMES, canonical_labels

COLUMNS = ("path", "label", "patient", "split", "source")
FILE_COLUMNS = ("path", "lungs", "lesions", "lesion_types")
"""Columns that hold paths. The last three are masks, which only some datasets have, blank if nobody marked
them: lungs and lesions hold 0 and 255, lesion_types holds 0, 127 for ground glass and 254 for consolidation.
``none`` in the column lesions means that the slice shows no lesion."""
PARTS = ("train", "val", "test")
NAMED_FILES = 5
"""Number of files that a message names; the rest are only counted."""


class ManifestWarning(UserWarning):
    """Something in a manifest that is allowed but rarely intended."""


def read_manifest(path: Path | str) -> pd.DataFrame:
    """Read and check a manifest.

    Returns
    -------
    One row per scan, in the file's order, index 0, 1, ...; every column text, blanks as ``""``, paths absolute,
    labels that mean COVID-19 or its absence as ``covid`` and ``not covid``.

    Raises
    ------
    GroundglassError
        If a column or a file is missing, a path or label is blank, a path occurs twice, or a split is unknown.
        The message names the file and the row; the header is row 1.
    """
    path = Path(path)
    hint = f"to make a manifest of a CSV with path and label, run  groundglass data import {path}"
    return _checked(_read_csv(path, COLUMNS, hint), path)


def write_manifest(manifest: pd.DataFrame, path: Path | str) -> None:
    """Write a manifest atomically; files inside the CSV's folder get relative POSIX paths.

    Raises
    ------
    GroundglassError
        If ``path`` cannot be written.
    """
    folder = Path(os.path.abspath(path)).parent  # noqa: PTH100 (resolve would follow links)
    frame = manifest[[*COLUMNS, *(column for column in manifest if column not in COLUMNS)]].copy()
    for column in _file_columns(frame):
        frame[column] = [_stored(value, folder) for value in frame[column]]
    with replacing(Path(path)) as handle:
        frame.to_csv(handle, index=False, lineterminator="\n")


def import_path(path: Path | str, *, source: str = "", patients_from_folders: bool = False) -> pd.DataFrame:
    """Make a manifest of a folder with one subfolder per class, or of a CSV with at least ``path, label``.

    Parameters
    ----------
    source
        Where the scans come from; by default the CSV's column, or else the name of the folder or CSV.
    patients_from_folders
        Treat the folders below a class folder as patients. Their names become ids in every later table, so
        they should be pseudonyms.

    Raises
    ------
    GroundglassError
        If there is nothing to import, or the CSV is invalid; see :func:`read_manifest`.

    Warns
    -----
    ManifestWarning
        If there is only one class, or no class means COVID-19.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100
    if path.is_dir():
        frame = pd.DataFrame(class_folders(path, patients_from_folders=patients_from_folders))
        frame["source"] = source or path.name
    elif path.exists():
        frame = _import_csv(path, source)
    else:
        raise GroundglassError(f"{path}: there is no such file or folder")
    frame = _checked(frame, path)
    labels = sorted(frame["label"].unique())
    if len(labels) == 1:
        warnings.warn(
            f"{path}: one class only, {labels[0]}: nothing can be trained on it", ManifestWarning, 2
        )
    elif POSITIVE not in labels:
        found = ", ".join(labels)
        warnings.warn(f"{path}: no class means COVID-19 (found: {found}); name it covid", ManifestWarning, 2)
    return frame


def _import_csv(path: Path, source: str) -> pd.DataFrame:
    hint = "path and label are required; patient, split and source are optional; separate columns by commas"
    frame = _read_csv(path, ("path", "label"), hint)
    for column in ("patient", "split", "source"):
        if column not in frame:
            frame[column] = ""
    frame["split"] = [SPLIT_NAMES.get(value.lower(), value) for value in frame["split"]]
    own = frame["source"].where(frame["source"] != "", path.stem)
    frame["source"] = source or own
    return frame[[*COLUMNS, *(column for column in frame if column not in COLUMNS)]]


def _read_csv(path: Path, required: tuple[str, ...], hint: str) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise GroundglassError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise GroundglassError(f"{path}: cannot be read as CSV ({error})") from error
    frame = frame.fillna("").rename(columns=str.strip).apply(lambda column: column.str.strip())
    if missing := [column for column in required if column not in frame]:
        columns = ", ".join(frame.columns)
        raise GroundglassError(f"{path}: has no column {', '.join(missing)} (it has {columns}); {hint}")
    return frame


def _checked(frame: pd.DataFrame, origin: Path) -> pd.DataFrame:
    """Make paths absolute and labels canonical, and refuse an invalid manifest."""
    if frame.empty:
        raise GroundglassError(f"{origin}: has no rows")
    for column in ("path", "label"):
        _refuse(origin, frame, frame[column] == "", f"{column} is blank")
    folder = Path(os.path.abspath(origin)).parent  # noqa: PTH100
    for column in _file_columns(frame):
        frame[column] = [_absolute(value, folder) for value in frame[column]]
    frame["label"] = canonical_labels(frame["label"])
    unknown = ~frame["split"].isin([*PARTS, ""])
    _refuse(origin, frame, unknown, "split {split!r} is not train, val, test or blank")
    _refuse(origin, frame, frame["path"].duplicated(), "{path} is also in an earlier row")
    missing = [value for value in frame["path"] if not os.path.isfile(value)]  # noqa: PTH113 (much faster)
    if missing:
        raise GroundglassError(
            f"{origin}: missing {len(missing)} of {len(frame)} files:\n{listed(missing)}\n"
            f"relative paths start from {folder}"
        )
    return frame.reset_index(drop=True)


def listed(lines: list[str]) -> str:
    """The first five lines, indented, and how many more there are."""
    more = [f"and {len(lines) - NAMED_FILES} more"] if len(lines) > NAMED_FILES else []
    return "\n".join(f"  {line}" for line in lines[:NAMED_FILES] + more)


def _refuse(origin: Path, frame: pd.DataFrame, wrong: pd.Series, problem: str) -> None:
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        row = {str(column): value for column, value in frame.iloc[position].items()}
        more = f" (and {count_of(int(wrong.sum()) - 1, 'more row')})" if wrong.sum() > 1 else ""
        raise GroundglassError(f"{origin}, row {position + 2}: {problem.format(**row)}{more}")


def _file_columns(frame: pd.DataFrame) -> list[str]:
    return [column for column in FILE_COLUMNS if column in frame]


def _absolute(value: str, folder: Path) -> str:
    return value if value in ("", NO_LESIONS) else os.path.normpath(folder / value)


def _stored(value: str, folder: Path) -> str:
    path = Path(value)
    return path.relative_to(folder).as_posix() if value and path.is_relative_to(folder) else value


def summarise(manifest: pd.DataFrame) -> pd.DataFrame:
    """Count the slices and the known patients of each part and class.

    Returns
    -------
    Columns ``split, label, slices, patients``; parts in the order train, val, test, none (blank).
    """
    rows = []
    for part in (*PARTS, ""):
        for label, rows_of_label in manifest[manifest["split"] == part].groupby("label"):
            known = rows_of_label["patient"][rows_of_label["patient"] != ""]
            rows.append((part, label, len(rows_of_label), known.nunique()))
    return pd.DataFrame(rows, columns=["split", "label", "slices", "patients"])


def fingerprint(manifest: pd.DataFrame) -> str:
    """Identify the data of a training run: SHA-256 over each file's name, label, split, size and content.

    It does not depend on the order of the rows or on the files' folder.

    Raises
    ------
    GroundglassError
        If a file cannot be read.
    """
    lines = []
    for name, label, split in zip(manifest["path"], manifest["label"], manifest["split"], strict=True):
        path = Path(name)
        try:
            lines.append(f"{path.name}\t{label}\t{split}\t{path.stat().st_size}\t{sha256(path)}\n")
        except OSError as error:
            raise GroundglassError(f"{path}: cannot be read ({error.strerror or error})") from error
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def fingerprints_by_source(manifest: pd.DataFrame) -> dict[str, str]:
    """The :func:`fingerprint` of each source's training and validation scans, by the source's name."""
    used = manifest[manifest["split"].isin(("train", "val"))]
    return {str(source): fingerprint(rows) for source, rows in used.groupby("source", sort=True)}
