"""Databases of both kinds: SQLite, and PostgreSQL in the tests' own cluster, if it is installed."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from groundglass.store.database import Database


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL cluster on a Unix socket, without the name of a database."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not on the PATH")
    root = os.geteuid() == 0  # PostgreSQL refuses to run as root
    user = next((one.pw_name for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody")), None)
    if root and user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
    with tempfile.TemporaryDirectory(prefix="gg-pg-") as folder:
        place = Path(folder)
        if root:
            shutil.chown(place, user)

        def run(*command: str) -> None:
            subprocess.run(
                command, check=True, user=user if root else None, cwd=folder, stdout=subprocess.DEVNULL
            )

        run("initdb", "-D", f"{folder}/data", "-U", "test", "-A", "trust", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://test@/{{name}}?host={folder}"
        finally:
            run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: str) -> str:
    """The name of such a PostgreSQL database."""
    with admin(postgresql) as connection:
        connection.execute(text("create database migrated"))
    database = Database(postgresql.format(name="migrated"))
    database.migrate()
    database.close()
    return "migrated"


@contextmanager
def admin(postgresql: str) -> Iterator[Connection]:
    """A connection that can create and drop databases."""
    engine = create_engine(postgresql.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The URL of an empty database; None for SQLite in the data folder."""
    if request.param == "sqlite":
        yield None
        return
    server = request.getfixturevalue("postgresql")
    template = request.getfixturevalue("migrated_postgresql")
    name = f"test_{secrets.token_hex(6)}"
    with admin(server) as connection:
        connection.execute(text(f"create database {name} template {template}"))
    yield server.format(name=name)
    with admin(server) as connection:
        connection.execute(text(f"drop database {name} with (force)"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def database(data: Path, url: str | None, migrated: Path) -> Iterator[Database]:
    if url is None:
        shutil.copy(migrated, data)
    database = Database.of(data, url)
    yield database
    database.close()


@pytest.fixture
def sqlite(data: Path, migrated: Path) -> Iterator[Database]:
    shutil.copy(migrated, data)
    database = Database.of(data)
    yield database
    database.close()
