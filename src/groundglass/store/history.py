"""The studies that the server has received: list, show and delete them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, delete, func, or_, select
from sqlalchemy.orm import Session, undefer
from sqlalchemy.sql.functions import FunctionElement

from groundglass.store.database import Database
from groundglass.store.tables import ANSWER, BY_DICOM, FAILED, SEND, Job, StoredFile, Study
from groundglass.store.upload import RESULTS, STUDIES


@dataclass(frozen=True)
class Entry:
    """A study with its version number and neighbouring versions, and the state of its job.

    Attributes
    ----------
    version
        1 for the first study of this StudyInstanceUID and bundle.
    superseded_by
        The id of the next version, if there is one.
    supersedes
        The id of the previous version.
    progress, total
        Number of slices read so far, and of all slices.
    attempts
        Number of times the job was started.
    """

    study: Study
    version: int
    superseded_by: str | None
    supersedes: str | None
    progress: int = 0
    total: int = 0
    attempts: int = 0


def _versions() -> Subquery:
    """Each study's version number and neighbouring versions; studies with the same UID and bundle are versions."""

    def over(function: FunctionElement[Any]) -> ColumnElement[Any]:
        same = (func.coalesce(Study.uid, Study.id), Study.bundle)
        return function.over(partition_by=same, order_by=(Study.received, Study.id))

    return select(
        Study.id,
        over(func.row_number()).label("version"),
        over(func.lag(Study.id)).label("supersedes"),
        over(func.lead(Study.id)).label("superseded_by"),
    ).subquery()


def _entries() -> Select[Any]:
    versions = _versions()
    return (
        select(
            Study,
            versions.c.version,
            versions.c.superseded_by,
            versions.c.supersedes,
            func.coalesce(Job.progress, 0),
            func.coalesce(Job.total, 0),
            func.coalesce(Job.attempts, 0),
        )
        .join(versions, versions.c.id == Study.id)
        .outerjoin(Job, (Job.study_id == Study.id) & (Job.kind == ANSWER))
    )


def find(database: Database, study: str) -> Entry | None:
    """One study, with its findings."""
    with database.read() as session:
        row = session.execute(_entries().where(Study.id == study).options(undefer(Study.findings))).first()
    return None if row is None else Entry(*row)


def listed(
    database: Database,
    *,
    state: str | None = None,
    verdict: str | None = None,
    text: str = "",
    since: float | None = None,
    until: float | None = None,
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Entry], int]:
    """Studies, the latest first, and their total number.

    Parameters
    ----------
    database
        The server's database.
    state, verdict
        Return only these.
    text
        Words that must all occur in the patient's name or id, the study date, or the study's id.
    since, until
        Range of the time of receipt, in seconds since 1970; ``until`` is excluded.
    limit, offset
        The page.
    """
    conditions = []
    for column, value in ((Study.state, state), (Study.verdict, verdict)):
        if value is not None:
            conditions.append(column == value)
    for word in text.replace("\0", " ").lower().split():  # PostgreSQL does not accept NUL
        named = (Study.patient_name, Study.patient_id, Study.study_date, Study.id)
        conditions.append(or_(*(func.lower(column).contains(word, autoescape=True) for column in named)))
    if since is not None:
        conditions.append(Study.received >= since)
    if until is not None:
        conditions.append(Study.received < until)
    page = _entries().where(*conditions).order_by(Study.received.desc(), Study.id).limit(limit).offset(offset)
    with database.read() as session:
        entries = [Entry(*row) for row in session.execute(page)]
        total = session.scalar(select(func.count()).select_from(Study).where(*conditions)) or 0
    return entries, total


def files_of(database: Database, study: str) -> list[StoredFile]:
    """The files of a study, in the order of sending."""
    with database.read() as session:
        files = select(StoredFile).where(StoredFile.study_id == study).order_by(StoredFile.stored)
        return list(session.scalars(files))


def superseded(database: Database, study: str) -> bool:
    """Whether a study of the DICOM node has a later version that is or will be answered."""
    return any(one.state != FAILED for one in _of_the_node(database, study, later=True))


def sent_before(database: Database, study: str) -> str | None:
    """The id of the latest earlier version that may have been sent to a destination, at least in part."""
    for one in reversed(_of_the_node(database, study, later=False)):
        with database.read() as session:
            sent = select(Job.id).where(Job.study_id == one.id, Job.kind == SEND, Job.progress > 0).limit(1)
            if session.scalar(sent) is not None:
                return one.id
    return None


def _of_the_node(database: Database, study: str, *, later: bool) -> list[Study]:
    """The earlier or later versions of a study that the DICOM node received, in order."""
    with database.read() as session:
        this = session.get(Study, study)
        if this is None or not this.options.get(BY_DICOM):
            return []
        same = select(Study).where(Study.uid == this.uid, Study.bundle == this.bundle)
        versions = session.scalars(same.order_by(Study.received, Study.id)).all()
    place = [one.id for one in versions].index(study)
    chosen = versions[place + 1 :] if later else versions[:place]
    return [one for one in chosen if one.options.get(BY_DICOM)]


def counts(database: Database) -> dict[str, int]:
    """The number of studies in each state."""
    with database.read() as session:
        rows = session.execute(select(Study.state, func.count()).group_by(Study.state)).all()
    return {row[0]: row[1] for row in rows}


def results(data: Path, study: str) -> list[str]:
    """The names of a study's results; names in subfolders contain ``/``."""
    folder = data / STUDIES / study / RESULTS
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder) for path in files]
    return [name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)]


def forget(database: Database, data: Path, study: str) -> bool:
    """Delete a study with its rows, files and results.

    Returns
    -------
    Whether everything was removed from the disk. If not, :func:`groundglass.store.retention.sweep` tries again.
    """
    with database.write() as session:
        _delete(session, study)
    folder = data / STUDIES / study
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _delete(session: Session, study: str) -> None:
    for table in (Job, StoredFile):
        session.execute(delete(table).where(table.study_id == study))
    session.execute(delete(Study).where(Study.id == study))


def ids(database: Database) -> Iterator[str]:
    """The ids of all studies."""
    with database.read() as session:
        yield from session.scalars(select(Study.id))
