"""Find scans: the one search that every command uses.

:func:`find_series` lists series and pictures by their headers (``predict``, ``segment``, ``scan``).
:func:`find_scans` lists files that groundglass.scan.read.read_scan reads as one slice each (``sheet``).
:func:`find_dicom` lists DICOM files of any kind (``pacs send``).
"""

import csv
import glob
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from groundglass.errors import GroundglassError, ScanError, count_of
from groundglass.scan.image import SUFFIXES
from groundglass.scan.members import Found, found, head, hidden, zipped
from groundglass.scan.volume import RESULTS, VOLUME_ENDINGS, Listing, Member, Series

if TYPE_CHECKING:
    from groundglass.scan.dicom.series import HeaderReader

log = logging.getLogger(__name__)

Kind = Literal["dicom", "dicomdir", "not dicom", "nifti", "picture", "zip", "other"]

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".dic"})
_ARCHIVE, _VOLUME = "unpack it and name the folder instead", "convert it to NIfTI"
_UNREAD = {
    **dict.fromkeys((".tar", ".tar.gz", ".dcm.gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"), _ARCHIVE),
    **dict.fromkeys((".mgh", ".mgz", ".mnc", ".gipl", ".npy", ".npz", ".mat", ".h5", ".vti"), _VOLUME),
    **dict.fromkeys((".heic", ".avif", ".jxl", ".psd", ".pgm", ".ppm", ".svg"), "save it as PNG"),
}
"""Extensions of files that may contain scans but are not read, each with a remedy."""
_GROUPS = {b"\x02\x00", b"\x08\x00"}
_DIRECTORY = b"1.2.840.10008.1.3.10\x02\0"
"""The class UID of a DICOMDIR, which some vendors name differently, and the element after it."""
_FIRST_VRS = {b"UL", b"UI", b"CS", b"OB", b"SH", b"LO", b"DA", b"TM"}


def by_name(name: str) -> Kind:
    """The kind of a file according to its name alone; DICOM files may have any name."""
    lower = name.lower()
    if lower.endswith(VOLUME_ENDINGS):
        return "nifti"
    return "picture" if PurePath(lower).suffix in SUFFIXES else "other"


def is_dicom(head: bytes) -> bool:
    """Whether a file's first bytes are DICOM: the prefix at byte 128 (PS3.10 7.1), or a dataset without preamble.

    Such a dataset begins with an element of group 2 or 8, of low number, with a known VR or a short value.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16:
        return False
    if head[:1] + head[2:3] == b"\0\0" and head[1:2] + b"\0" in _GROUPS:  # big endian, which has VRs
        return head[4:6] in _FIRST_VRS
    if head[:2] not in _GROUPS or head[3] != 0:
        return False
    return head[4:6] in _FIRST_VRS or int.from_bytes(head[4:8], "little") <= 64


def kind_of(member: Member) -> Kind:
    """The kind of a file, by its name or, if the name does not show it, by its first bytes.

    Returns
    -------
    ``not dicom`` for a file that is DICOM by its name but not by its content.

    Raises
    ------
    ScanError
        If the first bytes are needed and cannot be read.
    """
    name = member.inside or member.path.name
    kind = by_name(name)
    if kind != "other":
        return kind
    first = head(member)
    if is_dicom(first):
        return "dicomdir" if _DIRECTORY in first or name.upper() == "DICOMDIR" else "dicom"
    if first[:4] in (b"PK\x03\x04", b"PK\x05\x06"):  # a ZIP with files, or an empty one
        return "zip"
    return "not dicom" if PurePath(name).suffix.lower() in DICOM_SUFFIXES else "other"


def natural_key(path: Path | str) -> list[tuple[int, int | str]]:
    """Sort key that puts ``slice 9`` before ``slice 10``."""
    return [
        (0, int(part)) if part.isdigit() else (1, part.lower())
        for part in re.split(r"([0-9]+)", str(path))
        if part
    ]


Progress = Callable[[int, int], None]
_NOTHING = "there is no DICOM, NIfTI or picture"


@dataclass
class _Passed:
    """What a search of folders skips: earlier results, unless wanted, and unreadable folders."""

    results: list[Path] = field(default_factory=list)
    failures: list[ScanError] = field(default_factory=list)
    results_wanted: bool = False


def _expand(paths: Iterable[Path], passed: _Passed) -> Iterator[tuple[Path, bool]]:
    """The files that paths, folders and patterns name, and whether the user named each one directly."""
    seen: set[str] = set()
    for path in paths:
        if path.is_dir():
            for file in _files(path, passed, seen):
                yield file, False
        elif path.suffix.lower() == ".csv" and path.is_file():
            yield from _expand(_listed(path, passed), passed)
        elif path.exists():
            yield path, True
        elif glob.has_magic(str(path)):
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=natural_key)  # noqa: PTH207
            if not matches:
                raise GroundglassError(f"{path}: no file matches this pattern")
            yield from _expand(matches, passed)
        else:
            raise GroundglassError(f"{path}: there is no such file or folder")


def manifest_column(manifest: Path, column: str, content: str) -> list[str]:
    """A column of a manifest (CSV), row by row; ``content`` names what a row should contain.

    Raises
    ------
    GroundglassError
        If the file cannot be read, or has no such column or nothing in it.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as handle:
            rows = csv.DictReader(handle)
            known = column in (rows.fieldnames or ())
            values = [row[column] or "" for row in rows] if known else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GroundglassError(f"{manifest}: cannot be read as a manifest ({error})") from error
    if not any(map(str.strip, values)):
        missing = f"nothing in its column {column}" if known else f"no column {column}"
        raise GroundglassError(f"{manifest}: has {missing}; write one {content} per row there")
    return values


