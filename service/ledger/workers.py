"""The workers of the ledger, in PostgreSQL: who takes which job, who is alive, and what becomes of jobs of the dead.

The times of heartbeats are those of the database: the clocks of machines may differ.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, insert, select, text, update

from service.ledger import clock, database
from service.ledger.queue import FETCH, HURRY, REMOVE, WAITING, Waiting, address, tag
from service.ledger.records import OPEN, Beat, Worker
from service.ledger.rows import begun, interrupted, is_job, job_of, locked, queued_again, store, update_queue
from service.ledger.schema import holdings, jobs, workers

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from service.ledger.database import Database
    from service.ledger.records import Job

RECOVERY = "recovery"  # the name of a lock
AT_ONCE = 100  # jobs that one transaction recovers
REGISTER = text("SELECT worker_id FROM procrastinate_register_worker_v1()")
UNREGISTER = text("SELECT procrastinate_unregister_worker_v1(:worker)")
BEAT = text("SELECT procrastinate_update_heartbeat_v1(:worker)")
PRUNE = text("SELECT procrastinate_prune_stalled_workers_v1(:seconds)")
ALIVE = text("SELECT id, EXTRACT(EPOCH FROM now() - last_heartbeat) AS age FROM procrastinate_workers")
STALLED = text(
    "SELECT job.id, job.args FROM procrastinate_jobs job "
    "LEFT JOIN procrastinate_workers worker ON worker.id = job.worker_id "
    "WHERE job.status = 'doing' "
    "AND (worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => :seconds)) "
    "LIMIT :most FOR UPDATE OF job SKIP LOCKED"
)
NO_ROW = text(
    "NOT EXISTS (SELECT FROM procrastinate_jobs q WHERE q.status = 'todo' AND q.queueing_lock = key || '/' || jobs.id) "
    "AND NOT EXISTS (SELECT FROM procrastinate_jobs q WHERE q.status = 'doing' AND q.lock = key || '/' || jobs.id)"
)


class SqlWorkers:
    """See `service.ledger.interface.Workers`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def enter(self, name: str, engine: str, slots: int) -> int:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            worker: int = connection.execute(REGISTER).scalar_one()
            row: dict[str, Any] = {"id": worker, "name": name, "engine": engine, "slots": slots}
            connection.execute(insert(workers).values(row | {"began": time.time(), "draining": False}))
            return worker

    def leave(self, worker: int) -> None:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            connection.execute(UNREGISTER, {"worker": worker})
            connection.execute(delete(workers).where(workers.c.id == worker))

    def beat(self, worker: int) -> Beat:
        """See `service.ledger.interface.Workers`."""
        mine = select(jobs.c.run, jobs.c.key, jobs.c.id).where(jobs.c.worker == worker, jobs.c.status == "running")
        with self._database.write() as connection:
            connection.execute(BEAT, {"worker": worker})
            known = connection.execute(select(workers.c.draining).where(workers.c.id == worker)).scalar_one_or_none()
            alive = worker in {row.id for row in connection.execute(ALIVE)}
            clock.write(connection)
            runs = {row.run: (row.key, row.id) for row in connection.execute(mine)}
            return Beat(is_known=alive and known is not None, draining=bool(known), runs=runs)

    def takeable(self, engine: str) -> list[Waiting]:
        """See `service.ledger.interface.Workers`."""
        with self._database.read() as connection:
            return _takeable(connection, engine)

    def take(self, worker: int, queue: str) -> Job | None:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            row = connection.execute(FETCH, {"queue": queue, "worker": worker}).one()
            if row.id is None:
                return None  # another worker was faster
            key, id_ = row.args["key"], row.args["job"]
            job = locked(connection, key, id_, at_once=True)
            if job is None and connection.execute(select(exists().where(is_job(key, id_)))).scalar_one():
                connection.rollback()  # somebody changes it right now
                return None
            if job is None or job.status != "queued":
                connection.execute(REMOVE, {"id": row.id})
                return None
            return store(connection, begun(job, worker))

    def hurry(self, job: Job) -> None:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            connection.execute(HURRY, {"address": address(job)})

    def recover(self, seconds: float) -> list[Job]:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            clock.write(connection)
            if not database.first(connection, RECOVERY):
                return []  # another server does it now
            found = []
            for row in connection.execute(STALLED, {"seconds": seconds, "most": AT_ONCE}).all():
                job = locked(connection, row.args["key"], row.args["job"], at_once=True)
                if job is not None and job.status == "running":
                    found.append(interrupted(connection, job))
                elif job is not None:  # what changed it did not know the queue
                    update_queue(connection, job)
            connection.execute(PRUNE, {"seconds": seconds})
            alive = [row.id for row in connection.execute(ALIVE)]
            connection.execute(delete(workers).where(workers.c.id.not_in(alive)))
            return found

    def reconcile(self) -> int:
        """See `service.ledger.interface.Workers`."""
        left = and_(jobs.c.status.in_(OPEN), ~jobs.c.parked, NO_ROW)
        count = 0
        with self._database.write() as connection:
            if not database.first(connection, RECOVERY):
                return 0
            for row in connection.execute(select(jobs).where(left).with_for_update(skip_locked=True)).all():
                job = job_of(row)
                if job.status == "running":
                    interrupted(connection, job)
                else:
                    update_queue(connection, job)
                count += 1
        return count

    def open_jobs(self) -> list[Job]:
        """See `service.ledger.interface.Workers`."""
        found = select(jobs).where(jobs.c.status.in_(OPEN)).order_by(jobs.c.created)
        with self._database.read() as connection:
            return [job_of(row) for row in connection.execute(found)]

    def waiting(self) -> list[Waiting]:
        """See `service.ledger.interface.Workers`."""
        with self._database.read() as connection:
            return _waiting(connection)

    def all_workers(self) -> list[Worker]:
        """See `service.ledger.interface.Workers`."""
        with self._database.read() as connection:
            ages = {row.id: float(row.age) for row in connection.execute(ALIVE)}
            running = select(jobs.c.worker, jobs.c.key, jobs.c.id).where(jobs.c.status == "running")
            busy: dict[int, list[str]] = {}
            for row in connection.execute(running):
                busy.setdefault(row.worker, []).append(f"{row.key}/{row.id}")
            found = connection.execute(select(workers).order_by(workers.c.id)).all()
            return [
                Worker(
                    row.id,
                    row.name,
                    row.engine,
                    row.slots,
                    row.began,
                    row.draining,
                    ages.get(row.id),
                    tuple(busy.get(row.id, ())),
                )
                for row in found
            ]

    def drain(self, worker: int) -> bool:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            return connection.execute(update(workers).where(workers.c.id == worker).values(draining=True)).rowcount > 0

    def park(self, key: str, job: str) -> bool:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            known = locked(connection, key, job)
            if known is None or not known.is_open or known.parked:
                return False
            store(connection, replace(queued_again(known), parked=True))
            return True

    def retry(self, key: str, job: str) -> bool:
        """See `service.ledger.interface.Workers`."""
        with self._database.write() as connection:
            known = locked(connection, key, job)
            if known is None or not (known.parked or known.status in {"failed", "cancelled"}):
                return False
            held = exists().where(holdings.c.key == key, holdings.c.sha256 == known.input.sha256)
            if not connection.execute(select(held)).scalar_one():
                return False
            store(connection, replace(queued_again(known), parked=False, crashes=0, kills=0, interruptions=0))
            return True


def _waiting(connection: Connection) -> list[Waiting]:
    found = connection.execute(WAITING)
    return [Waiting(row.queue_name, urgent=row.priority > 0, number=row.number) for row in found]


def _takeable(connection: Connection, engine: str) -> list[Waiting]:
    """What a worker of this bnfold may take: its own jobs, and those of others if no worker of theirs is left.

    The result of a job belongs to the version that accepted it; so another one folds it only before nobody does.
    """
    found = [one for one in _waiting(connection) if one.is_known]
    if all(one.tag == tag(engine) for one in found):
        return found
    others = {tag(name) for name in connection.execute(select(workers.c.engine).distinct()).scalars()} - {tag(engine)}
    return [one for one in found if one.tag not in others]
