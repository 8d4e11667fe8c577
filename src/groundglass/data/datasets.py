"""Where datasets are, how they get there, and their manifests."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from platformdirs import user_data_path

from groundglass.data.download import DownloadError, fetch, unpack
from groundglass.data.layouts import rows_of
from groundglass.data.manifest import import_path, read_manifest, write_manifest
from groundglass.data.registry import DATASETS, Dataset, Remote, find, unknown
from groundglass.data.verify import verify
from groundglass.errors import GroundglassError

DATA_VARIABLE = "GROUNDGLASS_DATA"
MIRROR_VARIABLE = "GROUNDGLASS_MIRROR"

FileProgress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are there, and the bytes in all, None where that is unknown."""


def data_folder() -> Path:
    """The folder of downloaded datasets and manifests: GROUNDGLASS_DATA, else in the user's data folder."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named).expanduser().absolute() if named else user_data_path("groundglass") / "datasets"


def mirror_folder() -> Path | None:
    """The folder that GROUNDGLASS_MIRROR names: datasets as published, used in place and never written to.

    Raises
    ------
    GroundglassError
        If it names no folder.
    """
    named = os.environ.get(MIRROR_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser().absolute()
    if not folder.is_dir():
        raise GroundglassError(
            f"{MIRROR_VARIABLE} names {folder}, where there is no folder; correct or unset it"
        )
    return folder


def locate(name: str) -> Path | None:
    """Return the folder that holds a dataset's files, in the mirror or else downloaded; None if neither.

    Raises
    ------
    GroundglassError
        If there is no dataset of this name, or GROUNDGLASS_MIRROR names no folder.
    """
    dataset = find(name)
    for base in (mirror_folder(), data_folder()):
        if base and _holds(base / dataset.folder, dataset):
            return base / dataset.folder
    return None


def _holds(folder: Path, dataset: Dataset) -> bool:
    if dataset.needs:
        return all((folder / need).exists() for need in dataset.needs)
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())


def get(name: str, progress: FileProgress | None = None) -> Path:
    """Find or download a dataset, check its files, and write its manifest.

    Returns
    -------
    The manifest's path, ``manifest.csv`` in the dataset's place below :func:`data_folder`, also where the
    files are in the mirror.

    Raises
    ------
    GroundglassError
        If the dataset is neither here nor can be downloaded (the message holds the steps by hand), or its
        files are not the published ones.
    """
    dataset = find(name)
    folder = locate(name) or _download(dataset, progress)
    verify(dataset, folder)
    path = data_folder() / name / "manifest.csv"
    write_manifest(rows_of(dataset, folder), path)
    return path


def load_dataset(name_or_path: str | Path) -> pd.DataFrame:
    """Return the manifest of a known dataset, of a CSV, or of a folder of one subfolder per class.

    A known dataset is found, downloaded where it can be, and checked, as by :func:`get`.

    Returns
    -------
    As :func:`groundglass.data.manifest.read_manifest`.

    Raises
    ------
    GroundglassError
        If there is no such dataset, file or folder, or it has mistakes.
    """
    if str(name_or_path) in DATASETS:
        return read_manifest(get(str(name_or_path)))
    path = Path(name_or_path)
    if path.is_dir():
        return import_path(path)
    if path.exists() or path.suffix.lower() == ".csv":
        return read_manifest(path)
    raise unknown(str(name_or_path))


def steps_by_hand(dataset: Dataset) -> list[str]:
    """What to do where a dataset cannot be downloaded, as numbered lines."""
    folder = data_folder() / dataset.folder
    return [f"{number}. {step.format(folder=folder)}" for number, step in enumerate(dataset.steps, start=1)]


def _by_hand(dataset: Dataset) -> str:
    return "\n".join(f"  {step}" for step in steps_by_hand(dataset))


def _download(dataset: Dataset, progress: FileProgress | None) -> Path:
    if not dataset.remote:
        raise GroundglassError(
            f"{dataset.name} is not here and has to be fetched by hand:\n{_by_hand(dataset)}"
        )
    folder = data_folder() / dataset.folder
    try:
        for remote in dataset.remote:
            _download_one(dataset, remote, folder, progress)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nIf this lasts, {dataset.name} can be fetched by hand:\n{_by_hand(dataset)}"
        ) from error
    return folder


def _download_one(dataset: Dataset, remote: Remote, folder: Path, progress: FileProgress | None) -> None:
    path, result = folder / remote.path, folder / remote.result
    if result.exists():
        return
    if not path.exists():
        report = partial(progress, path.name) if progress else None
        fetch(dataset.download_from + quote(remote.path), path, progress=report)
    if remote.unpack:
        try:
            unpack(path, result)
        except DownloadError:
            path.unlink()
            raise
        path.unlink()
