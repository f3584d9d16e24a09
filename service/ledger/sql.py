"""The complete ledger in SQL, made of its parts; `open_ledger` opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete

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
        sqlalchemy.exc.SQLAlchemyError, OSError: it cannot be opened.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SqlLedger(Database(data / FILE))
