"""Uploads: files are written as they arrive, within limits, under names that reveal nothing about the patient.

Every file is written as ``NAME.part``, synchronised with the disk and renamed; ZIPs are unpacked.
"""

import hashlib
import os
import secrets
import shutil
import stat
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from groundglass.errors import GroundglassError, ScanError
from groundglass.scan.find import DICOM_SUFFIXES
from groundglass.scan.image import SUFFIXES
from groundglass.scan.members import BROKEN, NOT_A_ZIP, files_of
from groundglass.scan.volume import VOLUME_ENDINGS

INCOMING, STUDIES, FILES, RESULTS = "incoming", "studies", "files", "results"
NODE, PENDING = "node", "pending"
"""The DICOM node keeps instances in ``node/incoming``, then in ``node/pending``, until they are part of a study."""
ENDINGS = (*VOLUME_ENDINGS, ".img", *sorted(SUFFIXES | DICOM_SUFFIXES))
"""Extensions that a stored file keeps; the rest of its name could identify the patient."""
DETACHED = (".mhd", ".nhdr")
CHUNK = 1 << 20


class RefusedError(GroundglassError):
    """An upload that is refused.

    Parameters
    ----------
    status
        The HTTP status: 413 too large, 422 unusable, 507 not enough space.
    problem, remedy
        What is wrong and what the user can do, without full stops; neither contains a file's name or content.
    """

    def __init__(self, status: int, problem: str, remedy: str = "") -> None:
        self.status, self.problem, self.remedy = status, problem, remedy
        super().__init__("; ".join(filter(None, (problem, remedy))))


@dataclass(frozen=True)
class Limits:
    """The limits of one upload.

    Attributes
    ----------
    files
        Number of files, including those within ZIPs.
    file_bytes, bytes
        Size of one file and of all files together in bytes, after unpacking.
    ratio
        Largest compression ratio of a ZIP as a whole; CT is compressed to a half or a third.
    seconds
        Longest duration of an upload.
    free_bytes
        Space that must remain free on the disk; with less, new uploads are refused.
    """

    files: int = 5000
    file_bytes: int = 1 << 30
    bytes: int = 4 << 30
    ratio: float = 50
    seconds: float = 900
    free_bytes: int = 1 << 30


@dataclass(frozen=True)
class Received:
    """A file of an upload that is on the disk."""

    stored: str
    name: str
    size: int
    sha256: str


@dataclass
class Upload:
    """Files being received; close it, or use it with ``with``, to remove files that were not accepted.

    Parameters
    ----------
    data
        The server's data folder.
    limits
        The upload's limits.
    """

    data: Path
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.files: list[Received] = []
        self.bytes = 0
        self.deadline = time.monotonic() + self.limits.seconds
        self._count = 0
        self._stems: dict[str, int] = {}
        self._names: set[str] = set()
        check_room(self.data, self.limits)
        self.folder = self.data / INCOMING / secrets.token_hex(10)
        self.folder.mkdir(parents=True)

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def file(self, name: str) -> "Receiving":
        """Begin a file sent under this name."""
        return Receiving(self, name)

    def grown(self, size: int, file_size: int) -> None:
        """Count written bytes; raises RefusedError if a limit is exceeded."""
        self.bytes += size
        limits = self.limits
        if self.bytes > limits.bytes:
            raise RefusedError(413, f"the upload has more than {_mb(limits.bytes)}", "send fewer files")
        if file_size > limits.file_bytes:
            raise RefusedError(413, f"a file has more than {_mb(limits.file_bytes)}", "send a smaller one")
        if time.monotonic() > self.deadline:
            raise RefusedError(413, f"the upload took more than {limits.seconds:.0f} seconds", "send less")

    def name_for(self, name: str) -> str:
        """A new stored name: a number and the extension; the two files of an Analyze volume get the same number."""
        path, lower = PurePosixPath(name.replace("\\", "/")), name.lower()
        ending = next((one for one in ENDINGS if lower.endswith(one)), "")
        if ending in DETACHED:
            raise RefusedError(
                422, f"the voxels of a {ending} file are in another file", "send it as .mha, .nrrd or .nii.gz"
            )
        stem = str(path).lower().removesuffix(ending)
        number = self._stems.get(stem)
        if number is None or f"{number:05d}{ending}" in self._names:
            self._count += 1
            number = self._stems[stem] = self._count
        if number > self.limits.files:
            raise RefusedError(413, f"the upload has more than {self.limits.files} files", "send fewer files")
        stored = f"{number:05d}{ending}"
        self._names.add(stored)
        return stored


