"""Turn a dataset's folder into manifest rows: one function per layout."""

import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from groundglass.data.dataset import Dataset
from groundglass.errors import GroundglassError, count_of
from groundglass.labels import NEGATIVE, NO_LESIONS, POSITIVE, SPLIT_NAMES, canonical_labels
from groundglass.scan.find import natural_key
from groundglass.scan.image import SUFFIXES

Row = dict[str, str]


def rows_of(dataset: Dataset, folder: Path) -> pd.DataFrame:
    """Return the manifest rows of a dataset whose files are in ``folder``.

    Returns
    -------
    Columns ``path, label, patient, split, source`` and any that the layout adds; paths absolute, all text.

    Raises
    ------
    GroundglassError
        If a table of the dataset cannot be read, or a class does not have the published size.
    """
    frame = pd.DataFrame(LAYOUTS[dataset.layout](dataset, folder)).assign(source=dataset.name)
    if dataset.lesion_free:
        free = frame["label"].isin(dataset.lesion_free)
        frame["lesions"] = free.map({True: NO_LESIONS, False: ""})
    for label, count in dataset.classes.items():
        found = int((frame["label"] == label).sum())
        if count is not None and found != count:
            raise GroundglassError(
                f"{folder}: found {count_of(found, 'slice')} of class {label}, but {dataset.name} has {count}"
            )
    return frame


def covid_ct(dataset: Dataset, folder: Path) -> list[Row]:
    """COVID-CT: a folder per class, patients in an Excel sheet and a CSV, the official split in text files."""
    sheet = _table(folder / "COVID-CT-MetaInfo.xlsx", "File name", "Patient ID")
    table = _table(folder / "NonCOVID-CT-MetaInfo.csv", "image name", "patient id")
    rows = []
    for label, kind, patients in ((POSITIVE, "COVID", sheet), (NEGATIVE, "NonCOVID", table)):
        parts = _official_parts(folder / "Data-split" / kind, kind)
        for file in pictures(folder / "Images-processed" / f"CT_{kind}"):
            stem = _stem(file.name)
            if stem not in patients or stem not in parts:
                lacking = "MetaInfo table" if stem not in patients else "Data-split folder"
                raise GroundglassError(
                    f"{file}: is not in the {lacking} of {folder}; download these files again"
                )
            rows.append(
                {"path": str(file), "label": label, "patient": patients[stem], "split": parts[stem]},
            )
    return rows


def _stem(name: str) -> str:
    # 83 rows have names without an extension, which Path.stem would cut at the last dot of their DOI.
    return re.sub(r"\.(png|jpe?g)$", "", name.strip(), flags=re.IGNORECASE)


def _table(path: Path, name: str, patient: str) -> dict[str, str]:
    """Map each file's stem to its patient, from two columns of an Excel sheet or a CSV."""
    try:
        read = pd.read_excel if path.suffix == ".xlsx" else pd.read_csv
        frame = read(path, usecols=[name, patient], dtype=str).dropna()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise GroundglassError(f"{path}: cannot be read ({error}); download the file again") from error
    return {_stem(file): str(who).strip() for file, who in zip(frame[name], frame[patient], strict=True)}


def _official_parts(folder: Path, kind: str) -> dict[str, str]:
    parts = {}
    for part in ("train", "val", "test"):
        path = folder / f"{part}CT_{kind}.txt"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise GroundglassError(f"{path}: cannot be read ({error}); download the file again") from error
        parts.update({_stem(line): part for line in lines if line.strip()})
    return parts


def numbered(dataset: Dataset, folder: Path) -> list[Row]:
    """Numbered slices in a folder per class; only the numbers that the dataset lists are used."""
    rows = []
    for group in dataset.numbered:
        files = {file.stem: file for file in pictures(folder / group.folder)}
        rows += [
            {"path": str(files[stem]), "label": group.label, "patient": "", "split": ""}
            for stem in group.stems()
            if stem in files
        ]
    return rows


