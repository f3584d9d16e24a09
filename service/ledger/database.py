"""The database under the ledger: SQLite, with every commit on the disk before it is reported."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.dialects import postgresql, sqlite

from service.ledger.migrations import upgrade

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from sqlalchemy import Connection, Table

BUSY_SECONDS = 30  # how long one writer waits for another: each takes milliseconds


class Database:
    """Transactions on one database, whose tables are brought to the newest form when it is opened."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"timeout": BUSY_SECONDS},
            hide_parameters=True,  # errors are logged: URLs of webhooks may hold secrets
        )
        self._reading = self._engine.execution_options(reading=True)
        event.listen(self._engine, "connect", _prepare)
        event.listen(self._engine, "begin", _begin)
        with self.write() as connection:
            upgrade(connection)
        path.chmod(0o600)

    @contextmanager
    def write(self) -> Generator[Connection]:
        """A transaction that may change things; on the disk when the context ends."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that sees one state, and keeps no writer waiting."""
        with self._reading.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say what becomes of a row that is there already; the standard has no such thing."""
    dialects: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
    made: sqlite.Insert | postgresql.Insert = dialects[connection.dialect.name].insert(table)
    return made


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # BEGIN is ours: the driver would begin too late, and not IMMEDIATE
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
