"""From paths to Scans: which files to read, and reading one of them."""

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from groundglass.errors import GroundglassError
from groundglass.scan.image import SUFFIXES, read_image
from groundglass.scan.scan import Scan


def read_scan(path: Path | str) -> Scan:
    """Read one file as a Scan.

    Raises
    ------
    ScanError
        If the file cannot be read as a slice; the message names the file and the remedy.
    """
    return read_image(Path(path))


def find_scans(paths: Iterable[Path | str]) -> list[Path]:
    """List the files that ``paths`` name: files, folders (searched through, by file ending) and patterns.

    Parameters
    ----------
    paths
        A file is taken as it is, whatever its ending, so that a wrong one is reported and not passed over.

    Returns
    -------
    Each file once, in the order named; within a folder or a pattern, numbers sort as numbers.

    Raises
    ------
    GroundglassError
        If a path does not exist, or a folder or pattern yields no picture.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        found.update(dict.fromkeys(_expand(path)))
    return list(found)


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()]
        if not files:
            endings = ", ".join(sorted(SUFFIXES))
            raise GroundglassError(f"{path}: the folder holds no picture ({endings})")
        return sorted(files, key=natural_key)
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        files = [Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file()]  # noqa: PTH207
        if files:
            return sorted(files, key=natural_key)
        raise GroundglassError(f"{path}: no file matches this pattern")
    raise GroundglassError(f"{path}: there is no such file or folder")


def natural_key(path: Path | str) -> list[tuple[int, int | str]]:
    """Sort key by which ``slice 9`` comes before ``slice 10``."""
    return [
        (0, int(part)) if part.isdigit() else (1, part.lower())
        for part in re.split(r"([0-9]+)", str(path))
        if part
    ]
