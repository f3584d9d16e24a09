"""The outbox of the ledger in SQL.

A webhook is `waiting` until its job ends, then `due` until it is `delivered` or `given-up`. The transaction that
accepts the job stores it, and the transaction that ends the job makes it due: delivery is at least once.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy import ColumnElement, and_, case, delete, exists, func, insert, select, tuple_, update

from service.ledger import clock
from service.ledger.events import event_body
from service.ledger.records import Webhook
from service.ledger.schema import webhooks
from service.problems import Problem

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.ledger.database import Database
    from service.ledger.records import Job, Occupied

PENDING_OF_KEY = 1000  # webhooks of one key that are waiting or due
PENDING_OF_JOB = 10  # and of one job, for which few clients wait
ID_BYTES = 16
RETRY_AFTER = {"Retry-After": "30"}
TAKEN_SECONDS = 60.0  # one of several servers has so long for an attempt and its record
WAITING, DUE, DELIVERED, GIVEN_UP = "waiting", "due", "delivered", "given-up"
PENDING = (WAITING, DUE)


class SqlWebhooks:
    """See `service.ledger.interface.Webhooks`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_webhook(self, occupied: Occupied) -> Webhook | None:
        """See `service.ledger.interface.Webhooks`."""
        columns = [webhooks.c[name] for name in Webhook.__dataclass_fields__]
        found = select(*columns).where(
            webhooks.c.state == DUE,
            webhooks.c.due <= self._database.clock.now(),
            webhooks.c.id.not_in(occupied.ids),
            webhooks.c.key.not_in(occupied.keys),
            tuple_(webhooks.c.key, webhooks.c.receiver).not_in(occupied.receivers),
        )
        chosen = found.order_by(webhooks.c.due).limit(1)
        with self._database.read() as connection:
            row = connection.execute(chosen).one_or_none()
        if row is not None and self._database.is_shared:
            with self._database.write() as connection:  # so that no other server sends it, unless this one dies
                row = connection.execute(chosen.with_for_update(skip_locked=True)).one_or_none()
                if row is not None:
                    mine, due = webhooks.c.id == row.id, self._database.clock.now() + TAKEN_SECONDS
                    connection.execute(update(webhooks).where(mine).values(due=due))
        return None if row is None else Webhook(**row._mapping)

    def failed_webhook(self, id_: str, delay: float) -> None:
        """See `service.ledger.interface.Webhooks`."""
        mine = and_(webhooks.c.id == id_, webhooks.c.state == DUE)
        now = self._database.clock.now()
        again = {"attempts": webhooks.c.attempts + 1, "due": now + delay, "updated": now}
        with self._database.write() as connection:
            connection.execute(update(webhooks).where(mine).values(**again))

    def ended_webhook(self, id_: str, *, delivered: bool) -> None:
        """See `service.ledger.interface.Webhooks`."""
        with self._database.write() as connection:
            _end(connection, webhooks.c.id == id_, DELIVERED if delivered else GIVEN_UP)


def ask(connection: Connection, job: Job, url: str, traceparent: str | None, *, is_repeated: bool) -> None:
    """Store a webhook for the next end of a job, or, if the job has ended, for that end, due at once.

    `traceparent` is that of the request. A URL is notified once for each end: a waiting URL is not stored again, nor is
    that of a repeated request.

    Raises:
        Problem: quota-exceeded.
    """
    mine = and_(webhooks.c.key == job.key, webhooks.c.job == job.id, webhooks.c.url == url)
    known = and_(mine, webhooks.c.state == WAITING) if job.is_open else mine
    if (job.is_open or is_repeated) and connection.execute(select(exists().where(known))).scalar_one():
        return
    _require_room(connection, job)
    state, now = WAITING if job.is_open else DUE, clock.now(connection)
    row: dict[str, Any] = {"id": f"msg_{secrets.token_hex(ID_BYTES)}", "key": job.key, "job": job.id, "url": url}
    row |= {"receiver": httpx.URL(url).netloc.decode(), "state": state, "attempts": 0, "due": now, "updated": now}
    row |= {"traceparent": traceparent}
    connection.execute(insert(webhooks).values(**row, body=None if job.is_open else event_body(job)))


def fire(connection: Connection, job: Job) -> None:
    """Make the webhooks of a job that has ended due."""
    waiting = and_(webhooks.c.key == job.key, webhooks.c.job == job.id, webhooks.c.state == WAITING)
    if not connection.execute(select(exists().where(waiting))).scalar_one():
        return
    now = clock.now(connection)
    values = {"state": DUE, "body": event_body(job), "due": now, "updated": now}
    connection.execute(update(webhooks).where(waiting).values(**values))


def give_up(connection: Connection, key: str) -> None:
    """Give up all webhooks of a key that are not delivered."""
    _end(connection, and_(webhooks.c.key == key, webhooks.c.state.in_(PENDING)), GIVEN_UP)


def forget(connection: Connection, before: float) -> None:
    """Remove webhooks that ended before a time."""
    connection.execute(delete(webhooks).where(webhooks.c.state.not_in(PENDING), webhooks.c.updated < before))


def _end(connection: Connection, which: ColumnElement[bool], state: str) -> None:
    connection.execute(update(webhooks).where(which).values(state=state, body=None, updated=clock.now(connection)))


def _require_room(connection: Connection, job: Job) -> None:
    of_job = func.sum(case((webhooks.c.job == job.id, 1), else_=0))
    pending = and_(webhooks.c.key == job.key, webhooks.c.state.in_(PENDING))
    key, own = connection.execute(select(func.count(), of_job).where(pending)).one()
    for count, most, whose in ((key, PENDING_OF_KEY, "this key"), (own or 0, PENDING_OF_JOB, "this job")):
        if count >= most:
            detail = f"{most} webhooks of {whose} are not delivered yet; send the model without one, or later"
            raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)