def _listed(manifest: Path, passed: _Passed) -> Iterator[Path]:
    """The files and folders in a manifest's column ``path``; missing ones become failures."""
    names = manifest_column(manifest, "path", "scan or folder")
    for path in (manifest.parent / name for name in dict.fromkeys(names) if name):
        if path.suffix.lower() == ".csv":
            passed.failures.append(
                ScanError(path, f"is a table within the manifest {manifest.name}", "name it")
            )
        elif path.exists():
            yield path
        else:
            passed.failures.append(ScanError(path, f"does not exist, but {manifest.name} lists it"))


def _files(folder: Path, passed: _Passed, seen: set[str]) -> list[Path]:
    """Every file under a folder that is neither hidden nor a result; numbers sort as numbers.

    Links to folders are followed. Each folder is searched once, so links to parent folders are harmless.
    """

    def unreadable(error: OSError) -> None:
        problem = f"this folder is not readable ({error.strerror or 'unknown reason'}), so it was skipped"
        passed.failures.append(ScanError(str(error.filename), problem, "change its permissions"))

    files = []
    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        if RESULTS in names and Path(parent) != folder and not passed.results_wanted:
            passed.results.append(Path(parent))
            folders.clear()
            continue
        folders[:] = [name for name in sorted(folders, key=natural_key) if not hidden((name,))]
        files += [Path(parent, name) for name in names if not hidden((name,))]
    for file in files:
        if file.is_symlink() and not file.exists():
            problem = "is a link to a file that does not exist"
            passed.failures.append(ScanError(file, problem, "restore the file, or remove the link"))
    return sorted((file for file in files if file.is_file()), key=natural_key)


def find_series(
    paths: Iterable[Path | str], progress: Progress | None = None, read: "HeaderReader | None" = None
) -> Listing:
    """List the series and pictures that ``paths`` name, by their headers alone.

    Parameters
    ----------
    paths
        Files; folders, which are searched regardless of how the files are named (hidden ones and earlier
        results are skipped); patterns; ZIPs; DICOMDIRs, whose files are read; manifests (CSV), of which the files
        and folders in the column ``path`` are read. A named file that is not a scan is listed among the pictures,
        so that reading it reports what is wrong.
    progress
        Called with the number of files searched so far and in total.
    read
        Reads the headers of DICOM files; by default this process, one after the other.

    Returns
    -------
    The listing. A series that is not a chest CT volume states why; unreadable files are listed as failures.

    Raises
    ------
    GroundglassError
        If a path does not exist, or if nothing is found.
    """
    named = [Path(path) for path in paths]
    search = _Search()
    for path, by_user in _expand(named, search):
        search.file(path, by_user)
    series = _read(search, progress, read)
    pictures = tuple(search.pictures)
    log.info("%d series, %d pictures, %d unreadable files", len(series), len(pictures), len(search.failures))
    if not (series or pictures or search.failures):
        where = ", ".join(map(str, named)) or "no path was given"
        raise GroundglassError(f"{where}: {_NOTHING}")
    return Listing(tuple(series), pictures, tuple(search.failures), search.ignored, tuple(search.results))