def masked_slices(dataset: Dataset, folder: Path) -> list[Row]:
    """Slices in ``ct`` with masks in the folders that the dataset names, listed in ``slices.csv``.

    The table's column ``file`` is a file name with or without its extension; ``volume``, ``case`` (the
    patient) and ``split`` are used if they are there.
    """
    table = read_slices(folder)
    columns = {"volume", "case", "split"} & set(table)
    paths = {column: picture_of(folder / sub) for column, sub in {"path": "ct", **dataset.masks}.items()}
    rows = []
    for facts in table.to_dict("records"):
        stem = Path(facts["file"]).stem
        volume = facts["volume"] if "volume" in columns else ""
        row = {"path": str(paths["path"](stem)), "label": POSITIVE}
        row["patient"] = facts["case"] if "case" in columns else dataset.patient_of.get(volume, "")
        row["split"] = facts["split"] if "split" in columns else ""
        if volume:
            row["volume"] = volume
        rows.append(row | {column: str(paths[column](stem)) for column in dataset.masks})
    return rows


def picture_of(folder: Path) -> Callable[[str], Path]:
    """A function from a stem to the picture of that name in ``folder``, or its expected path if it is missing."""
    found = {file.stem: file for file in pictures(folder)}
    return lambda stem: found.get(stem, folder / f"{stem}.png")


def read_slices(folder: Path) -> pd.DataFrame:
    """Read the table of a dataset of slices with masks: the column ``file`` and others, all text."""
    path = folder / "slices.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise GroundglassError(f"{path}: cannot be read ({error}); download the file again") from error
    if "file" not in table:
        raise GroundglassError(f"{path}: has no column file; download the file again")
    return table


def class_folders(folder: Path, *, patients_from_folders: bool = False) -> list[Row]:
    """One subfolder per class, possibly below folders named after the parts (train, valid, test ...).

    Parameters
    ----------
    patients_from_folders
        The folders below a class folder are patients, and their names the ids.

    Raises
    ------
    GroundglassError
        If there is no class folder or no picture, or if pictures are outside the class folders.
    """
    rows = []
    for part_folder, part in _parts(folder):
        _refuse_loose(part_folder)
        for class_folder in _subfolders(part_folder):
            for file in pictures(class_folder, deep=True):
                below = file.relative_to(class_folder).parts[:-1]
                patient = below[0] if below and patients_from_folders else ""
                rows.append(
                    {"path": str(file), "label": class_folder.name, "patient": patient, "split": part}
                )
    if not rows:
        endings = ", ".join(sorted(SUFFIXES))
        raise GroundglassError(f"{folder}: no picture ({endings}) in any subfolder")
    for row, label in zip(rows, canonical_labels(row["label"] for row in rows), strict=True):
        row["label"] = label
    _doubt_patients(rows)
    return rows


def _parts(folder: Path) -> list[tuple[Path, str]]:
    subfolders = _subfolders(folder)
    named = [sub for sub in subfolders if sub.name.lower() in SPLIT_NAMES]
    if not named:
        return [(folder, "")]
    others = [sub.name for sub in subfolders if sub not in named]
    if others:
        raise GroundglassError(
            f"{folder}: {others[0]} is beside {named[0].name}; either all subfolders are parts "
            "(train, val, test), each with one subfolder per class, or all are classes"
        )
    _refuse_loose(folder)
    return [(sub, SPLIT_NAMES[sub.name.lower()]) for sub in named]


def _refuse_loose(folder: Path) -> None:
    loose = pictures(folder)
    if loose:
        raise GroundglassError(
            f"{folder}: pictures are outside the class folders ({len(loose)} in all, first: {loose[0].name}); "
            "put every picture into one subfolder per class"
        )


def _doubt_patients(rows: list[Row]) -> None:
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row["patient"], set()).add(row["label"])
    shared = sorted(patient for patient, found in labels.items() if patient and len(found) > 1)
    if shared:
        warnings.warn(
            f"patient folders of the same name in several classes ({len(shared)} in all, first: {shared[0]}) "
            "are treated as one patient; rename them if they are not",
            stacklevel=2,
        )


def _subfolders(folder: Path) -> list[Path]:
    found = (sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))
    return sorted(found, key=natural_key)


def pictures(folder: Path, *, deep: bool = False) -> list[Path]:
    """Pictures in a folder (with ``deep`` also below it) in natural order; hidden files are skipped."""
    found = folder.rglob("*") if deep else folder.glob("*")
    files = [file for file in found if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    return sorted((file for file in files if file.is_file()), key=natural_key)


LAYOUTS: dict[str, Callable[[Dataset, Path], list[Row]]] = {
    "covid-ct": covid_ct,
    "numbered": numbered,
    "masked-slices": masked_slices,
    "class-folders": lambda _, folder: class_folders(folder),
}
