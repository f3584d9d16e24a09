"""The database of the ledger: SQLite. Every commit is on the disk before it is reported."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.dialects import postgresql, sqlite

from service.ledger import clock
from service.ledger.migrations import upgrade

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Table

BUSY_SECONDS = 10  # how long one writer waits for another; a transaction takes milliseconds


class Database:
    """Transactions on one database. Opening it migrates its tables to the newest schema."""

    def __init__(self, path: Path) -> None:
        self._engine = connected(path)
        self._reading = self._engine.execution_options(reading=True)
        with self.write() as connection:
            upgrade(connection)
            self.clock = clock.read(connection)
        for engine in (self._engine, self._reading):
            engine.update_execution_options(**{clock.OPTION: self.clock})
        path.chmod(0o600)

    @contextmanager
    def write(self) -> Generator[Connection]:
        """A transaction that may write. It is on the disk when the context ends."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that reads one consistent state, and blocks no writer."""
        with self._reading.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def connected(path: Path) -> Engine:
    """Connections to the database at `path`, whose transactions are as durable as this module says."""
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": BUSY_SECONDS},
        hide_parameters=True,  # errors are logged, and URLs of webhooks may hold secrets
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that supports ON CONFLICT, which is not standard SQL."""
    dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
    made: sqlite.Insert | postgresql.Insert = dialects[connection.dialect.name].insert(table)
    return made


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # _begin sends BEGIN: the driver would send it too late, and not IMMEDIATE
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
