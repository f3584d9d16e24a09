"""The interface of the ledger: jobs, holdings, keys and webhooks. The ledger decides; the engine only runs jobs.

Every method is one transaction that is durable when the method returns. A method may block: callers on the event loop
use a thread. `service.ledger.sql` implements the ledger in SQLite and PostgreSQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.blobs import Blob
    from service.ledger.queue import Waiting
    from service.ledger.records import (
        Beat,
        Damage,
        Failure,
        Holding,
        Idempotency,
        Job,
        Key,
        Load,
        Occupied,
        Output,
        Overview,
        Place,
        Quota,
        Room,
        Stage,
        Standing,
        Usage,
        Webhook,
        Worker,
    )


class Jobs(Protocol):
    """The jobs of all keys."""

    def submit(
        self, job: Job, quota: Quota, room: Room, request: Idempotency | None = None, webhook: str | None = None
    ) -> tuple[Job, bool]:
        """Accept a job, and record that its key holds the input. Returns the job, and whether the engine must run it.

        A known job is returned as it is, with the new name. If it ended in a problem that a retry can change, it is
        queued again. `room` says how much may wait. `webhook` is the URL to notify of the next end of the job;
        if the job has ended, the URL is notified of that end (but not twice for one `request`).

        Raises:
            Problem: busy, too-large, quota-exceeded, or idempotency-conflict (`request` was another one before).
        """
        ...

    def job(self, key: str, job: str) -> Job | None:
        """The job with this id, if the key has one; None otherwise."""
        ...

    def start(self, key: str, job: str) -> Job | None:
        """Count an attempt and set the job to running; None if the job has ended.

        The attempt has a name, `Job.run`. The methods that take it are without effect if another attempt runs now: who
        was taken for dead, and goes on all the same, changes nothing.
        """
        ...

    def died(self, key: str, job: str, run: str, failure: Failure, most: int) -> bool:
        """Count that the process of a running job was seen to die, and queue the job again; True then.

        After `most` deaths of the same kind (crashed, killed) the job ends in `failure`; False then.
        """
        ...

    def progress(self, key: str, job: str, run: str, stage: Stage, progress: float) -> None:
        """Store the progress of a running job."""
        ...

    def finish(self, key: str, job: str, run: str, output: Output, failure: Failure | None) -> bool:
        """End a running job, and record that its key holds the output; False if it does not run any more."""
        ...

    def give_back(self, key: str, job: str, run: str) -> None:
        """Queue a running job again, without counting the attempt."""
        ...

    def cancel(self, key: str, job: str) -> bool:
        """End an open job as cancelled; False if it is not open."""
        ...

    def unfinished(self) -> list[Job]:
        """All open jobs, oldest first; not those that an operator parked."""
        ...

    def interrupted(self) -> list[Job]:
        """Queue all running jobs again, because their server died. Each of them is a suspect from now on.

        A suspect runs alone. One whose server died `LONE_DEATHS` times since it is one ends as crashed; these are
        returned.
        """
        ...


class Holdings(Protocol):
    """Which key holds which blob."""

    def holding(self, key: str, sha256: str) -> Blob | None:
        """The blob, if the key holds it; None otherwise."""
        ...

    def keep(self, key: str, blob: Blob) -> None:
        """Record that a key holds a blob."""
        ...

    def use(self, key: str, addresses: Iterable[str]) -> None:
        """Record that the key uses these blobs now."""
        ...

    def release(self, key: str, sha256: str) -> bool:
        """Release a blob, and remove the ended jobs whose output it is; True if no key holds it any more.

        Raises:
            Problem: in-use: an open job of the key needs it.
        """
        ...

    def sweep(self, unused: float, cap: int) -> list[str]:
        """Release what was not used for `unused` seconds, then what is above `cap` bytes.

        Above the cap, the key that holds most loses what it used least recently, until at most `cap` bytes remain.

        The inputs of open jobs stay. The time in which no server runs does not count. Returns the digests that no key
        holds any more, one batch at a time: call this until the list is empty.
        """
        ...

    def held(self) -> list[Holding]:
        """All holdings."""
        ...

    def usage(self, key: str) -> Usage:
        """What a key uses now."""
        ...

    def total(self) -> int:
        """The bytes of all blobs that are held."""
        ...

    def discard(self, sha256: str, remove: Callable[[], None]) -> None:
        """Call `remove`, which removes a blob, unless a key holds it. No key can begin to hold it meanwhile."""
        ...

    def lost(self, addresses: Iterable[str], is_gone: Callable[[str], bool] = bool) -> Damage:
        """Release blobs that the disk lost or damaged; fail (internal) the open jobs that need them.

        `is_gone` looks at each of them again, and removes what is left. No key can begin to hold it meanwhile.

        The jobs that produced them are queued again if their input is held; otherwise they are removed.
        """
        ...


class Keys(Protocol):
    """The API keys."""

    def add_key(self, key: Key) -> None:
        """Store a key."""
        ...

    def all_keys(self) -> list[Key]:
        """All keys, oldest first."""
        ...

    def key(self, key: str) -> Key | None:
        """The key with this id; None if it does not exist, was revoked or has expired."""
        ...

    def rotate_key(self, key: str, digest: str, until: float) -> bool:
        """Give a key a new secret, of which this is the hash; the old one is good until a time.

        False if there is no such key, or it has ended.
        """
        ...

    def revoke_key(self, key: str, *, erase: bool = False) -> bool:
        """Revoke a key, and give up its webhooks; False if there is no such key or it was revoked before.

        `erase` marks it, whether or not it was revoked before: `erase_key` is to be called.
        """
        ...

    def ended_keys(self, now: float) -> set[str]:
        """The ids of the keys that were revoked or have expired."""
        ...

    def end_jobs(self, now: float) -> list[tuple[str, str]]:
        """Cancel the open jobs of all keys that have ended, and give up their webhooks; return keys and ids."""
        ...

    def erasing(self) -> list[str]:
        """The ids of the keys that are marked to be erased."""
        ...

    def erase_key(self, key: str) -> list[str]:
        """Remove the jobs and holdings of a key that has ended, and its mark.

        Returns the digests that no key holds any more.
        """
        ...


class Webhooks(Protocol):
    """The outbox: the transaction that ends a job also makes its webhooks due."""

    def next_webhook(self, occupied: Occupied) -> Webhook | None:
        """The webhook that has been due longest, of those that are not occupied; None if there is none."""
        ...

    def failed_webhook(self, id_: str, delay: float) -> None:
        """Record that an attempt failed, and that the next one is due in `delay` seconds."""
        ...

    def ended_webhook(self, id_: str, *, delivered: bool) -> None:
        """Record that a webhook was delivered, or is given up."""
        ...


class Overviews(Protocol):
    """What a key has, and how it is erased."""

    def jobs_of(self, key: str, before: Place | None, limit: int) -> list[Job]:
        """The jobs of a key, newest first: at most `limit`, those after a place in this order, or the first ones."""
        ...

    def overview(self, key: str) -> Overview:
        """How much a key has."""
        ...

    def load(self) -> Load:
        """What there is to do, of all keys."""
        ...

    def standings(self) -> list[Standing]:
        """What each key has in the queue; keys without open jobs are left out."""
        ...

    def erase_job(self, key: str, job: str) -> list[str]:
        """Remove an ended job, its webhooks, and the key's hold on its blobs that no other job of the key has.

        Returns the digests that no key holds any more. A job that is open or unknown stays as it is.
        """
        ...


class Workers(Protocol):
    """The workers of a cluster, and the jobs that wait for them."""

    def enter(self, name: str, engine: str, slots: int) -> int:
        """Add a worker of this version of bnfold; return its id."""
        ...

    def leave(self, worker: int) -> None:
        """Remove a worker, which has given all its jobs back."""
        ...

    def beat(self, worker: int) -> Beat:
        """Record that a worker is alive, and return what is its own."""
        ...

    def takeable(self, engine: str) -> list[Waiting]:
        """The queues with jobs that are due and that a worker of this version of bnfold may take."""
        ...

    def take(self, worker: int, queue: str) -> Job | None:
        """Start the next job of a queue; None if there is none any more, or another worker has it."""
        ...

    def hurry(self, job: Job) -> None:
        """Let a job that waits go before others of its key."""
        ...

    def recover(self, seconds: float) -> list[Job]:
        """Do with jobs of workers that were not alive for so long as `Jobs.interrupted` does; return all of them."""
        ...

    def reconcile(self) -> int:
        """Queue open jobs that neither wait nor run, as in a ledger that was restored; return how many."""
        ...

    def open_jobs(self) -> list[Job]:
        """All open jobs, also those that are parked, oldest first."""
        ...

    def waiting(self) -> list[Waiting]:
        """The queues with jobs that are due."""
        ...

    def all_workers(self) -> list[Worker]:
        """All workers."""
        ...

    def drain(self, worker: int) -> bool:
        """Let a worker take no more jobs, and end; False if there is no such worker."""
        ...

    def park(self, key: str, job: str) -> bool:
        """Keep an open job from the workers; False if there is no such job, or it is parked already."""
        ...

    def retry(self, key: str, job: str) -> bool:
        """Let a job that is parked, has failed or was cancelled go on as if it were new.

        False if there is no such job, or its upload is gone.
        """
        ...


class Ledger(Jobs, Holdings, Keys, Webhooks, Overviews, Protocol):
    """The complete ledger."""

    def check(self) -> None:
        """Check that the ledger can be written.

        Raises:
            Exception: it cannot; the message says why.
        """
        ...

    def claim(self, *, shared: bool) -> None:
        """Take the ledger for this server alone, or for all that share it, as long as this one runs.

        Raises:
            RuntimeError: others have it otherwise.
        """
        ...

    def damage(self) -> str | None:
        """What is damaged in the file of the ledger; None if all of it can be read. Reads all of it."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...


class SharedLedger(Ledger, Workers, Protocol):
    """The ledger of a cluster."""
