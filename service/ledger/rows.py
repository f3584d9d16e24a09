"""Jobs as rows of the database, and `end`, the only way to end a job: it makes the job's webhooks due as well."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select, update

from service.blobs import Blob
from service.ledger import clock
from service.ledger.records import Failure, Job, Output, Status
from service.ledger.schema import jobs
from service.ledger.webhooks import fire

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row

    from service.ledger.queue import Queue

OUTPUTS = ("result", "report", "page")
NOT_RUNNING: dict[str, Any] = {"run": "", "worker": None}
QUEUE = "queue"  # an option of an engine, and so of its connections: where workers take jobs from
RUN_BYTES = 8
LONE_DEATHS = 5  # of servers or workers, in a row, while a job ran there and nothing else did: that is evidence
DEADLY = (
    f"the server died {LONE_DEATHS} times in a row while it folded this model and nothing else; please report the "
    "model; a new request tries again"
)


def end(connection: Connection, job: Job, output: Output, failure: Failure | None) -> Job:
    """End an open job, and make its webhooks due; return it as it is then."""
    status: Status = "done" if failure is None else "cancelled" if failure.slug == "cancelled" else "failed"
    progress = 1.0 if failure is None else job.progress
    ended = replace(job, status=status, stage=None, progress=progress, output=output, failure=failure, **NOT_RUNNING)
    stored = store(connection, ended)
    fire(connection, stored)
    return stored


def interrupted(connection: Connection, job: Job) -> Job:
    """Queue a job that ran where a server or a worker died, or end it after `LONE_DEATHS`; return it as it is then.

    The first death made it a suspect: something else may have run then, and nothing at those after it.
    """
    counted = replace(job, interruptions=job.interruptions + 1)
    if counted.interruptions > LONE_DEATHS:
        return end(connection, counted, Output(), Failure("crashed", DEADLY))
    return store(connection, queued_again(counted))


def queued_again(job: Job) -> Job:
    """The job as it waits again."""
    return replace(job, status="queued", stage=None, progress=0.0, output=Output(), failure=None, **NOT_RUNNING)


def store(connection: Connection, job: Job) -> Job:
    """Write a changed job; return it with the time of the change."""
    changed = replace(job, updated=time.time())
    connection.execute(update(jobs).where(is_job(job.key, job.id)).values(row_of(changed, clock.now(connection))))
    update_queue(connection, changed)
    return changed


def update_queue(connection: Connection, job: Job) -> None:
    """Let the queue of the workers, if there is one, agree with a job that has changed, in the same transaction."""
    queue: Queue | None = connection.get_execution_options().get(QUEUE)
    if queue is not None:
        queue.agree(connection, job)


def begun(job: Job, worker: int | None = None) -> Job:
    """The job at the start of another attempt, which has a name that no other one has."""
    run, waited = secrets.token_hex(RUN_BYTES), max(time.time() - job.updated, 0.0)
    again = replace(queued_again(job), waited=waited)
    return replace(again, status="running", attempts=job.attempts + 1, run=run, worker=worker)


def locked(connection: Connection, key: str, job: str, *, at_once: bool = False) -> Job | None:
    """The job, locked against other changes until this transaction ends; None if there is none.

    `at_once` does not wait for a transaction that has locked it: None then, too.
    """
    found = select(jobs).where(is_job(key, job)).with_for_update(skip_locked=at_once)
    row = connection.execute(found).one_or_none()
    return None if row is None else job_of(row)


def running(connection: Connection, key: str, job: str, run: str) -> Job | None:
    """The job, locked, if this attempt of it runs; None if it was cancelled, or goes on elsewhere."""
    known = locked(connection, key, job)
    return known if known is not None and known.status == "running" and known.run == run else None


def is_job(key: str, job: str) -> ColumnElement[bool]:
    """The condition that a row is that of the job."""
    return and_(jobs.c.key == key, jobs.c.id == job)


def row_of(job: Job, touched: float) -> dict[str, Any]:
    """The row of a job that changes at the time `touched` of the ledger's clock."""
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
        "crashes": job.crashes,
        "kills": job.kills,
        "interruptions": job.interruptions,
        "traceparent": job.traceparent,
        "run": job.run,
        "worker": job.worker,
        "parked": job.parked,
        "touched": touched,
        "media": job.output.media,
        "problem": job.failure and job.failure.slug,
        "detail": job.failure and job.failure.detail,
        **{f"{name}_sha256": blob and blob.sha256 for name, blob in outputs.items()},
        **{f"{name}_bytes": blob and blob.bytes for name, blob in outputs.items()},
    }


def job_of(row: Row[Any]) -> Job:
    """The job of a row."""
    given = dict(row._mapping)
    del given["touched"]
    blobs = {name: _blob(given.pop(f"{name}_sha256"), given.pop(f"{name}_bytes")) for name in ("input", *OUTPUTS)}
    slug, detail = given.pop("problem"), given.pop("detail")
    output = Output(media=given.pop("media"), **{name: blobs[name] for name in OUTPUTS})
    return Job(**given, input=blobs["input"], output=output, failure=Failure(slug, detail) if slug else None)


def _blob(sha256: str | None, size: int | None) -> Any:
    return None if sha256 is None or size is None else Blob(sha256, size)
