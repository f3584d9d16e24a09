"""The queue of the workers: Procrastinate's tables in the ledger's database, which agree with its jobs.

A job that is queued has a row `todo`, one that runs has a row `doing`, one that has ended has none: the transaction
that changes the job changes its row. So nothing that is accepted is lost between the two, and nothing is delivered that
the ledger does not know. Each key has queues of its own, and a worker decides whose is next, as `service.engine.turns`
says: Procrastinate hands out the next row of that queue, urgent ones first, to one worker only.

The name of a queue is `VKEEEE:ID`: the version of the message, the kind (small, large, alone), four digits for the
version of bnfold that accepted the job, and the id of the key. It is short: PostgreSQL bounds names of channels.
A message is {"version": 1, "key": ..., "job": ...}; a worker ignores fields that it does not know, and leaves messages
of another version to workers that know it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row

    from service.ledger.records import Job

VERSION = "1"  # of the message; a later one that this code does not know has another first letter
CHANNEL = "bnfold"  # of notifications: `queued KEY/JOB` or `changed KEY/JOB`
TASK = "fold"
URGENT = 1  # the priority of a job that a client waits for
Kind = Literal["s", "l", "a"]  # small, large, and alone

OF_JOB = text(
    "SELECT id, status::text AS status FROM procrastinate_jobs "
    "WHERE (status = 'todo' AND queueing_lock = :address) OR (status = 'doing' AND lock = :address) FOR UPDATE"
)
DEFER = text(
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(:queue, :task, 0, :address, :address, CAST(:args AS jsonb), "
    "now() + make_interval(secs => :pause))]::procrastinate_job_to_defer_v1[])"
)
AGAIN = text(
    "SELECT procrastinate_retry_job_v2(:id, now() + make_interval(secs => :pause), NULL, :queue, NULL)"
)  # fmt: skip
MOVE = text(
    "UPDATE procrastinate_jobs SET queue_name = :queue, scheduled_at = now() + make_interval(secs => :pause) "
    "WHERE id = :id"
)
REMOVE = text("SELECT procrastinate_finish_job_v1(:id, 'succeeded', true)")
HURRY = text(
    f"UPDATE procrastinate_jobs SET priority = {URGENT} WHERE status = 'todo' AND queueing_lock = :address"  # noqa: S608
)
NOTIFY = text("SELECT pg_notify(:channel, :payload)")
WAITING = text(
    "SELECT queue_name, max(priority) AS priority, min(id) AS number FROM procrastinate_jobs "
    "WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now()) GROUP BY queue_name"
)
FETCH = text("SELECT id, args FROM procrastinate_fetch_job_v2(ARRAY[CAST(:queue AS varchar)], :worker)")


@dataclass(frozen=True)
class Waiting:
    """A queue with at least one job that is due."""

    name: str
    urgent: bool
    number: int  # of its oldest message: they grow

    @property
    def version(self) -> str:
        """The version of its messages."""
        return self.name[:1]

    @property
    def is_known(self) -> bool:
        """Whether this bnfold understands its messages."""
        return self.version == VERSION

    @property
    def kind(self) -> Kind:
        """What waits in it."""
        kinds: dict[str, Kind] = {"s": "s", "l": "l"}
        return kinds.get(self.name[1:2], "a")

    @property
    def tag(self) -> str:
        """The `tag` of the bnfold that accepted its jobs."""
        return self.name[2:6]

    @property
    def key(self) -> str:
        """The id of its key."""
        return self.name[7:]


def tag(engine: str) -> str:
    """Four digits for a version of bnfold."""
    return hashlib.sha256(engine.encode()).hexdigest()[:4]


def queue_name(job: Job) -> str:
    """The queue in which a job waits."""
    kind: Kind = "a" if job.is_suspect else "l" if job.is_large else "s"
    return f"{VERSION}{kind}{tag(job.engine)}:{job.key}"


class Queue:
    """What the transactions of the ledger do to Procrastinate's tables."""

    def prepare(self, connection: Connection) -> None:
        """Create Procrastinate's tables, or bring them up to the version that is installed."""
        raw = connection.connection.driver_connection
        assert raw is not None  # noqa: S101  it is open
        files = sorted(
            (
                file
                for file in (resources.files("procrastinate.sql") / "migrations").iterdir()
                if file.name[:1].isdigit()
            ),
            key=lambda file: file.name,
        )
        if connection.execute(text("SELECT to_regclass('procrastinate_jobs')")).scalar_one() is None:
            raw.execute((resources.files("procrastinate.sql") / "schema.sql").read_text())
            done = ""
        else:
            known = "SELECT obj_description('procrastinate_jobs'::regclass)"
            done = connection.execute(text(known)).scalar_one() or files[-1].name
            for file in files:
                if file.name > done:
                    raw.execute(file.read_text())
        newest = max(done, files[-1].name)  # a newer bnfold may have been here
        raw.execute(f"COMMENT ON TABLE procrastinate_jobs IS '{newest}'")

    def agree(self, connection: Connection, job: Job) -> None:
        """Let the rows of a job agree with the job, which this transaction has locked and changed."""
        rows = connection.execute(OF_JOB, {"address": address(job)}).all()
        if job.status == "queued" and not job.parked:
            self._queued(connection, job, rows)
            self.notify(connection, job.key, job.id, "queued")
            return
        if job.status != "running":
            for row in rows:
                connection.execute(REMOVE, {"id": row.id})
        self.notify(connection, job.key, job.id)

    def notify(self, connection: Connection, key: str, job: str, what: str = "changed") -> None:
        """Notify servers and workers of a change, when this transaction is committed."""
        connection.execute(NOTIFY, {"channel": CHANNEL, "payload": f"{what} {key}/{job}"})

    def _queued(self, connection: Connection, job: Job, rows: Sequence[Row[tuple[int, str]]]) -> None:
        given = {"queue": queue_name(job), "pause": job.pause}
        for row in rows:
            connection.execute(MOVE if row.status == "todo" else AGAIN, given | {"id": row.id})
        if not rows:
            args = json.dumps({"version": int(VERSION), "key": job.key, "job": job.id})
            connection.execute(DEFER, given | {"task": TASK, "address": address(job), "args": args})


def address(job: Job) -> str:
    """The lock of a job's rows: of each job one waits, and one runs, at most."""
    return f"{job.key}/{job.id}"
