"""The jobs of the ledger in SQL."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, func, insert, select, update

from service.ledger import clock, database
from service.ledger.holdings import hold, key_lock
from service.ledger.records import OPEN, Failure, Job, Output, has_share
from service.ledger.rows import (
    begun,
    end,
    interrupted,
    is_job,
    job_of,
    locked,
    queued_again,
    row_of,
    running,
    store,
    update_queue,
)
from service.ledger.schema import holdings, idempotency, jobs
from service.ledger.webhooks import ask
from service.problems import WORTH_A_RETRY, Problem

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.ledger.database import Database
    from service.ledger.records import Idempotency, Quota, Room, Stage

RETRY_AFTER = {"Retry-After": "30"}
LONGEST_RETRY = 300.0  # seconds


class SqlJobs:
    """See `service.ledger.interface.Jobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(
        self, job: Job, quota: Quota, room: Room, request: Idempotency | None = None, webhook: str | None = None
    ) -> tuple[Job, bool]:
        """See `service.ledger.interface.Jobs`."""
        with self._database.write() as connection:
            database.alone(connection, [key_lock(job.key)])
            database.together(connection, [job.input.sha256])
            is_repeated = request is not None and _is_repeated(connection, job.key, request)
            accepted, is_new = _accept(connection, job, quota, room)
            if webhook is not None:
                ask(connection, accepted, webhook, job.traceparent, is_repeated=is_repeated)
            return accepted, is_new

    def job(self, key: str, job: str) -> Job | None:
        """See `service.ledger.interface.Jobs`."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(is_job(key, job))).one_or_none()
            return None if row is None else job_of(row)

    def start(self, key: str, job: str) -> Job | None:
        """See `service.ledger.interface.Jobs`."""
        with self._database.write() as connection:
            known = locked(connection, key, job)
            if known is None or not known.is_open:
                return None
            return store(connection, begun(known))

    def died(self, key: str, job: str, run: str, failure: Failure, most: int) -> bool:
        """See `service.ledger.interface.Jobs`."""
        with self._database.write() as connection:
            known = running(connection, key, job, run)
            if known is None:
                return False
            is_killed = failure.slug == "killed"
            counted = replace(known, crashes=known.crashes + (not is_killed), kills=known.kills + is_killed)
            if (counted.kills if is_killed else counted.crashes) < most:
                store(connection, queued_again(counted))
                return True
            end(connection, counted, Output(), failure)
            return False

    def progress(self, key: str, job: str, run: str, stage: Stage, progress: float) -> None:
        """See `service.ledger.interface.Jobs`."""
        mine = update(jobs).where(is_job(key, job), jobs.c.status == "running", jobs.c.run == run)
        with self._database.write() as connection:
            connection.execute(mine.values(stage=stage, progress=progress, updated=time.time()))
            if self._database.queue is not None:
                self._database.queue.notify(connection, key, job)

    def finish(self, key: str, job: str, run: str, output: Output, failure: Failure | None) -> bool:
        """See `service.ledger.interface.Jobs`."""
        with self._database.write() as connection:
            database.together(connection, [blob.sha256 for blob in output.blobs])
            known = running(connection, key, job, run)
            if known is None:
                return False
            end(connection, known, output, failure)
            hold(connection, key, output.blobs)
            return True

    def give_back(self, key: str, job: str, run: str) -> None:
        """See `service.ledger.interface.Jobs`."""
        with self._database.write() as connection:
            known = running(connection, key, job, run)
            if known is not None:
                store(connection, replace(queued_again(known), attempts=known.attempts - 1))

    def cancel(self, key: str, job: str) -> bool:
        """See `service.ledger.interface.Jobs`."""
        with self._database.write() as connection:
            known = locked(connection, key, job)
            if known is None or not known.is_open:
                return False
            end(connection, known, Output(), Failure("cancelled", "the job was cancelled; submit it again to run it"))
            return True

    def unfinished(self) -> list[Job]:
        """See `service.ledger.interface.Jobs`."""
        found = select(jobs).where(jobs.c.status.in_(OPEN), ~jobs.c.parked).order_by(jobs.c.created)
        with self._database.read() as connection:
            return [job_of(row) for row in connection.execute(found)]

    def interrupted(self) -> list[Job]:
        """See `service.ledger.interface.Jobs`."""
        with self._database.write() as connection:
            rows = connection.execute(select(jobs).where(jobs.c.status == "running").with_for_update()).all()
            return [job for job in (interrupted(connection, job_of(row)) for row in rows) if not job.is_open]


def _accept(connection: Connection, job: Job, quota: Quota, room: Room) -> tuple[Job, bool]:
    known = locked(connection, job.key, job.id)
    is_new = known is None or _is_worth_a_retry(known)
    if is_new:
        _require_room(connection, job, quota, room)
    _require_bytes(connection, job, quota, is_new=is_new)
    hold(connection, job.key, [job.input])
    if known is not None and not is_new:
        connection.execute(update(jobs).where(is_job(job.key, job.id)).values(name=job.name))
        return replace(known, name=job.name), False
    row = row_of(job, clock.now(connection))
    if known is None:
        connection.execute(insert(jobs).values(row))
    else:
        connection.execute(update(jobs).where(is_job(job.key, job.id)).values(row))
    update_queue(connection, job)
    return job, True


def _is_repeated(connection: Connection, key: str, request: Idempotency) -> bool:
    """Whether the request came before. Raises Problem (idempotency-conflict) if its key came with another request."""
    row: dict[str, Any] = {"key": key, "token": request.token, "fingerprint": request.fingerprint}
    row["created"] = clock.now(connection)
    inserted = database.insert(connection, idempotency).values(row).on_conflict_do_nothing()
    is_new = connection.execute(inserted.returning(idempotency.c.key)).one_or_none() is not None
    mine = and_(idempotency.c.key == key, idempotency.c.token == request.token)
    if connection.execute(select(idempotency.c.fingerprint).where(mine)).scalar_one() != request.fingerprint:
        detail = "this Idempotency-Key came with another model or other options before; use a new one"
        raise Problem("idempotency-conflict", detail)
    return not is_new


def _require_room(connection: Connection, job: Job, quota: Quota, room: Room) -> None:
    waits, own = case((jobs.c.status == "queued", 1), else_=0), case((jobs.c.key == job.key, 1), else_=0)
    counts = select(func.sum(waits), func.sum(waits * own), func.sum(own)).where(jobs.c.status.in_(OPEN))
    waiting, mine, open_jobs = (count or 0 for count in connection.execute(counts).one())
    free = room.jobs - waiting
    if free <= 0:
        raise Problem("busy", f"{room.jobs} jobs wait already; try again later", headers=RETRY_AFTER)
    _require_pace(connection, job.key, room.seconds)
    if not has_share(job.key, mine, free):
        detail = f"{mine} jobs of this key wait already, and {free} places are left for all; try again later"
        raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)
    if quota.open_jobs is not None and open_jobs >= quota.open_jobs:
        detail = f"this key may have {quota.open_jobs} open at a time; wait until one has ended, or cancel it"
        raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)


def _require_pace(connection: Connection, key: str, seconds: float) -> None:
    """Check that the oldest job of a key that waits, and is no suspect, has not waited too long.

    What waits is served in about the time in which the oldest of it has waited (Little's law): a new job would wait so
    long, too. So a client may ask again when half of that is over.
    """
    mine = and_(jobs.c.key == key, jobs.c.status == "queued", jobs.c.kills + jobs.c.interruptions == 0, ~jobs.c.parked)
    oldest = connection.execute(select(func.min(jobs.c.touched)).where(mine)).scalar_one()
    age = 0.0 if oldest is None else clock.now(connection) - oldest
    if age > seconds:
        after = round(min(max(age / 2, 1), LONGEST_RETRY))
        detail = f"jobs of this key wait for {age:.0f} s already; send more in {after} s"
        raise Problem("quota-exceeded", detail, headers={"Retry-After": str(after)})


def _require_bytes(connection: Connection, job: Job, quota: Quota, *, is_new: bool) -> None:
    """Check the quota of bytes. A known job needs none if its input is held; a held input does not count again."""
    if quota.bytes is None:
        return
    mine = holdings.c.key == job.key
    is_held = connection.execute(select(exists().where(mine, holdings.c.sha256 == job.input.sha256))).scalar_one()
    if is_held and not is_new:
        return
    held = connection.execute(select(func.sum(holdings.c.bytes)).where(mine)).scalar_one() or 0
    if job.input.bytes > quota.bytes:
        detail = f"the upload has {job.input.bytes:,} bytes, and this key may keep {quota.bytes:,} in all"
        raise Problem("too-large", detail)
    if held + (0 if is_held else job.input.bytes) > quota.bytes:
        detail = f"this key holds {held:,} of {quota.bytes:,} bytes; delete blobs that are no longer needed"
        raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)


def _is_worth_a_retry(job: Job) -> bool:
    return job.failure is not None and job.failure.slug in WORTH_A_RETRY
