"""The jobs of the ledger in a database."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, insert, select, update

from service import database
from service.blobs import Blob
from service.problems import WORTH_A_RETRY, Problem
from service.records import OPEN, Failure, Job, Output, Status
from service.schema import holdings, idempotency, jobs
from service.sql_holdings import hold

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row

    from service.database import Database
    from service.records import Idempotency, Quota, Stage

RETRY_AFTER = {"Retry-After": "30"}
OUTPUTS = ("result", "report", "page")


class SqlJobs:
    """See `service.ledger.Jobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, job: Job, quota: Quota, queue: int, request: Idempotency | None = None) -> tuple[Job, bool]:
        """See `service.ledger.Jobs`."""
        with self._database.write() as connection:
            if request is not None:
                _require_same(connection, job.key, request)
            known = _locked(connection, job.key, job.id)
            if known is not None and not _is_worth_a_retry(known):
                hold(connection, job.key, [job.input])
                connection.execute(update(jobs).where(_is(job.key, job.id)).values(name=job.name))
                return replace(known, name=job.name), False
            _require_room(connection, job, quota, queue)
            hold(connection, job.key, [job.input])
            if known is None:
                connection.execute(insert(jobs).values(_row(job)))
            else:
                connection.execute(update(jobs).where(_is(job.key, job.id)).values(_row(job)))
            return job, True

    def job(self, key: str, job: str) -> Job | None:
        """See `service.ledger.Jobs`."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(_is(key, job))).one_or_none()
            return None if row is None else _job(row)

    def start(self, key: str, job: str, attempts: int) -> Job | None:
        """See `service.ledger.Jobs`."""
        with self._database.write() as connection:
            known = _locked(connection, key, job)
            if known is None or not known.is_open:
                return None
            if known.attempts >= attempts:
                said = f"it was started {known.attempts} times, and each time the process or the server died"
                _end(connection, known, Output(), Failure("crashed", f"{said}; it is not tried again"))
                return None
            changed = replace(known, status="running", attempts=known.attempts + 1, stage=None, progress=0.0)
            _store(connection, changed)
            return changed

    def progress(self, key: str, job: str, stage: Stage, progress: float) -> None:
        """See `service.ledger.Jobs`."""
        running = update(jobs).where(_is(key, job), jobs.c.status == "running")
        with self._database.write() as connection:
            connection.execute(running.values(stage=stage, progress=progress, updated=time.time()))

    def finish(self, key: str, job: str, output: Output, failure: Failure | None) -> bool:
        """See `service.ledger.Jobs`."""
        with self._database.write() as connection:
            known = _locked(connection, key, job)
            if known is None or known.status != "running":
                return False
            _end(connection, known, output, failure)
            hold(connection, key, output.blobs)
            return True

    def give_back(self, key: str, job: str) -> None:
        """See `service.ledger.Jobs`."""
        running = update(jobs).where(_is(key, job), jobs.c.status == "running")
        queued = {"status": "queued", "stage": None, "progress": 0.0, "attempts": jobs.c.attempts - 1}
        with self._database.write() as connection:
            connection.execute(running.values(**queued, updated=time.time()))

    def cancel(self, key: str, job: str) -> bool:
        """See `service.ledger.Jobs`."""
        with self._database.write() as connection:
            known = _locked(connection, key, job)
            if known is None or not known.is_open:
                return False
            _end(connection, known, Output(), Failure("cancelled", "the job was cancelled; submit it again to run it"))
            return True

    def unfinished(self) -> list[tuple[str, str]]:
        """See `service.ledger.Jobs`."""
        found = select(jobs.c.key, jobs.c.id).where(jobs.c.status.in_(OPEN)).order_by(jobs.c.created)
        with self._database.read() as connection:
            return [(row.key, row.id) for row in connection.execute(found)]

    def interrupted(self) -> None:
        """See `service.ledger.Jobs`."""
        running = update(jobs).where(jobs.c.status == "running")
        with self._database.write() as connection:
            connection.execute(running.values(status="queued", stage=None, progress=0.0))

    def queue(self) -> tuple[int, float | None]:
        """See `service.ledger.Jobs`."""
        waiting = select(func.count(), func.min(jobs.c.created)).where(jobs.c.status == "queued")
        with self._database.read() as connection:
            count, oldest = connection.execute(waiting).one()
            return count, oldest


def _require_same(connection: Connection, key: str, request: Idempotency) -> None:
    row = {"key": key, "token": request.token, "fingerprint": request.fingerprint, "created": time.time()}
    connection.execute(database.insert(connection, idempotency).values(row).on_conflict_do_nothing())
    mine = and_(idempotency.c.key == key, idempotency.c.token == request.token)
    if connection.execute(select(idempotency.c.fingerprint).where(mine)).scalar_one() != request.fingerprint:
        said = "this Idempotency-Key came with another model or other options before; use a new one"
        raise Problem("idempotency-conflict", said)


def _require_room(connection: Connection, job: Job, quota: Quota, queue: int) -> None:
    mine = and_(jobs.c.key == job.key, jobs.c.status.in_(OPEN))
    counts = select(
        func.sum(case((jobs.c.status == "queued", 1), else_=0)),
        func.sum(case((mine, 1), else_=0)),
    )
    waiting, open_jobs = connection.execute(counts.where(jobs.c.status.in_(OPEN))).one()
    if (waiting or 0) >= queue:
        raise Problem("busy", f"{queue} jobs wait already; try again later", headers=RETRY_AFTER)
    if quota.open_jobs is not None and (open_jobs or 0) >= quota.open_jobs:
        said = f"{quota.open_jobs} jobs of this key have not ended yet; wait for one of them, or cancel it"
        raise Problem("quota-exceeded", said, headers=RETRY_AFTER)
    held = connection.execute(select(func.sum(holdings.c.bytes)).where(holdings.c.key == job.key)).scalar_one() or 0
    if quota.bytes is not None and held + job.input.bytes > quota.bytes:
        said = f"this key holds {held:,} of {quota.bytes:,} bytes; delete blobs that are no longer needed"
        raise Problem("quota-exceeded", said, headers=RETRY_AFTER)


def _is_worth_a_retry(job: Job) -> bool:
    return job.failure is not None and job.failure.slug in WORTH_A_RETRY


def _end(connection: Connection, job: Job, output: Output, failure: Failure | None) -> None:
    status: Status = "done" if failure is None else "cancelled" if failure.slug == "cancelled" else "failed"
    progress = 1.0 if failure is None else job.progress
    _store(connection, replace(job, status=status, stage=None, progress=progress, output=output, failure=failure))


def _store(connection: Connection, job: Job) -> None:
    connection.execute(update(jobs).where(_is(job.key, job.id)).values(_row(replace(job, updated=time.time()))))


def _locked(connection: Connection, key: str, job: str) -> Job | None:
    row = connection.execute(select(jobs).where(_is(key, job)).with_for_update()).one_or_none()
    return None if row is None else _job(row)


def _is(key: str, job: str) -> ColumnElement[bool]:
    return and_(jobs.c.key == key, jobs.c.id == job)


def _row(job: Job) -> dict[str, Any]:
    outputs = {name: getattr(job.output, name) for name in OUTPUTS}
    return {
        "key": job.key,
        "id": job.id,
        "name": job.name,
        "input_sha256": job.input.sha256,
        "input_bytes": job.input.bytes,
        "archive": job.archive,
        "options": job.options,
        "engine": job.engine,
        "created": job.created,
        "updated": job.updated,
        "status": job.status,
        "stage": job.stage,
        "progress": job.progress,
        "attempts": job.attempts,
        "media": job.output.media,
        "problem": job.failure and job.failure.slug,
        "detail": job.failure and job.failure.detail,
        **{f"{name}_sha256": blob and blob.sha256 for name, blob in outputs.items()},
        **{f"{name}_bytes": blob and blob.bytes for name, blob in outputs.items()},
    }


def _job(row: Row[Any]) -> Job:
    given = dict(row._mapping)
    blobs = {name: _blob(given.pop(f"{name}_sha256"), given.pop(f"{name}_bytes")) for name in ("input", *OUTPUTS)}
    slug, detail = given.pop("problem"), given.pop("detail")
    output = Output(media=given.pop("media"), **{name: blobs[name] for name in OUTPUTS})
    return Job(**given, input=blobs["input"], output=output, failure=Failure(slug, detail) if slug else None)


def _blob(sha256: str | None, size: int | None) -> Any:
    return None if sha256 is None or size is None else Blob(sha256, size)
