"""The server's database: SQLite in the data folder, or PostgreSQL by its URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from groundglass.errors import GroundglassError

MIGRATIONS = Path(__file__).with_name("migrations")
FILE = "groundglass.sqlite"
READING = "groundglass_reading"


class Database:
    """Transactions on the server's database.

    Parameters
    ----------
    url
        ``sqlite:///PATH`` or ``postgresql+psycopg://USER:PASSWORD@HOST/NAME``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)

    @classmethod
    def of(cls, folder: Path, url: str | None = None) -> "Database":
        """The database of a data folder, by default SQLite in it."""
        return cls(url or f"sqlite:///{folder.absolute() / FILE}")

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write; it is committed durably if the block ends without an error."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only transaction: it never waits for writers."""
        with self.engine.connect().execution_options(**{READING: True}) as connection:
            yield Session(connection, expire_on_commit=False, autoflush=False)

    def migrate(self, to: str = "head") -> None:
        """Create the tables, or migrate those of an earlier version of Groundglass.

        Raises
        ------
        GroundglassError
            If the database cannot be reached, or was written by a newer version of Groundglass.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            with self.engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, to)
        except SQLAlchemyError as error:
            raise GroundglassError(
                f"the database cannot be used ({type(error).__name__}); check its address, user and password"
            ) from error
        except CommandError as error:
            raise GroundglassError(
                "the database was written by a newer version of Groundglass; install that version"
            ) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_engine(url, connect_args={"timeout": 60}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions are begun by SQLAlchemy (below), not by the driver
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # a commit returns once it is on disk
            "foreign_keys=ON",
            "secure_delete=ON",  # deleted content is overwritten
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(READING)
        # A writing transaction takes the lock at once: if it read first, it could no longer get it.
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
