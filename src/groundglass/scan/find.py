"""Sniff: what kind of file this is, by its first bytes, without loading a library that reads it."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Literal

from groundglass.errors import GroundglassError, ScanError
from groundglass.scan.image import SUFFIXES, read_image
from groundglass.scan.members import Found, found, head, hidden, zipped
from groundglass.scan.scan import Scan
from groundglass.scan.volume import RESULTS, Listing, Member, Series

Kind = Literal["dicom", "nifti", "picture", "zip", "other"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".dic"})
_NIFTI_ENDINGS = (".nii", ".nii.gz")
_GROUPS = {b"\x02\x00", b"\x08\x00"}
_FIRST_VRS = {b"UL", b"UI", b"CS", b"OB", b"SH", b"LO", b"DA", b"TM"}


def by_name(name: str) -> Kind:
    """What a file's name alone says of it; DICOM files have any name."""
    lower = name.lower()
    if lower.endswith(_NIFTI_ENDINGS):
        return "nifti"
    return "picture" if PurePath(lower).suffix in SUFFIXES else "other"


def is_dicom(head: bytes) -> bool:
    """Whether a file's first bytes are those of DICOM: its mark at 128 (PS3.10 7.1), or a dataset without preamble.

    Such a dataset begins with an element of group 2 or 8, of low number, with a known VR or a short value.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16 or head[:2] not in _GROUPS or head[3] != 0:
        return False
    return head[4:6] in _FIRST_VRS or int.from_bytes(head[4:8], "little") <= 64


def is_zip(head: bytes) -> bool:
    """Whether a file's first bytes are those of a ZIP with something in it, or an empty one."""
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def natural_key(path: Path | str) -> list[tuple[int, int | str]]:
    """Sort key by which ``slice 9`` comes before ``slice 10``."""
    return [
        (0, int(part)) if part.isdigit() else (1, part.lower())
        for part in re.split(r"([0-9]+)", str(path))
        if part
    ]


Progress = Callable[[int, int], None]


def find_series(paths: Iterable[Path | str], progress: Progress | None = None) -> Listing:
    """List the series and pictures that ``paths`` name, by their headers alone.

    Parameters
    ----------
    paths
        Files; folders, which are searched through whatever the files are called (hidden ones and earlier results
        are passed over); patterns; ZIPs; DICOMDIRs, whose files are read. A file that is named and is no scan is
        listed among the pictures, so that reading it tells what is wrong.
    progress
        Called with how many of how many files have been looked at.

    Returns
    -------
    What was found. A series that is no chest CT volume says why; a file that cannot be read is among the failures.

    Raises
    ------
    GroundglassError
        If a path does not exist, or nothing at all is found.
    """
    named = [Path(path) for path in paths]
    search = _Search()
    for path in named:
        search.path(path)
    series = _read(search, progress)
    pictures = tuple(search.pictures)
    if not (series or pictures or search.failures):
        where = ", ".join(map(str, named)) or "no path was given"
        raise GroundglassError(f"{where}: there is no DICOM, NIfTI or picture")
    return Listing(tuple(series), pictures, tuple(search.failures), search.ignored, tuple(search.results))