class Receiving:
    """One file that is being written; :meth:`close` makes it durable."""

    def __init__(self, upload: Upload, name: str) -> None:
        self._upload, self.name, self.size = upload, name, 0
        self._stored = upload.name_for(name)
        self._part = upload.folder / f"{self._stored}.part"
        self._hash = hashlib.sha256()
        self._handle = durable(self._part.open, "wb")

    def write(self, data: bytes) -> None:
        """Add bytes; raises RefusedError if a limit is exceeded or the disk is full."""
        self.size += len(data)
        self._upload.grown(len(data), self.size)
        self._hash.update(data)
        durable(self._handle.write, data)

    def close(self, *, unpack: bool = True) -> None:
        """Finish the file durably; a ZIP is replaced by its files, unless it is inside another ZIP."""
        try:
            durable(self._handle.flush)
            durable(os.fsync, self._handle.fileno())
        finally:
            with suppress(OSError):  # on a full disk, closing also fails
                self._handle.close()
        if not self.size and not self.name:  # a form field that was left empty
            self._part.unlink()
        elif unpack and zip_begins(self._part):
            self._unpack()
        else:
            final = self._part.with_name(self._stored)
            self._part.rename(final)
            file = Received(final.name, self.name, self.size, self._hash.hexdigest())
            self._upload.files.append(file)

    def _unpack(self) -> None:
        """Replace a ZIP by its files.

        Their names are not used as paths, so none can escape from the folder; a ZIP that tries this is
        refused anyway.
        """
        try:
            with zipfile.ZipFile(self._part) as archive:
                self._extract(archive, files_of(self._part, archive))
        except ScanError as error:
            raise RefusedError(422, f"the ZIP {error.problem}", error.remedy) from error
        except RefusedError:
            raise
        except (*BROKEN, NotImplementedError, RuntimeError) as error:
            raise RefusedError(422, f"the ZIP {NOT_A_ZIP[0]}", NOT_A_ZIP[1]) from error
        self._upload.bytes -= self.size
        self._part.unlink()

    def _extract(self, archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]) -> None:
        """Write a ZIP's files, unless its stated sizes already exceed a limit."""
        limits, unpacked = self._upload.limits, sum(entry.file_size for entry in entries)
        if unpacked > limits.ratio * max(self.size, CHUNK):
            raise RefusedError(
                413,
                f"the ZIP unpacks to {_mb(unpacked)} from {_mb(self.size)}",
                "unpack it and send its files",
            )
        if len(entries) > limits.files:
            raise RefusedError(413, f"the ZIP contains more than {limits.files} files", "send fewer files")
        if unpacked > limits.bytes:
            raise RefusedError(413, f"the ZIP unpacks to more than {_mb(limits.bytes)}", "send fewer files")
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(entry.external_attr >> 16):
                raise RefusedError(
                    422, "the ZIP contains a link, or a file whose path leads out of it", "pack it again"
                )
        for entry in entries:
            with archive.open(entry) as source:
                if entry.filename.lower().endswith(".zip"):
                    raise RefusedError(422, "the ZIP contains another ZIP", "unpack it and send its files")
                file = self._upload.file(entry.filename)
                while chunk := source.read(CHUNK):
                    file.write(chunk)
            file.close(unpack=False)


def durable(do: Any, *arguments: Any) -> Any:
    """Call a function that writes; raises RefusedError if the disk is full."""
    try:
        return do(*arguments)
    except OSError as error:
        raise RefusedError(
            507, "the server does not have enough disk space for the upload", "try again later"
        ) from error


def zip_begins(path: Path) -> bool:
    """Whether a file begins like a ZIP, empty or not."""
    with path.open("rb") as handle:
        return handle.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _mb(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def check_room(data: Path, limits: Limits) -> None:
    """Raise RefusedError with status 507 if the disk is nearly full."""
    if shutil.disk_usage(data).free < limits.free_bytes:
        raise RefusedError(
            507,
            "the server's disk is nearly full",
            "try again later; the server's operator has to free disk space",
        )


def sync_folder(folder: Path) -> None:
    """Make renames within a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
