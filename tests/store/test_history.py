"""Lists with filters, retention, backup and restore, and migrations."""

import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, text, update
from test_intake import LUNGS, send

from groundglass.errors import GroundglassError
from groundglass.store.access import add_token
from groundglass.store.backup import back_up, restore
from groundglass.store.database import Database
from groundglass.store.history import find, ids, listed
from groundglass.store.intake import divide
from groundglass.store.queue import claim, finish, identify
from groundglass.store.retention import Retention, clean, sweep
from groundglass.store.tables import Base, Study
from groundglass.store.upload import INCOMING, RESULTS, STUDIES, Upload


def answered(database: Database, data: Path, content: bytes, received: float, **answer: object) -> str:
    """A study that has an answer and results."""
    study, _ = send(database, data, {"1": content})
    lease = claim(database, "me")
    assert lease is not None
    identify(database, lease, patient_name=f"Doe^{content.decode()}", patient_id="1")
    results = data / STUDIES / study / RESULTS
    results.mkdir()
    (results / "findings.json").write_text("{}")
    assert finish(database, lease, {"verdict": "covid", **answer})
    with database.write() as session:
        session.execute(update(Study).where(Study.id == study).values(received=received))
    return study


def test_studies_are_listed_by_page_state_verdict_and_date(database: Database, data: Path) -> None:
    old = answered(database, data, b"Anna", 100.0)
    new = answered(database, data, b"Berta", 200.0, verdict="not covid")
    waiting, _ = send(database, data, {"1": b"waiting"})

    def found(**filters: object) -> list[str]:
        return [entry.study.id for entry in listed(database, **filters)[0]]  # type: ignore[arg-type]

    assert found() == [waiting, new, old]
    assert found(limit=1, offset=1) == [new]
    assert listed(database, limit=1)[1] == 3
    assert found(state="queued") == [waiting]
    assert found(verdict="covid") == [old]
    assert found(since=150.0, until=250.0) == [new]


def test_what_is_too_old_or_too_much_is_deleted_and_what_waits_is_kept(
    database: Database, data: Path
) -> None:
    now = time.time()
    old = answered(database, data, b"a" * 100, now - 10 * 86400)
    middle = answered(database, data, b"b" * 100, now - 2 * 86400)
    new = answered(database, data, b"c" * 100, now - 1)
    waiting, _ = send(database, data, {"1": b"d" * 1000})
    assert clean(database, data, Retention()) == []
    assert clean(database, data, Retention(days=5)) == [old]
    assert clean(database, data, Retention(bytes=150)) == [middle]
    assert set(ids(database)) == {new, waiting} == {path.name for path in (data / STUDIES).iterdir()}


def test_a_sweep_removes_only_what_nobody_acknowledged(sqlite: Database, data: Path) -> None:
    study, _ = send(sqlite, data, {"1": b"one"})
    for left in (data / INCOMING / "half", data / STUDIES / "unknown"):
        left.mkdir(parents=True)
        (left / "1.part").write_bytes(b"x")
    assert sweep(sqlite, data, older=60) == 0
    assert sweep(sqlite, data) == 2
    assert find(sqlite, study) is not None
    assert [path.name for path in (data / STUDIES).iterdir()] == [study]


def test_an_upload_of_several_examinations_becomes_several_studies(database: Database, data: Path) -> None:
    single, _ = send(database, data, {"other name": b"two"})
    upload, _ = send(database, data, {"1": b"one", "2": b"two", "3": b"three"})
    entry = find(database, upload)
    assert entry is not None
    parts = divide(database, data, entry.study, [["00001", "00003"], ["00002"]], LUNGS)
    assert parts[1] == single
    assert divide(database, data, entry.study, [["00001", "00003"], ["00002"]], LUNGS) == parts
    names = sorted(path.name for path in (data / STUDIES / parts[0] / "files").iterdir())
    assert names == ["00001", "00003"]
    assert listed(database)[1] == 3


