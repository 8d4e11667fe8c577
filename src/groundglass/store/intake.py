"""Intake: a study is acknowledged only once its files are stored durably.

The folder of a finished upload is moved to ``studies/ID/files``, and one transaction then enters the study,
its files and its job. If the server is killed before that, the study was not acknowledged, and
:func:`groundglass.store.retention.sweep` removes its files at the next start.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from groundglass.store.database import Database
from groundglass.store.queue import new_job, retry
from groundglass.store.tables import FAILED, QUEUED, RECEIVED, StoredFile, Study
from groundglass.store.upload import FILES, STUDIES, Received, RefusedError, Upload, durable, sync_folder


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
        Options as in the API, such as ``anonymise``.
    """

    bundle: str
    bundle_key: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def key(self, content: str) -> str:
        """The key of the job that answers files with this content in this way."""
        parts = [content, self.bundle_key, sorted(self.options.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def content_of(files: Iterable[Received]) -> str:
    """A hash of the files' bytes, independent of their order and names."""
    return hashlib.sha256("\n".join(sorted(file.sha256 for file in files)).encode()).hexdigest()


def accept(
    database: Database, upload: Upload, wanted: Wanted, *, uid: str | None = None, queued: bool = True
) -> tuple[str, bool]:
    """Turn an upload into a study with a job; when this returns, both are durable.

    Parameters
    ----------
    database
        The server's database.
    upload
        The upload; its files must all be closed.
    wanted
        How it is to be answered.
    uid
        StudyInstanceUID, if the sender knows it.
    queued
        Whether the job may start now; otherwise the study remains ``received`` until
        :func:`groundglass.store.queue.release`.

    Returns
    -------
    The study's id, and whether it is new. The same files with the same bundle and options are the same study;
    if it has failed, it is queued again.

    Raises
    ------
    RefusedError
        If there is no file, or not enough disk space.
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
    except IntegrityError:  # the same files were sent at the same time
        shutil.rmtree(upload.data / STUDIES / study.id, ignore_errors=True)
        if known := _again(database, key):
            return known, False
        raise
    return study.id, True


def put_folder(data: Path, study: str, folder: Path) -> None:
    """Move a folder of finished files to the study's folder."""
    target = data / STUDIES / study
    durable(sync_folder, folder)
    durable(target.mkdir, 0o777, True)
    durable(folder.rename, target / FILES)
    durable(sync_folder, target)
    durable(sync_folder, target.parent)


def new_study(
    files: Sequence[Received], wanted: Wanted, *, uid: str | None = None, queued: bool = True
) -> Study:
    """The row of a newly received study."""
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
    """The id of the study with this key; a failed study is queued again."""
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
    """Make each part of a study's files a study of its own; the original study keeps only their ids as its answer.

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
    The ids of the parts, in order; a part that was sent before keeps its id.
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
