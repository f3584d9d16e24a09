"""The database of the ledger: SQLite, or PostgreSQL for several servers. What is committed is on the disk.

In SQLite a transaction that writes is alone. In PostgreSQL it is not: `alone` and `together` are the locks for what
must not change at the same time, and are without effect in SQLite.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite

from service.ledger import clock
from service.ledger.migrations import upgrade
from service.ledger.queue import Queue
from service.ledger.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Table

BUSY_SECONDS = 10  # how long one writer waits for another; a transaction takes milliseconds
ANSWER_SECONDS = 15.0  # of a transaction in PostgreSQL: then its connection is cut
LONGER_SECONDS = 120.0  # of one that waits for the blob store meanwhile
# To PostgreSQL that are kept, and beyond: as many as there are threads; to SQLite all are kept.
CONNECTIONS, MORE = 8, 24
CACHE_KIB = 256  # of pages in each connection to SQLite: the system has them all in its own cache
QUEUE_TABLE = "procrastinate_jobs"
MIGRATION, CLAIM = "migration", "claim"  # names of locks
# Of PostgreSQL: a commit is on the disk, and a client that is gone holds its locks no longer than this.
OPTIONS = (
    "-c synchronous_commit=on -c statement_timeout=60s "
    f"-c lock_timeout={BUSY_SECONDS}s -c idle_in_transaction_session_timeout={ANSWER_SECONDS:g}s"
)
DIALED: dict[str, Any] = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
          "tcp_user_timeout": 10_000, "options": OPTIONS, "application_name": "bnfold"}  # fmt: skip


class Database:
    """Transactions on one database. Opening it migrates its tables to the newest schema.

    `where` is the file of SQLite, or the URL of PostgreSQL. `queue` has the jobs that workers take, if there are any.
    """

    def __init__(self, where: Path | str, queue: Queue | None = None) -> None:
        self._engine, self.queue = connected(where), queue
        self.is_shared = isinstance(where, str)
        kept: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if isinstance(where, str) else {}
        self._reading = self._engine.execution_options(reading=True, **kept)
        self._watchdog = Watchdog() if self.is_shared else None
        self._seat: Connection | None = None
        with self.write() as connection:
            alone(connection, [MIGRATION])
            upgrade(connection)
            if queue is not None:
                queue.prepare(connection)
            elif self.is_shared and connection.execute(select(func.to_regclass(QUEUE_TABLE))).scalar_one():
                self.queue = Queue()  # a command on the ledger of a cluster: what it changes must agree, too
            self.clock = clock.read(connection)
        for engine in (self._engine, self._reading):
            engine.update_execution_options(**{clock.OPTION: self.clock, "queue": self.queue})
        if not isinstance(where, str):
            where.chmod(0o600)

    @contextmanager
    def write(self, seconds: float = ANSWER_SECONDS) -> Generator[Connection]:
        """A transaction that may write. It is on the disk when the context ends."""
        with self._engine.begin() as connection, self._watched(connection, seconds):
            if self.is_shared and seconds > ANSWER_SECONDS:
                longer = f"SET LOCAL idle_in_transaction_session_timeout = '{seconds:g}s'"
                connection.exec_driver_sql(longer)
            yield connection

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that reads one consistent state, and blocks no writer."""
        with self._reading.connect() as connection, self._watched(connection, ANSWER_SECONDS):
            yield connection

    def claim(self, *, shared: bool) -> bool:
        """Take the database for one server alone, or for those that share it; False if others have it otherwise.

        It lasts as long as a connection. A file needs no claim: its folder is locked.
        """
        if not self.is_shared:
            return True
        kind = func.pg_try_advisory_lock_shared if shared else func.pg_try_advisory_lock
        self._seat = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return bool(self._seat.execute(select(kind(_number(CLAIM)))).scalar_one())

    def close(self) -> None:
        """Close all connections."""
        if self._seat is not None:
            self._seat.invalidate()  # and not back to the pool: it has the lock
        if self._watchdog is not None:
            self._watchdog.close()
        self._engine.dispose()

    @contextmanager
    def _watched(self, connection: Connection, seconds: float) -> Generator[None]:
        """Cut the connection where PostgreSQL, or the network in between, does not answer in time."""
        if self._watchdog is None:
            yield
        else:
            with self._watchdog.watched(connection.connection.driver_connection, seconds):
                yield


def connected(where: Path | str) -> Engine:
    """Connections to a database, whose transactions are as durable as this module says."""
    if isinstance(where, str):
        return create_engine(
            where.replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+psycopg://", 1),
            connect_args=DIALED,
            pool_size=CONNECTIONS,
            max_overflow=MORE,
            pool_timeout=BUSY_SECONDS,
            hide_parameters=True,
        )
    engine = create_engine(
        f"sqlite:///{where}",
        connect_args={"timeout": BUSY_SECONDS},
        pool_size=CONNECTIONS + MORE,
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


def alone(connection: Connection, names: Iterable[str]) -> None:
    """Wait until no other transaction has a lock of these names, and let none have one until this transaction ends."""
    _lock(connection, names, func.pg_advisory_xact_lock)


def together(connection: Connection, names: Iterable[str]) -> None:
    """The same, but others may be in it together with this transaction: only `alone` waits, and is waited for."""
    _lock(connection, names, func.pg_advisory_xact_lock_shared)


def first(connection: Connection, name: str) -> bool:
    """Whether no other transaction has the lock of this name, which this one then has until it ends."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(select(func.pg_try_advisory_xact_lock(_number(name)))).scalar_one())


def _lock(connection: Connection, names: Iterable[str], lock: Any) -> None:
    if connection.dialect.name == "postgresql":
        for name in sorted(set(names)):  # in this order, so that no two wait for each other
            connection.execute(select(lock(_number(name))))


def _number(name: str) -> Any:
    return func.hashtextextended(name, 0)


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # _begin sends BEGIN: the driver would send it too late, and not IMMEDIATE
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"cache_size=-{CACHE_KIB}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
