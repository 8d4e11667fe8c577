"""Names for what is written about files."""

from collections.abc import Iterable
from pathlib import Path

from groundglass.errors import GroundglassError


def unique_names(files: Iterable[Path]) -> dict[Path, str]:
    """A name for each file: its stem, or ``slice-2`` for the second ``slice``, as in another folder.

    Names that differ in capitals alone count as the same, as some file systems take them.
    """
    taken: set[str] = set()
    names: dict[Path, str] = {}
    for path in dict.fromkeys(files):
        name, number = path.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def refuse_overwriting(files: Iterable[Path], written: Iterable[Path]) -> None:
    """Raise GroundglassError where a file that is to be read is one of those that are to be written."""
    outputs = {path.resolve() for path in written}
    for path in files:
        if path.resolve() in outputs:
            raise GroundglassError(f"{path}: would be overwritten; choose another folder with -o")
