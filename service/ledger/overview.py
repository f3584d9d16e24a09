"""What a key has, and how it is erased, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, case, delete, func, literal_column, or_, select, tuple_

from service.ledger import database
from service.ledger.holdings import drop, key_lock
from service.ledger.records import OPEN, Load, Open, Overview, Place, Standing
from service.ledger.rows import is_job, job_of, locked
from service.ledger.schema import holdings, jobs, webhooks
from service.ledger.webhooks import DUE
from service.metrics import SIZES

if TYPE_CHECKING:
    from service.ledger.database import Database
    from service.ledger.records import Job

BLOBS_OF_JOBS = (jobs.c.input_sha256, jobs.c.result_sha256, jobs.c.report_sha256, jobs.c.page_sha256)


class SqlOverview:
    """See `service.ledger.interface.Overviews`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def jobs_of(self, key: str, before: Place | None, limit: int) -> list[Job]:
        """See `service.ledger.interface.Overviews`."""
        found = select(jobs).where(jobs.c.key == key)
        if before is not None:
            found = found.where(tuple_(jobs.c.created, jobs.c.id) < tuple_(*before))
        with self._database.read() as connection:
            rows = connection.execute(found.order_by(jobs.c.created.desc(), jobs.c.id.desc()).limit(limit))
            return [job_of(row) for row in rows]

    def overview(self, key: str) -> Overview:
        """See `service.ledger.interface.Overviews`."""
        held = select(func.count(), func.coalesce(func.sum(holdings.c.bytes), 0)).where(holdings.c.key == key)
        states = select(jobs.c.status, func.count()).where(jobs.c.key == key).group_by(jobs.c.status)
        events = select(webhooks.c.state, func.count()).where(webhooks.c.key == key).group_by(webhooks.c.state)
        with self._database.read() as connection:
            blobs, size = connection.execute(held).one()
            by_status = {row[0]: row[1] for row in connection.execute(states)}
            by_state = {row[0]: row[1] for row in connection.execute(events)}
        return Overview(blobs, int(size), by_status, by_state)

    def load(self) -> Load:
        """See `service.ledger.interface.Overviews`."""
        size = case(*((jobs.c.input_bytes <= bound, label) for bound, label in SIZES)).label("size")
        by_class = select(jobs.c.status, size, func.count(), func.min(jobs.c.created))
        by_class = by_class.where(jobs.c.status.in_(OPEN), ~jobs.c.parked)
        suspects = select(func.count()).where(jobs.c.status.in_(OPEN), jobs.c.kills + jobs.c.interruptions > 0)
        parked = select(func.count()).where(jobs.c.status.in_(OPEN), jobs.c.parked)
        due = select(func.count(), func.min(webhooks.c.due)).where(webhooks.c.state == DUE)
        with self._database.read() as connection:
            found = tuple(
                Open(*row) for row in connection.execute(by_class.group_by(jobs.c.status, literal_column("size")))
            )
            alone, kept = connection.execute(suspects).scalar_one(), connection.execute(parked).scalar_one()
            events, first = connection.execute(due).one()
        late = 0.0 if first is None else max(self._database.clock.now() - first, 0.0)
        return Load(found, alone, kept, events, late)

    def standings(self) -> list[Standing]:
        """See `service.ledger.interface.Overviews`."""
        counted = {
            name: func.sum(case((condition, 1), else_=0)).label(name)
            for name, condition in {
                "waiting": and_(jobs.c.status == "queued", ~jobs.c.parked),
                "running": jobs.c.status == "running",
                "parked": jobs.c.parked,
            }.items()
        }
        since = func.min(case((and_(jobs.c.status == "queued", ~jobs.c.parked), jobs.c.updated))).label("since")
        by_key = select(jobs.c.key, *counted.values(), since).where(jobs.c.status.in_(OPEN)).group_by(jobs.c.key)
        with self._database.read() as connection:
            return [Standing(**row._mapping) for row in connection.execute(by_key.order_by(jobs.c.key))]

    def erase_job(self, key: str, job: str) -> list[str]:
        """See `service.ledger.interface.Overviews`."""
        with self._database.write() as connection:
            database.alone(connection, [key_lock(key)])
            known = locked(connection, key, job)
            if known is None or known.is_open:
                return []
            connection.execute(delete(webhooks).where(webhooks.c.key == key, webhooks.c.job == job))
            connection.execute(delete(jobs).where(is_job(key, job)))
            gone = []
            for blob in {known.input, *known.output.blobs}:
                others = select(func.count()).where(jobs.c.key == key, or_(*(c == blob.sha256 for c in BLOBS_OF_JOBS)))
                if not connection.execute(others).scalar_one() and drop(connection, key, blob.sha256):
                    gone.append(blob.sha256)
            return gone
