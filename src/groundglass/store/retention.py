"""Removal of uploads that were never acknowledged, and of studies that are too old or exceed the space limit."""

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from groundglass.store.database import Database
from groundglass.store.history import forget, ids
from groundglass.store.tables import DONE, FAILED, Study
from groundglass.store.upload import INCOMING, STUDIES

log = logging.getLogger(__name__)

HOUR = 3600.0


@dataclass(frozen=True)
class Retention:
    """How long studies are kept.

    Attributes
    ----------
    days
        Studies received longer ago are deleted; None keeps them.
    bytes
        The oldest studies are deleted while the files exceed this total size; None keeps them.
    """

    days: float | None = None
    bytes: int | None = None


def sweep(database: Database, data: Path, older: float = 0.0) -> int:
    """Remove the files of uploads that were never acknowledged and of studies that were deleted.

    Parameters
    ----------
    database, data
        The server's database and data folder.
    older
        Remove only folders older than this many seconds: while the server is running, an upload may not have
        been entered yet.

    Returns
    -------
    The number of folders removed.
    """
    known = set(ids(database))
    removed = 0
    for folder in [*(data / INCOMING).glob("*"), *(data / STUDIES).glob("*")]:
        if folder.parent.name == STUDIES and folder.name in known:
            continue
        if time.time() - folder.stat().st_mtime >= older:
            shutil.rmtree(folder, ignore_errors=True)
            removed += not folder.exists()
    return removed


def expired(database: Database, retention: Retention) -> list[str]:
    """The ids of studies to delete, the oldest first; studies that are not yet answered are kept."""
    with database.read() as session:
        over = select(Study.id, Study.received, Study.size).where(Study.state.in_((DONE, FAILED)))
        rows = session.execute(over.order_by(Study.received)).all()
    total = sum(row.size for row in rows)
    gone = []
    for row in rows:
        old = retention.days is not None and row.received < time.time() - retention.days * 24 * HOUR
        if not old and (retention.bytes is None or total <= retention.bytes):
            break
        gone.append(row.id)
        total -= row.size
    return gone


def clean(database: Database, data: Path, retention: Retention) -> list[str]:
    """Delete expired studies and leftover files; returns the ids of the deleted studies."""
    gone = expired(database, retention)
    for study in gone:
        if not forget(database, data, study):
            log.error("the files of a deleted study are still on the disk; the next cleanup tries again")
    sweep(database, data, older=HOUR)
    return gone
