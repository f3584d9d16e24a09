"""The complete ledger in SQL, made of its parts; `open_ledger` opens it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from alembic.util import CommandError
from sqlalchemy import delete
from sqlalchemy.exc import DBAPIError

from service.ledger.database import Database, connected
from service.ledger.holdings import SqlHoldings
from service.ledger.jobs import SqlJobs
from service.ledger.keys import SqlKeys
from service.ledger.migrations import downgrade
from service.ledger.overview import SqlOverview
from service.ledger.schema import keys
from service.ledger.webhooks import SqlWebhooks

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from service.ledger.interface import Ledger

FILE = "ledger.sqlite3"
RESTORE = "restore the file, or name another data folder"
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

    def damage(self) -> str | None:
        """See `service.ledger.interface.Ledger`."""
        with self._database.read() as connection:
            found: str = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            return None if found == "ok" else found.replace("\n", " ")

    def close(self) -> None:
        """See `service.ledger.interface.Ledger`."""
        self._database.close()


def open_ledger(data: Path) -> Ledger:
    """Open the ledger in a data folder, which is created if it does not exist.

    Raises:
        RuntimeError: its file is locked, is no ledger, or one of a newer bnfold.
        OSError: the folder or the file cannot be made.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _told(data / FILE):
        return SqlLedger(Database(data / FILE))


def require_whole(data: Path) -> None:
    """Require that the ledger in a data folder can be read completely, and written.

    Raises:
        RuntimeError: it is damaged, read-only, or the disk is full; the message says so.
    """
    ledger = open_ledger(data)
    try:
        with _told(data / FILE):
            if (found := ledger.damage()) is not None:
                raise RuntimeError(f"{data / FILE} is damaged ({found}); {RESTORE}")
            ledger.check()
    finally:
        ledger.close()


def step_back(data: Path) -> str:
    """Migrate the ledger in a data folder to the schema before its own; return the version of that.

    Raises:
        RuntimeError: there is none, or the errors of `open_ledger`.
    """
    engine = connected(data / FILE)
    try:
        with _told(data / FILE), engine.begin() as connection:
            return downgrade(connection)
    except LookupError as error:
        raise RuntimeError(f"{data / FILE}: {error}") from None
    finally:
        engine.dispose()


@contextmanager
def _told(path: Path) -> Generator[None]:
    """Tell what is wrong with a ledger, and what to do, in one sentence."""
    try:
        yield
    except CommandError:
        raise RuntimeError(
            f"{path} was written by a newer bnfold; upgrade bnfold, or let that one go back with `bnfold downgrade`"
        ) from None
    except DBAPIError as error:
        cause = str(error.orig)
        how = next((what for word, what in REMEDIES.items() if word in cause), RESTORE)
        raise RuntimeError(f"{path} cannot be used as the ledger: {cause}; {how}") from None
