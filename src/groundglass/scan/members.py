"""Members: read the bytes of files on disk and in ZIPs, one at a time and within limits."""

import hashlib
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from groundglass.errors import ScanError
from groundglass.scan.volume import Member

MAX_BYTES = 1 << 30
"""Largest unpacked size of a file in a ZIP: four times that of an enhanced CT with 500 slices."""
MAX_RATIO = 200
"""Highest compression of a large file in a ZIP; CT shrinks to a half or a third, a ZIP bomb to a thousandth."""
RATIO_FROM = 16 << 20
MAX_MEMBERS = 200_000
HEAD = 1024
"""First bytes that show what a file is."""

_UNPACK_FIRST = "unpack it and name the folder instead"
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)
"""Exceptions raised while reading a damaged ZIP."""
NOT_A_ZIP = ("is not a ZIP file, or is damaged", "get a new copy, or unpack it first")


@dataclass(frozen=True)
class Found:
    """A file that a search found.

    Attributes
    ----------
    member
        Where it is.
    size
        Bytes, unpacked.
    changed
        Time of the last change in ns; for a file in a ZIP, that of the ZIP.
    """

    member: Member
    size: int
    changed: int


def found(member: Member) -> Found:
    """A file with its size and time of change; for a file in a ZIP, those of the ZIP."""
    if member.content is not None:
        return Found(member, len(member.content), changed=0)
    state = member.path.stat()
    return Found(member, state.st_size, state.st_mtime_ns)


def hidden(parts: tuple[str, ...]) -> bool:
    """Whether a file is skipped because of its name or its folder's: hidden files, and those that macOS adds
    to ZIPs."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def zipped(path: Path) -> list[Found]:
    """The files in a ZIP, hidden ones left out.

    Raises
    ------
    ScanError
        If it is not a ZIP file, or is damaged, encrypted or unpacks to an unreasonable size.
    """
    try:
        entries = files_of(path, _archive(path, *_identity(path)))
        changed = path.stat().st_mtime_ns
    except PermissionError as error:
        raise ScanError(path, "is not readable", "change its permissions") from error
    except (*BROKEN, NotImplementedError) as error:
        raise ScanError(path, *NOT_A_ZIP) from error
    return [Found(Member(path, entry.filename), entry.file_size, changed) for entry in entries]


def files_of(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in an open ZIP, hidden ones left out; raises ScanError as :func:`zipped` does."""
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise ScanError(
            path, f"holds {len(entries)} files", f"at most {MAX_MEMBERS} are read: {_UNPACK_FIRST}"
        )
    if not all(entry.filename for entry in entries):  # before Python 3.12, is_dir fails on such an entry
        raise ScanError(path, "holds a file without a name", "the ZIP is damaged: get a new copy")
    files = [
        entry for entry in entries if not entry.is_dir() and not hidden(PurePosixPath(entry.filename).parts)
    ]
    for entry in files:
        _check(path, entry)
    return files


def _check(path: Path, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & 1:
        raise ScanError(path, "is encrypted", "unpack it with its password and name the folder instead")
    ratio = entry.file_size / max(1, entry.compress_size)
    if entry.file_size > MAX_BYTES or (entry.file_size > RATIO_FROM and ratio > MAX_RATIO):
        size = f"{entry.file_size / 2**20:.0f} MiB from {entry.compress_size / 2**20:.1f}"
        raise ScanError(path, f"holds a file that unpacks to {size} MiB", _UNPACK_FIRST)


def head(member: Member) -> bytes:
    """The first bytes of a file, :data:`HEAD` at most; raises ScanError if it cannot be read."""
    with _readable(member), _stream(member) as stream:
        return stream.read(HEAD)


def open_member(member: Member) -> BinaryIO:
    """Open a file for reading (from memory if it is in a ZIP); raises ScanError if it cannot be read."""
    with _readable(member):
        stream = _stream(member)
        if not member.inside:
            return stream
        with stream:
            return io.BytesIO(stream.read())


def _stream(member: Member) -> BinaryIO:
    if member.content is not None:
        return io.BytesIO(member.content)
    if not member.inside:
        return member.path.open("rb")
    return cast("BinaryIO", _archive(member.path, *_identity(member.path)).open(member.inside))


@contextmanager
def _readable(member: Member) -> Iterator[None]:
    """Raise ScanError if the file, or the ZIP that holds it, cannot be read."""
    try:
        yield
    except (*BROKEN, NotImplementedError, RuntimeError, KeyError) as error:
        raise _unreadable(member, error) from error


def _unreadable(member: Member, error: Exception) -> ScanError:
    if isinstance(error, FileNotFoundError):
        return ScanError(str(member), "this file no longer exists", "restore it, or start again without it")
    if isinstance(error, PermissionError):
        return ScanError(str(member), "is not readable", "change its permissions")
    if isinstance(error, NotImplementedError):
        return ScanError(str(member), "is compressed by a method that is not supported", _UNPACK_FIRST)
    remedy = "get a new copy" if not member.inside else "the ZIP is damaged: get a new copy"
    return ScanError(str(member), "cannot be read", remedy)


def _identity(path: Path) -> tuple[int, int, int]:
    """The key of an open ZIP: a forked process must not share a file's position with its parent."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns, os.getpid()


@lru_cache(maxsize=8)
def _archive(path: Path, size: int, changed: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def content_hash(sources: Iterable[Found], parts: str = "") -> str:
    """SHA-256 of each file's name, size and time of change, and of the ``parts`` of the files that are used."""
    ordered = sorted(sources, key=lambda one: (str(one.member.path), one.member.inside))
    lines = "".join(f"{source.member}\0{source.size}\0{source.changed}\n" for source in ordered)
    return hashlib.sha256((lines + parts).encode("utf-8", "surrogateescape")).hexdigest()
