"""Backup and restore: one tar file with the database and all files, for either kind of database."""

import os
import tarfile
import tempfile
from pathlib import Path

from sqlalchemy import delete, func, insert, select

from groundglass.errors import GroundglassError
from groundglass.files import reason_of, replacing
from groundglass.scan.studies import KEY_FILE
from groundglass.store.database import FILE, Database
from groundglass.store.tables import Base, Study, Token
from groundglass.store.upload import INCOMING, NODE, PENDING, STUDIES, sync_folder

BATCH = 1000


def copy_tables(source: Database, target: Database) -> None:
    """Copy all rows, as of one point in time, into an empty database with the same schema."""
    with source.engine.connect() as reading, target.engine.begin() as writing:
        if source.engine.name == "postgresql":
            reading = reading.execution_options(isolation_level="REPEATABLE READ")
        for table in Base.metadata.sorted_tables:
            counted = table.autoincrement_column  # the other database numbers its rows itself
            columns = [column for column in table.columns if column is not counted]
            rows = select(*columns)
            if table is Token.__table__:
                rows = rows.where(Token.parent.is_(None))  # users must sign in again
            for batch in reading.execute(rows).mappings().partitions(BATCH):
                writing.execute(insert(table), [dict(row) for row in batch])


def back_up(database: Database, data: Path, archive: Path) -> int:
    """Write a backup; the server may be running.

    Instances that the DICOM node acknowledged are copied first, folder by folder in the order in which they move
    through the node, so that one that moves during the backup is not missed. Then the database is copied. Files
    never change once the database refers to them, so the archive contains every file that it refers to. Studies
    that are deleted during the backup are left out.

    Returns
    -------
    The number of studies.

    Raises
    ------
    GroundglassError
        If the archive cannot be written.
    """
    with (
        tempfile.TemporaryDirectory(dir=archive.absolute().parent) as temporary,
        replacing(archive, "wb") as handle,
        tarfile.open(fileobj=handle, mode="w") as tar,
    ):
        for place in (INCOMING, PENDING):
            for path in sorted((data / NODE / place).glob("*/*.dcm")):
                _add(tar, data, path)
        copy = Database.of(Path(temporary))
        copy.migrate()
        copy_tables(database, copy)
        with copy.read() as session:
            studies = list(session.scalars(select(Study.id)))
        gone = [study for study in studies if not _add(tar, data, data / STUDIES / study)]
        with copy.write() as session:
            session.execute(delete(Study).where(Study.id.in_(gone)))
        copy.close()  # this writes everything into the one file
        tar.add(Path(temporary) / FILE, FILE)
        if (data / KEY_FILE).exists():
            tar.add(data / KEY_FILE, KEY_FILE)
    return len(studies) - len(gone)


def _add(tar: tarfile.TarFile, data: Path, path: Path) -> bool:
    """Add a file or folder of the data folder; False if it no longer exists."""
    try:
        tar.add(path, path.relative_to(data))
    except FileNotFoundError:
        return False
    return True


def restore(archive: Path, data: Path, url: str | None = None) -> int:
    """Put a backup into a data folder that does not exist yet, or is empty.

    A backup from an earlier version of Groundglass is migrated to this version.

    Returns
    -------
    The number of studies.

    Raises
    ------
    GroundglassError
        If the folder is not empty, the database contains studies, or the archive cannot be read.
    """
    if data.exists() and any(data.iterdir()):
        raise GroundglassError(f"{data}: is not empty; choose a new folder with --data")
    data.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(data, filter="data")
    except (OSError, tarfile.TarError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise GroundglassError(f"{archive}: cannot be restored ({reason}); use another backup") from error
    stored = Database.of(data)
    stored.migrate()
    if url is not None:
        other = Database(url)
        other.migrate()
        with other.read() as session:
            if session.scalar(select(func.count()).select_from(Study)):
                raise GroundglassError("the database already contains studies; use an empty one")
        copy_tables(stored, other)
        other.close()
    with stored.read() as session:
        studies = session.scalar(select(func.count()).select_from(Study)) or 0
    stored.close()
    if url is not None:
        (data / FILE).unlink()
    os.sync()
    sync_folder(data)
    return studies
