"""Uploads: files are written as they arrive, within limits, under names that say nothing about the patient.

Every file is written as ``NAME.part``, synchronised with the disk and renamed; a ZIP is unpacked.
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
ENDINGS = (*VOLUME_ENDINGS, ".img", *sorted(SUFFIXES | DICOM_SUFFIXES))
"""Those that a stored file keeps; the rest of its name could identify the patient."""
DETACHED = (".mhd", ".nhdr")
CHUNK = 1 << 20


class RefusedError(GroundglassError):
    """An upload that is not taken.

    Parameters
    ----------
    status
        The HTTP status that says why: 413 too large, 422 cannot be used, 507 no room.
    problem, remedy
        What is wrong and what the user can do, without full stops; neither quotes a file's name or content.
    """

    def __init__(self, status: int, problem: str, remedy: str = "") -> None:
        self.status, self.problem, self.remedy = status, problem, remedy
        super().__init__("; ".join(filter(None, (problem, remedy))))


@dataclass(frozen=True)
class Limits:
    """How much one upload may hold.

    Attributes
    ----------
    files
        Files, those within ZIPs included.
    file_bytes, bytes
        Bytes of one file and of all together, after unpacking.
    ratio
        How far a ZIP may be packed as a whole; CT packs to a half or a third.
    seconds
        How long an upload may take.
    free_bytes
        What must stay free on the disk; new uploads are refused before.
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
    """Files on their way into the store; close it, or use it with ``with``, to remove what was not accepted.

    Parameters
    ----------
    data
        The server's data folder.
    limits
        What the upload may hold.
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
        """Begin a file that was sent under this name."""
        return Receiving(self, name)

    def grown(self, size: int, file_size: int) -> None:
        """Count bytes that were written; raises RefusedError where a limit is exceeded."""
        self.bytes += size
        limits = self.limits
        if self.bytes > limits.bytes:
            raise RefusedError(413, f"the upload has more than {_mb(limits.bytes)}", "send fewer files")
        if file_size > limits.file_bytes:
            raise RefusedError(413, f"a file has more than {_mb(limits.file_bytes)}", "send a smaller one")
        if time.monotonic() > self.deadline:
            raise RefusedError(413, f"the upload took more than {limits.seconds:.0f} seconds", "send less")

    def name_for(self, name: str) -> str:
        """A new stored name: a number and the ending; the two files of an Analyze volume get one number."""
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
        """Add bytes; raises RefusedError where a limit is exceeded or the disk is full."""
        self.size += len(data)
        self._upload.grown(len(data), self.size)
        self._hash.update(data)
        durable(self._handle.write, data)

    def close(self, *, unpack: bool = True) -> None:
        """Put the file on the disk for good; a ZIP is unpacked in its place, unless it lay in another one."""
        try:
            durable(self._handle.flush)
            durable(os.fsync, self._handle.fileno())
        finally:
            with suppress(OSError):  # on a full disk, closing fails as well
                self._handle.close()
        if not self.size and not self.name:  # a form's field that was left empty
            self._part.unlink()
        elif unpack and zip_begins(self._part):
            self._unpack()
        else:
            final = self._part.with_name(self._stored)
            self._part.rename(final)
            file = Received(final.name, self.name, self.size, self._hash.hexdigest())
            self._upload.files.append(file)

    def _unpack(self) -> None:
        """Put the files of a ZIP in its place.

        Their names are not used as paths, so none can lead out of the folder; a ZIP that tries is refused anyway.
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
        """Write a ZIP's files, unless what it states about itself already exceeds a limit."""
        limits, unpacked = self._upload.limits, sum(entry.file_size for entry in entries)
        if unpacked > limits.ratio * max(self.size, CHUNK):
            raise RefusedError(
                413,
                f"the ZIP unpacks to {_mb(unpacked)} from {_mb(self.size)}",
                "unpack it and send its files",
            )
        if len(entries) > limits.files:
            raise RefusedError(413, f"the ZIP holds more than {limits.files} files", "send fewer files")
        if unpacked > limits.bytes:
            raise RefusedError(413, f"the ZIP unpacks to more than {_mb(limits.bytes)}", "send fewer files")
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(entry.external_attr >> 16):
                raise RefusedError(
                    422, "the ZIP holds a file whose path leads out of it, or a link", "pack it again"
                )
        for entry in entries:
            with archive.open(entry) as source:
                if entry.filename.lower().endswith(".zip"):
                    raise RefusedError(422, "the ZIP holds a ZIP", "unpack it and send its files")
                file = self._upload.file(entry.filename)
                while chunk := source.read(CHUNK):
                    file.write(chunk)
            file.close(unpack=False)


def durable(do: Any, *arguments: Any) -> Any:
    """Call something that writes; raises RefusedError where the disk is full."""
    try:
        return do(*arguments)
    except OSError as error:
        raise RefusedError(507, "the server's disk cannot take the upload", "try again later") from error


def zip_begins(path: Path) -> bool:
    """Whether a file begins as a ZIP does, with files in it or empty."""
    with path.open("rb") as handle:
        return handle.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _mb(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def check_room(data: Path, limits: Limits) -> None:
    """Raise RefusedError, of status 507, where the disk is nearly full."""
    if shutil.disk_usage(data).free < limits.free_bytes:
        raise RefusedError(
            507, "the server's disk is nearly full", "try again later; the server's operator has to make room"
        )


def sync_folder(folder: Path) -> None:
    """Make renames within a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
