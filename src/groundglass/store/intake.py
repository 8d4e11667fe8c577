"""Intake: files are written durably, and only then is their study acknowledged.

Every file is written as ``NAME.part``, synchronised with the disk and renamed. The folder of a finished upload is
moved to ``studies/ID/files``, and then one transaction enters the study, its files and its job. What is killed
before that was not acknowledged, and :func:`groundglass.store.retention.sweep` removes its files at the next start.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from groundglass.errors import GroundglassError, ScanError
from groundglass.scan.find import DICOM_SUFFIXES
from groundglass.scan.image import SUFFIXES
from groundglass.scan.members import BROKEN, NOT_A_ZIP, files_of
from groundglass.scan.volume import VOLUME_ENDINGS
from groundglass.store.database import Database
from groundglass.store.queue import new_job, retry
from groundglass.store.tables import FAILED, QUEUED, RECEIVED, StoredFile, Study

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
                422, f"the voxels of a {ending} file lie in another file", "send it as .mha, .nrrd or .nii.gz"
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
        self._handle = _room(self._part.open, "wb")

    def write(self, data: bytes) -> None:
        """Add bytes; raises RefusedError where a limit is exceeded or the disk is full."""
        self.size += len(data)
        self._upload.grown(len(data), self.size)
        self._hash.update(data)
        _room(self._handle.write, data)

    def close(self, *, unpack: bool = True) -> None:
        """Put the file on the disk for good; a ZIP is unpacked in its place, unless it lay in another one."""
        try:
            _room(self._handle.flush)
            _room(os.fsync, self._handle.fileno())
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
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > self._upload.limits.ratio * max(self.size, CHUNK):
            raise RefusedError(
                413,
                f"the ZIP unpacks to {_mb(unpacked)} from {_mb(self.size)}",
                "unpack it and send its files",
            )
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


def _room(do: Any, *arguments: Any) -> Any:
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


@dataclass(frozen=True)
class Wanted:
    """How a study is to be answered.

    Attributes
    ----------
    bundle
        The bundle's name.
    bundle_key
        A hash of the bundle's content.
    options
        As the API takes them, such as ``anonymise``.
    """

    bundle: str
    bundle_key: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def key(self, content: str) -> str:
        """The key of the job that answers files of this content so."""
        parts = [content, self.bundle_key, sorted(self.options.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def content_of(files: Iterable[Received]) -> str:
    """A hash of the bytes of files, whatever their order and names."""
    return hashlib.sha256("\n".join(sorted(file.sha256 for file in files)).encode()).hexdigest()


def accept(
    database: Database, upload: Upload, wanted: Wanted, *, uid: str | None = None, queued: bool = True
) -> tuple[str, bool]:
    """Take an upload over as a study, with a job; when this returns, both are durable.

    Parameters
    ----------
    database
        The server's database.
    upload
        Whose files are all closed.
    wanted
        How it is to be answered.
    uid
        StudyInstanceUID, where the sender knows it.
    queued
        Whether the job may start now; else the study stays ``received`` until
        :func:`groundglass.store.queue.release`.

    Returns
    -------
    The study's id, and whether it is new. The same files with the same bundle and options are one study; where it
    has failed, it is queued again.

    Raises
    ------
    RefusedError
        If there is no file, or no room.
    """
    if not upload.files:
        raise RefusedError(422, "no file was sent", "send at least one in the field `files`")
    key = wanted.key(content_of(upload.files))
    if known := _again(database, key):
        return known, False
    study = new_study(upload.files, wanted, uid=uid, queued=queued)
    put_folder(upload.data, study.id, upload.folder)
    try:
        with database.write() as session:
            session.add(study)
            session.flush()
            session.add_all([*_rows(study.id, upload.files), *([new_job(study.id)] if queued else [])])
    except IntegrityError:  # the same files came at the same time
        shutil.rmtree(upload.data / STUDIES / study.id, ignore_errors=True)
        if known := _again(database, key):
            return known, False
        raise
    return study.id, True


def put_folder(data: Path, study: str, folder: Path) -> None:
    """Move a folder of finished files to where the study's files belong."""
    target = data / STUDIES / study
    _room(sync_folder, folder)
    _room(target.mkdir, 0o777, True)
    _room(folder.rename, target / FILES)
    _room(sync_folder, target)
    _room(sync_folder, target.parent)


def new_study(
    files: Sequence[Received], wanted: Wanted, *, uid: str | None = None, queued: bool = True
) -> Study:
    """The row of a study that was just received."""
    content = content_of(files)
    return Study(
        id=secrets.token_hex(10),
        key=wanted.key(content),
        content=content,
        bundle=wanted.bundle,
        bundle_key=wanted.bundle_key,
        options=dict(wanted.options),
        state=QUEUED if queued else RECEIVED,
        received=time.time(),
        files=len(files),
        size=sum(file.size for file in files),
        uid=uid,
    )


def _rows(study: str, files: Iterable[Received]) -> list[StoredFile]:
    return [
        StoredFile(study_id=study, stored=one.stored, name=one.name, size=one.size, sha256=one.sha256)
        for one in files
    ]


def _again(database: Database, key: str) -> str | None:
    """The id of the study of this key; one that failed is queued again."""
    with database.read() as session:
        study = session.scalar(select(Study).where(Study.key == key))
    if study is None:
        return None
    if study.state == FAILED:
        retry(database, study.id)
    return study.id


def divide(
    database: Database, data: Path, study: Study, parts: Sequence[Sequence[str]], wanted: Wanted
) -> list[str]:
    """Make each part of a study's files a study of its own; the first one keeps no answer but their ids.

    Parameters
    ----------
    database, data
        The server's database and data folder.
    study
        The upload.
    parts
        The stored names of each part's files.
    wanted
        How the parts are to be answered.

    Returns
    -------
    The ids of the parts, in their order; a part that was sent before keeps its id.
    """
    with database.read() as session:
        rows = session.scalars(select(StoredFile).where(StoredFile.study_id == study.id)).all()
    files = {row.stored: Received(row.stored, row.name, row.size, row.sha256) for row in rows}
    ids: list[str] = []
    for names in parts:
        with Upload(data) as upload:
            for name in names:
                os.link(data / STUDIES / study.id / FILES / name, upload.folder / name)
                upload.files.append(files[name])
            ids.append(accept(database, upload, wanted)[0])
    return ids