def test_a_backup_brings_everything_back_and_reads_while_the_server_writes(
    database: Database, url: str | None, data: Path, tmp_path: Path
) -> None:
    done = answered(database, data, b"one", 100.0)
    waiting, _ = send(database, data, {"1": b"two"})
    gone, _ = send(database, data, {"1": b"three"})
    (data / STUDIES / gone / "files" / "00001").unlink()
    (data / STUDIES / gone / "files").rmdir()
    (data / STUDIES / gone).rmdir()
    archive = tmp_path / "backup.tar"
    with Upload(data):
        assert back_up(database, data, archive) == 2
    before = [(entry.study.id, entry.study.verdict, entry.study.state) for entry in listed(database)[0]]

    copy = tmp_path / "copy"
    assert restore(archive, copy) == 2
    again = Database.of(copy)
    after = [(entry.study.id, entry.study.verdict, entry.study.state) for entry in listed(again)[0]]
    assert after == [row for row in before if row[0] != gone]
    assert (copy / STUDIES / done / RESULTS / "findings.json").read_text() == "{}"
    assert (copy / STUDIES / waiting / "files" / "00001").read_bytes() == b"two"
    lease = claim(again, "me")
    assert lease is not None
    assert lease.study == waiting
    send(again, copy, {"1": b"a new one"})
    again.close()
    with pytest.raises(GroundglassError, match="is not empty"):
        restore(archive, copy)


def test_a_backup_of_sqlite_can_be_restored_into_postgresql(
    sqlite: Database, data: Path, tmp_path: Path, postgresql: str
) -> None:
    study = answered(sqlite, data, b"one", 100.0)
    back_up(sqlite, data, tmp_path / "backup.tar")
    url = postgresql.format(name="postgres")
    assert restore(tmp_path / "backup.tar", tmp_path / "copy", url) == 1
    other = Database(url)
    assert list(ids(other)) == [study]
    new, _ = send(other, tmp_path / "copy", {"1": b"two"})
    assert set(ids(other)) == {study, new}
    with pytest.raises(GroundglassError, match="already contains studies"):
        restore(tmp_path / "backup.tar", tmp_path / "copy2", url)
    other.close()


def test_a_file_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"x" * 2000)
    with pytest.raises(GroundglassError, match="cannot be restored"):
        restore(tmp_path / "no.tar", tmp_path / "data")


def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(GroundglassError, match="newer version of Groundglass"):
        database.migrate()


def test_a_database_that_cannot_be_reached_is_refused_without_its_password() -> None:
    with pytest.raises(GroundglassError, match="cannot be used") as caught:
        Database("postgresql+psycopg://user:secret@/none?host=/nowhere").migrate()
    assert "secret" not in str(caught.value)


def test_a_database_of_the_first_form_is_upgraded_with_its_studies(
    data: Path, url: str | None, tmp_path: Path
) -> None:
    database = Database.of(data, url)
    if url is not None:
        with database.engine.begin() as connection:
            Base.metadata.drop_all(connection)
            connection.execute(text("drop table alembic_version"))
    database.migrate("0001")
    tables = MetaData()
    with database.engine.begin() as connection:
        tables.reflect(connection)
        study = {
            "id": "1" * 20,
            "key": "k",
            "content": "c",
            "bundle": "lungs",
            "bundle_key": "b",
            "options": {},
            "state": "queued",
        }
        connection.execute(
            tables.tables["studies"].insert(), {**study, "received": 1.0, "files": 1, "size": 3}
        )
        job = {
            "study_id": "1" * 20,
            "kind": "answer",
            "state": "queued",
            "attempts": 0,
            "run_after": 0.0,
            "progress": 0,
            "total": 0,
        }
        connection.execute(tables.tables["jobs"].insert(), job)
    database.migrate()
    assert list(ids(database)) == ["1" * 20]
    lease = claim(database, "me")
    assert lease is not None
    assert lease.study == "1" * 20
    assert send(database, data, {"1": b"one"})[1]
    assert add_token(database, "after the upgrade", ["read"])
    database.close()
