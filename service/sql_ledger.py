"""The ledger in a database: `open_ledger` makes all of it from the parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete

from service.database import Database
from service.schema import keys
from service.sql_holdings import SqlHoldings
from service.sql_jobs import SqlJobs
from service.sql_keys import SqlKeys
from service.sql_webhooks import SqlWebhooks

if TYPE_CHECKING:
    from pathlib import Path

    from service.ledger import Ledger

FILE = "ledger.sqlite3"


class SqlLedger(SqlJobs, SqlHoldings, SqlKeys, SqlWebhooks):
    """See `service.ledger.Ledger`."""

    def check(self) -> None:
        """See `service.ledger.Ledger`."""
        with self._database.write() as connection:  # of nothing: a full or read-only disk shows all the same
            connection.execute(delete(keys).where(keys.c.id == ""))

    def close(self) -> None:
        """See `service.ledger.Ledger`."""
        self._database.close()


def open_ledger(data: Path) -> Ledger:
    """The ledger in a data folder, which is made where it does not exist.

    Raises:
        sqlalchemy.exc.SQLAlchemyError, OSError: it cannot be opened.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SqlLedger(Database(data / FILE))