@dataclass
class _Search(_Passed):
    """The files found so far, by kind, each once."""

    dicom: dict[Member, Found] = field(default_factory=dict)
    nifti: dict[Member, None] = field(default_factory=dict)
    pictures: dict[Path, None] = field(default_factory=dict)
    ignored: int = 0

    def file(self, path: Path, named: bool) -> None:
        """Add one file, or record why it cannot be read."""
        try:
            self._sort(path, named)
        except ScanError as error:
            self.failures.append(error)
        except OSError as error:
            self.failures.append(
                ScanError(path, "is not readable", error.strerror or "change its permissions")
            )

    def _sort(self, path: Path, named: bool) -> None:
        member = Member(path)
        kind = kind_of(member)
        if kind == "nifti":
            self.nifti[member] = None
        elif kind == "dicomdir":
            self._directory(path, named)
        elif kind == "dicom":
            self.dicom[member] = found(member)
        elif kind == "zip" and (named or path.suffix.lower() == ".zip"):
            self._zip(path, named)
        elif path.suffix.lower() in DICOM_SUFFIXES:
            self.failures.append(_not_dicom(member))
        elif kind == "picture":
            self.pictures[path] = None
        elif path.suffix.lower() == ".img" and path.with_suffix(".hdr").is_file():
            self.nifti[Member(path.with_suffix(".hdr"))] = None
        elif ending := next((one for one in _UNREAD if path.name.lower().endswith(one)), ""):
            problem = f"files that end in {ending} are not read"
            self.failures.append(ScanError(path, problem, _UNREAD[ending]))
        elif named:
            self.pictures[path] = None
        else:
            self.ignored += 1

    def _directory(self, path: Path, named: bool) -> None:
        """Add the files that a DICOMDIR lists. Only needed if the user named it; in a search its files are
        found anyway."""
        if not named:
            return
        from groundglass.scan.dicom.headers import referenced_files

        files, missing = referenced_files(path)
        for file in files:
            self.file(file, named=False)
        if missing:
            self.failures.append(
                ScanError(
                    path, f"lists {count_of(missing, 'file')} not found on the disc", "copy the whole disc"
                )
            )

    def _zip(self, path: Path, named: bool) -> None:
        before = self._scans
        pictures = 0
        for file in zipped(path):
            try:
                pictures += self._packed(file) == "picture"
            except ScanError as error:
                self.failures.append(error)
        if pictures:
            problem = f"holds {pictures} picture{'s' if pictures > 1 else ''}, which are not read from a ZIP"
            self.failures.append(ScanError(path, problem, "unpack it and name the folder instead"))
        elif named and before == self._scans:
            self.failures.append(ScanError(path, "the ZIP holds no DICOM or NIfTI file"))

    @property
    def _scans(self) -> int:
        return len(self.dicom) + len(self.nifti) + len(self.failures)

    def _packed(self, file: Found) -> Kind:
        kind = kind_of(file.member)
        if kind == "dicom":
            self.dicom[file.member] = file
        elif kind == "nifti":
            self.nifti[file.member] = None
        elif kind == "not dicom":
            self.failures.append(_not_dicom(file.member))
        elif kind == "zip" and file.member.inside.lower().endswith(".zip"):
            self.failures.append(ScanError(str(file.member), "is a ZIP within a ZIP", _ARCHIVE))
        elif kind not in ("picture", "dicomdir"):
            self.ignored += 1
        return kind


def _not_dicom(member: Member) -> ScanError:
    if not head(member):
        return ScanError(str(member), "the file is empty", "get a new copy")
    problem = "is not a DICOM file, although its name says so"
    return ScanError(str(member), problem, "it is damaged: get a new copy")


def _read(search: _Search, progress: Progress | None, reader: "HeaderReader | None") -> list[Series]:
    total, done = len(search.dicom) + len(search.nifti), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    series: list[Series] = []
    if search.dicom:
        from groundglass.scan.dicom import dicom_series
        from groundglass.scan.dicom.series import read_headers

        read, failures = dicom_series(list(search.dicom.values()), step, reader or read_headers)
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
    """Series grouped by examination, in the order in which the first of each was found."""
    met: dict[tuple[str, str], int] = {}
    for one in series:
        met.setdefault(one.examination, len(met))
    return sorted(series, key=lambda one: (met[one.examination], natural_key(one.number)))


def find_scans(paths: Iterable[Path | str]) -> list[Path]:
    """List the files that ``paths`` name, each to be read as one slice.

    Parameters
    ----------
    paths
        Files, folders and patterns, searched as in :func:`find_series`: a folder's DICOM files are found
        whatever their names. Files that the user names are always listed, so that unsuitable ones are
        reported when they are read.

    Returns
    -------
    Each file once, in the order named; within a folder or a pattern, numbers sort as numbers.

    Raises
    ------
    GroundglassError
        If a path does not exist, or if nothing is found.
    """
    named = [Path(path) for path in paths]
    passed = _Passed()
    files = dict.fromkeys(path for path, by_user in _expand(named, passed) if by_user or _may_be_scan(path))
    files |= dict.fromkeys(failure.path for failure in passed.failures)
    if not files:
        raise GroundglassError(f"{', '.join(map(str, named)) or 'no path was given'}: {_NOTHING}")
    return list(files)


def find_dicom(paths: Iterable[Path | str]) -> tuple[list[Member], list[ScanError], int]:
    """List the DICOM files that ``paths`` name, searched as :func:`find_series` does, earlier results included.

    Returns
    -------
    The files; what cannot be read, or was named and is not DICOM; and the number of other files in the folders.

    Raises
    ------
    GroundglassError
        If a path does not exist.
    """
    search, others = _Search(results_wanted=True), 0
    for path, by_user in _expand(map(Path, paths), search):
        search.file(path, by_user)
        if Member(path) in search.nifti or path in search.pictures:
            others += not by_user
            if by_user:
                search.failures.append(ScanError(path, "is not a DICOM file"))
    return list(search.dicom), search.failures, search.ignored + others


def _may_be_scan(path: Path) -> bool:
    """Whether a file found in a folder is a scan. A damaged one also counts: the damage is reported when it
    is read."""
    try:
        kind = kind_of(Member(path))
    except ScanError:
        return True
    return kind not in ("other", "dicomdir") and (kind != "zip" or path.suffix.lower() == ".zip")
