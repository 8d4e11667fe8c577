"""Checking that a dataset's files are the published ones."""

from importlib.resources import files
from pathlib import Path

from groundglass.data.layouts import pictures, read_slices
from groundglass.data.registry import Dataset
from groundglass.errors import GroundglassError
from groundglass.files import sha256

NAMED = 5
"""How many files a message names; the others are counted."""


def verify(dataset: Dataset, folder: Path) -> None:
    """Check the files in ``folder`` against what is known of the dataset.

    Raises
    ------
    GroundglassError
        If a file is missing, changed or not part of the dataset; the message names the first five.
    """
    if dataset.hashes:
        problems = _hash_problems(folder, hash_list(dataset))
    elif dataset.numbered:
        problems = _number_problems(dataset, folder)
    elif dataset.layout == "covid19-ct-seg":
        problems = _mask_problems(folder)
    else:
        problems = []
    if problems:
        raise GroundglassError(
            f"{folder}: {dataset.name} is not as published; files concerned: {len(problems)}\n"
            f"{listed(problems)}\n"
            f"remove or replace them, then run  groundglass data get {dataset.name}  again "
            "(folders that are gone are fetched anew where the dataset can be downloaded)"
        )


def listed(lines: list[str]) -> str:
    """The first five lines, indented, and how many more there are."""
    more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return "\n".join(f"  {line}" for line in lines[:NAMED] + more)


def hash_list(dataset: Dataset) -> dict[str, str]:
    """SHA-256 of each file, by its posix path within the dataset's folder."""
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


def _mask_problems(folder: Path) -> list[str]:
    wanted = [f"{sub}/{file}" for file in read_slices(folder)["file"] for sub in ("ct", "lungs", "covid")]
    return [f"missing: {name}" for name in wanted if not (folder / name).is_file()]