@dataclass
class _Search:
    """The files met so far, by kind, each once."""

    dicom: dict[Member, Found] = field(default_factory=dict)
    nifti: dict[Member, None] = field(default_factory=dict)
    pictures: dict[Path, None] = field(default_factory=dict)
    failures: list[ScanError] = field(default_factory=list)
    ignored: int = 0
    results: list[Path] = field(default_factory=list)

    def path(self, path: Path) -> None:
        """Take what a user named."""
        if path.is_dir():
            for file in self._files(path):
                self._file(file, named=False)
        elif path.exists():
            self._file(path, named=True)
        elif glob.has_magic(str(path)):
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=natural_key)  # noqa: PTH207
            if not matches:
                raise GroundglassError(f"{path}: no file matches this pattern")
            for match in matches:
                self.path(match)
        else:
            raise GroundglassError(f"{path}: there is no such file or folder")

    def _files(self, folder: Path) -> Iterator[Path]:
        """Every file under a folder that is not hidden and no result, numbers sorted as numbers."""
        files = []
        for parent, folders, names in os.walk(folder):
            if RESULTS in names and Path(parent) != folder:
                self.results.append(Path(parent))
                folders.clear()
                continue
            folders[:] = [name for name in folders if not hidden((name,))]
            files += [Path(parent, name) for name in names if not hidden((name,))]
        yield from sorted((file for file in files if file.is_file()), key=natural_key)

    def _file(self, path: Path, named: bool) -> None:
        try:
            self._sort(path, named)
        except ScanError as error:
            self.failures.append(error)
        except OSError as error:
            self.failures.append(
                ScanError(path, "may not be read", error.strerror or "change its permissions")
            )

    def _sort(self, path: Path, named: bool) -> None:
        kind = by_name(path.name)
        if kind == "picture":
            self.pictures[path] = None
            return
        if kind == "nifti":
            self.nifti[Member(path)] = None
            return
        member = Member(path)
        start = head(member)
        if is_dicom(start):
            if path.name.upper() == "DICOMDIR":
                self._directory(path, named)
            else:
                self.dicom[member] = found(path)
        elif is_zip(start) and (named or path.suffix.lower() == ".zip"):
            self._zip(path, named)
        elif path.suffix.lower() in DICOM_SUFFIXES:
            self.failures.append(_no_dicom(member, start))
        elif named:
            self.pictures[path] = None
        else:
            self.ignored += 1

    def _directory(self, path: Path, named: bool) -> None:
        """Take the files that a DICOMDIR names; one that a search met lies with files that are found anyway."""
        if not named:
            return
        from groundglass.scan.dicom.headers import referenced_files

        files, missing = referenced_files(path)
        for file in files:
            self._file(file, named=False)
        if missing:
            self.failures.append(
                ScanError(path, f"names {missing} files that are not there", "copy the whole disc")
            )

    def _zip(self, path: Path, named: bool) -> None:
        before, packed = len(self.dicom) + len(self.failures), 0
        for file in zipped(path):
            if by_name(file.member.inside) != "other":
                packed += 1
                continue
            try:
                self._packed(file)
            except ScanError as error:
                self.failures.append(error)
        if packed:
            problem = f"holds {packed} pictures or NIfTI files, which are not read from a ZIP"
            self.failures.append(ScanError(path, problem, "unpack it and name the folder instead"))
        elif named and before == len(self.dicom) + len(self.failures):
            self.failures.append(ScanError(path, "the ZIP holds no DICOM file"))

    def _packed(self, file: Found) -> None:
        start = head(file.member)
        if is_dicom(start):
            self.dicom[file.member] = file
        elif Path(file.member.inside).suffix.lower() in DICOM_SUFFIXES:
            self.failures.append(_no_dicom(file.member, start))
        else:
            self.ignored += 1


def _no_dicom(member: Member, start: bytes) -> ScanError:
    if not start:
        return ScanError(str(member), "the file is empty", "get it anew")
    return ScanError(str(member), "is no DICOM file, though its name says so", "it is damaged, get it anew")


def _read(search: _Search, progress: Progress | None) -> list[Series]:
    total, done = len(search.dicom) + len(search.nifti), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    series: list[Series] = []
    if search.dicom:
        from groundglass.scan.dicom import dicom_series

        read, failures = dicom_series(list(search.dicom.values()), step)
        series += read
        search.failures += failures
    for volume in search.nifti:
        from groundglass.scan.nifti import nifti_series

        try:
            series.append(nifti_series(volume))
        except ScanError as error:
            search.failures.append(error)
        step()
    return _side_by_side(series)


def _side_by_side(series: list[Series]) -> list[Series]:
    """Those of one examination together, in the order in which the first of each was met."""
    met: dict[tuple[str, str], int] = {}
    for one in series:
        met.setdefault(one.examination, len(met))
    return sorted(series, key=lambda one: (met[one.examination], natural_key(one.number)))


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
