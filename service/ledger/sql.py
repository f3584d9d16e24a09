"""The complete ledger in SQL, made of its parts; `open_ledger` opens it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from alembic.util import CommandError
from sqlalchemy import delete
from sqlalchemy.exc import ArgumentError, DBAPIError

from service.ledger.database import Database, connected
from service.ledger.holdings import SqlHoldings
from service.ledger.jobs import SqlJobs
from service.ledger.keys import SqlKeys
from service.ledger.migrations import downgrade
from service.ledger.overview import SqlOverview
from service.ledger.queue import Queue
from service.ledger.schema import keys
from service.ledger.webhooks import SqlWebhooks
from service.ledger.workers import SqlWorkers

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from service.ledger.interface import Ledger, SharedLedger

FILE = "ledger.sqlite3"
RESTORE = "restore the file, or name another data folder"
CLAIMED = (
    "the database of BNFOLD_DATABASE_URL is used by another server; with BNFOLD_ENGINE=local it has one server, and "
    "with BNFOLD_ENGINE=cluster all of them need that setting"
)
REACH = "start it, or name another database"
REMEDIES = {  # by what SQLite says
    "locked": "close the program that holds it, and try again",
    "readonly": "let the service write the file and its folder",
    "full": "make room on the disk",
}


class SqlLedger(SqlJobs, SqlHoldings, SqlKeys, SqlWebhooks, SqlOverview):
    """See `service.ledger.interface.Ledger`."""

    def check(self) -> None:
        """See `service.ledger.interface.Ledger`."""
        with self._database.write() as connection:  # deletes nothing, but fails on a full or read-only disk
            connection.execute(delete(keys).where(keys.c.id == ""))

    def claim(self, *, shared: bool) -> None:
        """See `service.ledger.interface.Ledger`."""
        if not self._database.claim(shared=shared):
            raise RuntimeError(CLAIMED)

    def damage(self) -> str | None:
        """See `service.ledger.interface.Ledger`."""
        with self._database.read() as connection:
            if self._database.is_shared:
                return None  # PostgreSQL has its own tools for that
            found: str = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            return None if found == "ok" else found.replace("\n", " ")

    def close(self) -> None:
        """See `service.ledger.interface.Ledger`."""
        self._database.close()


class SqlSharedLedger(SqlLedger, SqlWorkers):
    """See `service.ledger.interface.SharedLedger`."""


def open_ledger(data: Path, url: str = "") -> Ledger:
    """Open the ledger in a data folder, which is created if it does not exist; with `url`, the one in PostgreSQL there.

    Raises:
        RuntimeError: it cannot be reached, its file is locked, is no ledger, or one of a newer bnfold.
        OSError: the folder or the file cannot be made.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    where: Path | str = url or data / FILE
    with _translated_errors(where):
        return SqlLedger(Database(where))


def open_shared(url: str) -> SharedLedger:
    """Open the ledger of a cluster. Raises the errors of `open_ledger`."""
    with _translated_errors(url):
        return SqlSharedLedger(Database(url, Queue()))


def require_whole(data: Path, url: str = "") -> None:
    """Require that the ledger can be read completely, and written.

    Raises:
        RuntimeError: it is damaged, read-only, or the disk is full; the message says so.
    """
    ledger = open_ledger(data, url)
    try:
        with _translated_errors(url or data / FILE):
            if (found := ledger.damage()) is not None:
                raise RuntimeError(f"{data / FILE} is damaged ({found}); {RESTORE}")
            ledger.check()
    finally:
        ledger.close()


def step_back(data: Path, url: str = "") -> str:
    """Migrate the ledger to the schema before its own; return the version of that.

    Raises:
        RuntimeError: there is none, or the errors of `open_ledger`.
    """
    where: Path | str = url or data / FILE
    engine = connected(where)
    try:
        with _translated_errors(where), engine.begin() as connection:
            return downgrade(connection)
    except LookupError as error:
        raise RuntimeError(f"{data / FILE}: {error}") from None
    finally:
        engine.dispose()


@contextmanager
def _translated_errors(where: Path | str) -> Generator[None]:
    """Turn errors of the database into one sentence: what is wrong with the ledger, and what to do."""
    path = "the database of BNFOLD_DATABASE_URL" if isinstance(where, str) else where  # its URL has a password
    try:
        yield
    except CommandError:
        raise RuntimeError(
            f"{path} was written by a newer bnfold; upgrade bnfold, or let that one go back with `bnfold downgrade`"
        ) from None
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{path} needs the package {error.name}; install the extra `cluster`") from None
    except ArgumentError:
        raise RuntimeError(f"{path} cannot be used: the URL is none; write postgresql://USER@HOST/NAME") from None
    except DBAPIError as error:
        cause = str(error.orig).replace("\n", " ")
        how = next(
            (what for word, what in REMEDIES.items() if word in cause), REACH if isinstance(where, str) else RESTORE
        )
        raise RuntimeError(f"{path} cannot be used as the ledger: {cause}; {how}") from None
