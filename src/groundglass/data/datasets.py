"""Download and check datasets, and write their manifests."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pandas as pd

from groundglass.data.dataset import Dataset, Remote
from groundglass.data.download import DownloadError, fetch, unpack
from groundglass.data.folders import data_folder, locate, steps_by_hand
from groundglass.data.layouts import picture_of, pictures, read_slices, rows_of
from groundglass.data.manifest import import_path, listed, read_manifest, summarise, write_manifest
from groundglass.data.registry import DATASETS, find, unknown
from groundglass.errors import GroundglassError
from groundglass.files import sha256
from groundglass.labels import need_positive

log = logging.getLogger(__name__)

FileProgress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes received so far, and the total, None if unknown."""


def get(name: str, progress: FileProgress | None = None) -> Path:
    """Find or download a dataset, check its files, and write its manifest.

    Returns
    -------
    The path of ``manifest.csv`` in the dataset's folder below :func:`data_folder`, even if the files are in the
    mirror.

    Raises
    ------
    GroundglassError
        If the dataset is not here and cannot be downloaded (the message says how to get it by hand), or its
        files differ from the published ones.
    """
    dataset = find(name)
    folder = locate(name) or _download(dataset, progress)
    log.info("%s: checking the files in %s", name, folder)
    verify(dataset, folder)
    path = data_folder() / name / "manifest.csv"
    write_manifest(rows_of(dataset, folder), path)
    return path


def load_dataset(name_or_path: str | Path) -> pd.DataFrame:
    """Return the manifest of a known dataset, of a CSV, or of a folder with one subfolder per class.

    A known dataset is found or downloaded, and checked, as :func:`get` does.

    Returns
    -------
    See :func:`groundglass.data.manifest.read_manifest`.

    Raises
    ------
    GroundglassError
        If there is no such dataset, file or folder, or its manifest is invalid.
    """
    if str(name_or_path) in DATASETS:
        return read_manifest(get(str(name_or_path)))
    path = Path(name_or_path)
    if path.is_dir():
        return import_path(path)
    if path.exists() or path.suffix.lower() == ".csv":
        return read_manifest(path)
    raise unknown(str(name_or_path))


@dataclass(frozen=True)
class Manifest:
    """A table of labelled scans, to evaluate on.

    Attributes
    ----------
    rows
        Columns ``path, label, patient, split, source``, all text, blank if unknown; see groundglass.data.manifest.
    name
        The dataset's name, or the CSV or folder.
    """

    rows: pd.DataFrame
    name: str = "manifest"

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """A known dataset, a CSV, or a folder with one subfolder per class; errors as :func:`load_labelled`."""
        return cls(load_labelled(name_or_path), str(name_or_path))

    def write(self, path: str | Path) -> None:
        """Write the CSV; raises GroundglassError if that fails."""
        write_manifest(self.rows, path)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        labels = ", ".join(f"{count} {label}" for label, count in self.rows["label"].value_counts().items())
        return f"Manifest({self.name!r}, {len(self)} scans: {labels})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{summarise(self.rows).to_html(index=False)}"


def load_labelled(name_or_path: str | Path) -> pd.DataFrame:
    """Like :func:`load_dataset`, for scans whose labels are needed.

    Raises
    ------
    GroundglassError
        Also if no label means COVID-19, unless the dataset is a known one or has masks.
    """
    manifest = load_dataset(name_or_path)
    if str(name_or_path) not in DATASETS and not {"lungs", "lesions", "lesion_types"} & set(manifest):
        need_positive(manifest["label"], str(name_or_path))
    return manifest


def _download(dataset: Dataset, progress: FileProgress | None) -> Path:
    by_hand = "\n".join(f"  {step}" for step in steps_by_hand(dataset))
    if not dataset.remote:
        raise GroundglassError(
            f"{dataset.name} is not on this machine and has to be downloaded by hand:\n{by_hand}"
        )
    folder = data_folder() / dataset.folder
    try:
        for remote in dataset.remote:
            _download_one(dataset, remote, folder, progress)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nIf this keeps failing, download {dataset.name} by hand:\n{by_hand}"
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


def verify(dataset: Dataset, folder: Path) -> None:
    """Check that the files in ``folder`` are the published ones.

    Raises
    ------
    GroundglassError
        If a file is missing, changed or not part of the dataset; the message names the first five.
    """
    if dataset.hashes:
        problems = _hash_problems(folder, hash_list(dataset))
    elif dataset.numbered:
        problems = _number_problems(dataset, folder)
    elif dataset.masks:
        problems = _mask_problems(dataset, folder)
    else:
        problems = []
    if problems:
        raise GroundglassError(
            f"{folder}: {dataset.name} differs from the published dataset; files affected: {len(problems)}\n"
            f"{listed(problems)}\n"
            f"remove or replace these files, then run  groundglass data get {dataset.name}  again "
            "(if the dataset can be downloaded, this fetches missing folders)"
        )


def hash_list(dataset: Dataset) -> dict[str, str]:
    """SHA-256 of each file, by its POSIX path within the dataset's folder."""
    text = (files("groundglass.data") / "hashes" / dataset.hashes).read_text(encoding="utf-8")
    return {path: digest for digest, path in (line.split("  ", 1) for line in text.splitlines())}


def _hash_problems(folder: Path, hashes: dict[str, str]) -> list[str]:
    problems = []
    for name, digest in hashes.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"missing: {name}")
        elif sha256(path) != digest:
            problems.append(f"changed: {name}")
    held = sorted({Path(name).parent for name in hashes})
    found = (file.relative_to(folder).as_posix() for sub in held for file in pictures(folder / sub))
    return problems + [f"not part of it: {name}" for name in found if name not in hashes]


def _number_problems(dataset: Dataset, folder: Path) -> list[str]:
    problems = []
    for group in dataset.numbered:
        names = [file.stem for file in pictures(folder / group.folder)]
        found = set(names)
        problems += [f"missing: {group.folder}/{stem}.*" for stem in group.stems() if stem not in found]
        problems += [f"twice: {group.folder}/{stem}.*" for stem in sorted(found) if names.count(stem) > 1]
    return problems


def _mask_problems(dataset: Dataset, folder: Path) -> list[str]:
    stems = [Path(file).stem for file in read_slices(folder)["file"]]
    found = [picture_of(folder / sub) for sub in ("ct", *dataset.masks.values())]
    wanted = [path_of(stem) for path_of in found for stem in stems]
    return [f"missing: {path.relative_to(folder).as_posix()}" for path in wanted if not path.is_file()]
