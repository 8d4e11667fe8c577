"""From paths to Scans: which files to read, and reading one of them."""

import glob
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from groundglass.errors import GroundglassError, ScanError
from groundglass.scan.image import SUFFIXES, read_image
from groundglass.scan.natural import natural_key
from groundglass.scan.scan import Scan
from groundglass.scan.sniff import by_name


def read_scan(path: Path | str) -> Scan:
    """Read one slice: a picture, or a DICOM or NIfTI file that holds a single slice, in Hounsfield units.

    Raises
    ------
    ScanError
        If the file cannot be read as a slice; the message names the file and the remedy.
    """
    path = Path(path)
    if path.suffix.lower() in SUFFIXES or not _holds_hu(path):
        return read_image(path)
    return _read_only_slice(path)


def _holds_hu(path: Path) -> bool:
    """Whether a file is DICOM by its mark at byte 128, or NIfTI by its name."""
    if by_name(path.name) == "nifti":
        return path.is_file()
    try:
        with path.open("rb") as handle:
            return handle.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read_only_slice(path: Path) -> Scan:
    from groundglass.scan.find import find_series

    found = find_series([path])
    if found.failures:
        raise found.failures[0]
    series = found.series[0]
    if series.problem:
        raise ScanError(path, series.problem, series.remedy)
    if len(found.series) > 1 or series.slices != 1:
        count = sum(one.slices for one in found.series)
        raise ScanError(path, f"holds {count} slices", f"read it as a volume: groundglass predict {path}")
    volume = series.load()
    return replace(volume.slice(0), warnings=volume.warnings)


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
