"""The keys of the ledger in SQL."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from service.ledger.records import Key, Quota
from service.ledger.schema import keys
from service.ledger.webhooks import give_up

if TYPE_CHECKING:
    from sqlalchemy import Row

    from service.ledger.database import Database


class SqlKeys:
    """See `service.ledger.interface.Keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_key(self, key: Key) -> None:
        """See `service.ledger.interface.Keys`."""
        row = asdict(key) | {"scopes": " ".join(key.scopes), "quota": json.dumps(asdict(key.quota))}
        with self._database.write() as connection:
            connection.execute(insert(keys).values(row))

    def all_keys(self) -> list[Key]:
        """See `service.ledger.interface.Keys`."""
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created))]

    def key(self, key: str) -> Key | None:
        """See `service.ledger.interface.Keys`."""
        with self._database.read() as connection:
            row = connection.execute(select(keys).where(keys.c.id == key, keys.c.revoked.is_(None))).one_or_none()
            return None if row is None else _key(row)

    def revoke_key(self, key: str) -> bool:
        """See `service.ledger.interface.Keys`."""
        known = update(keys).where(keys.c.id == key, keys.c.revoked.is_(None))
        with self._database.write() as connection:
            give_up(connection, key)
            return connection.execute(known.values(revoked=time.time())).rowcount == 1


def _key(row: Row[tuple[object, ...]]) -> Key:
    plain = dict(row._mapping)
    return Key(**plain | {"scopes": tuple(plain["scopes"].split()), "quota": Quota(**json.loads(plain["quota"]))})
