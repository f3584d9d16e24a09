"""The keys of the ledger in SQL, and the end of what belongs to them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, insert, or_, select, update

from service.ledger import database
from service.ledger.holdings import key_lock
from service.ledger.records import OPEN, Failure, Key, Output, Quota
from service.ledger.rows import end, job_of
from service.ledger.schema import holdings, idempotency, jobs, keys, webhooks
from service.ledger.webhooks import PENDING, give_up

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row

    from service.ledger.database import Database

ENDED = Failure("cancelled", "the API key of this job was revoked or has expired")


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
            row = connection.execute(select(keys).where(keys.c.id == key, ~_has_ended(time.time()))).one_or_none()
            return None if row is None else _key(row)

    def rotate_key(self, key: str, digest: str, until: float) -> bool:
        """See `service.ledger.interface.Keys`."""
        known = update(keys).where(keys.c.id == key, ~_has_ended(time.time()))
        with self._database.write() as connection:
            changed = connection.execute(known.values(previous=keys.c.hash, previous_until=until, hash=digest))
            return changed.rowcount == 1

    def revoke_key(self, key: str, *, erase: bool = False) -> bool:
        """See `service.ledger.interface.Keys`."""
        known = update(keys).where(keys.c.id == key)
        with self._database.write() as connection:
            give_up(connection, key)
            revoked = connection.execute(known.where(keys.c.revoked.is_(None)).values(revoked=time.time())).rowcount
            marked = connection.execute(known.values(erasing=True)).rowcount if erase else 0
            return revoked + marked > 0

    def ended_keys(self, now: float) -> set[str]:
        """See `service.ledger.interface.Keys`."""
        with self._database.read() as connection:
            return set(connection.execute(select(keys.c.id).where(_has_ended(now))).scalars())

    def end_jobs(self, now: float) -> list[tuple[str, str]]:
        """See `service.ledger.interface.Keys`."""
        ended = select(keys.c.id).where(_has_ended(now))
        concerned = select(jobs).where(jobs.c.status.in_(OPEN), jobs.c.key.in_(ended))
        owed = select(webhooks.c.key).where(webhooks.c.state.in_(PENDING), webhooks.c.key.in_(ended)).distinct()
        with self._database.read() as connection:  # nearly always there is nothing to write
            if not connection.execute(select(or_(concerned.exists(), owed.exists()))).scalar_one():
                return []
        with self._database.write() as connection:
            found = [job_of(row) for row in connection.execute(concerned.with_for_update())]
            for job in found:
                end(connection, job, Output(), ENDED)
            for key in list(connection.execute(owed).scalars()):
                give_up(connection, key)
            return [(job.key, job.id) for job in found]

    def erasing(self) -> list[str]:
        """See `service.ledger.interface.Keys`."""
        with self._database.read() as connection:
            return list(connection.execute(select(keys.c.id).where(keys.c.erasing)).scalars())

    def erase_key(self, key: str) -> list[str]:
        """See `service.ledger.interface.Keys`."""
        with self._database.write() as connection:
            database.alone(connection, [key_lock(key)])
            held = list(connection.execute(select(holdings.c.sha256).where(holdings.c.key == key)).scalars())
            for table in (jobs, holdings, idempotency, webhooks):
                connection.execute(delete(table).where(table.c.key == key))
            connection.execute(update(keys).where(keys.c.id == key).values(erasing=False))
            is_held = select(holdings.c.sha256).where(holdings.c.sha256.in_(held))
            return sorted(set(held) - set(connection.execute(is_held).scalars()))


def _has_ended(now: float) -> ColumnElement[bool]:
    return or_(keys.c.revoked.is_not(None), and_(keys.c.expires.is_not(None), keys.c.expires <= now))


def _key(row: Row[tuple[object, ...]]) -> Key:
    plain = dict(row._mapping)
    return Key(**plain | {"scopes": tuple(plain["scopes"].split()), "quota": Quota(**json.loads(plain["quota"]))})
