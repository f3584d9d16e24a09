"""The complete ledger in SQL, made of its parts; `open_ledger` opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.util import CommandError
from sqlalchemy import delete
from sqlalchemy.exc import DBAPIError

from service.ledger.database import Database
from service.ledger.holdings import SqlHoldings
from service.ledger.jobs import SqlJobs
from service.ledger.keys import SqlKeys
from service.ledger.schema import keys
from service.ledger.webhooks import SqlWebhooks

if TYPE_CHECKING:
    from pathlib import Path

    from service.ledger.interface import Ledger

FILE = "ledger.sqlite3"


class SqlLedger(SqlJobs, SqlHoldings, SqlKeys, SqlWebhooks):
    """See `service.ledger.interface.Ledger`."""

    def check(self) -> None:
        """See `service.ledger.interface.Ledger`."""
        with self._database.write() as connection:  # deletes nothing, but fails on a full or read-only disk
            connection.execute(delete(keys).where(keys.c.id == ""))

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
    path = data / FILE
    try:
        return SqlLedger(Database(path))
    except CommandError:
        raise RuntimeError(
            f"{path} was written by a newer bnfold; upgrade bnfold, or name another data folder"
        ) from None
    except DBAPIError as error:
        cause = str(error.orig)
        locked = "close the program that holds it, and try again"
        how = locked if "locked" in cause else "restore the file, or name another data folder"
        raise RuntimeError(f"{path} cannot be used as the ledger: {cause}; {how}") from None
