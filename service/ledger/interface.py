"""The ledger: which jobs, blobs and keys there are. It decides; the engine only delivers.

Every method is one transaction that is durable when the method returns, and may block: callers on the event loop use a
thread. `service.ledger.sql` keeps it in SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.blobs import Blob
    from service.ledger.records import Failure, Holding, Idempotency, Job, Key, Occupied, Output, Quota, Stage, Webhook


class Jobs(Protocol):
    """The jobs of all keys."""

    def submit(
        self, job: Job, quota: Quota, queue: int, request: Idempotency | None = None, webhook: str | None = None
    ) -> tuple[Job, bool]:
        """Accept a job and hold its input for its key; what is known is handed back, under the newest name.

        A job that ended in a way that another try can change is queued again. The second value tells whether the job
        must be delivered to the engine. `queue` is how many may wait. `webhook` is the URL that hears of the next end
        of the job, or of its end where it has ended already (but not twice for one `request`).

        Raises:
            Problem: busy, quota-exceeded, or idempotency-conflict (`request` was another one before).
        """
        ...

    def job(self, key: str, job: str) -> Job | None:
        """The job, if the key has one of this id."""
        ...

    def start(self, key: str, job: str, attempts: int) -> Job | None:
        """Count an attempt and make the job running; None where it is not to be started: it has ended.

        A job that was started `attempts` times before has failed: crashed.
        """
        ...

    def progress(self, key: str, job: str, stage: Stage, progress: float) -> None:
        """Remember how far a running job is."""
        ...

    def finish(self, key: str, job: str, output: Output, failure: Failure | None) -> bool:
        """End a running job, and hold for its key what it leaves; False where it was cancelled meanwhile."""
        ...

    def give_back(self, key: str, job: str) -> None:
        """Make a running job queued again, without counting the attempt."""
        ...

    def cancel(self, key: str, job: str) -> bool:
        """End an open job as cancelled; False where it is not open."""
        ...

    def unfinished(self) -> list[tuple[str, str]]:
        """Key and id of every open job, the oldest first."""
        ...

    def interrupted(self) -> None:
        """Make every running job queued again: their engine has ended, and their attempts count."""
        ...

    def queue(self) -> tuple[int, float | None]:
        """How many jobs wait, and since when the oldest does."""
        ...


class Holdings(Protocol):
    """Which key holds which blob."""

    def holding(self, key: str, sha256: str) -> Blob | None:
        """The blob, if the key holds it."""
        ...

    def is_held(self, sha256: str) -> bool:
        """Whether any key holds the blob."""
        ...

    def use(self, key: str, addresses: Iterable[str]) -> None:
        """Note that these are used now."""
        ...

    def release(self, key: str, sha256: str) -> bool:
        """Let go of a blob, and of the ended jobs whose output it is; whether nobody holds it any more.

        Raises:
            Problem: in-use: an open job of the key needs it.
        """
        ...

    def sweep(self, before: float, cap: int) -> list[str]:
        """Let go of what was last used before a time, then of the least recently used down to `cap` bytes.

        What an open job needs stays. Handed back are the addresses that nobody holds any more: not many at once, so
        ask again until there are none.
        """
        ...

    def held(self) -> list[Holding]:
        """All that is held."""
        ...

    def lost(self, sha256: str) -> None:
        """A blob is gone from the disk: nobody holds it, jobs that made it are forgotten, those that need it fail."""
        ...


class Keys(Protocol):
    """Who may use the service."""

    def add_key(self, key: Key) -> None:
        """Remember a key."""
        ...

    def all_keys(self) -> list[Key]:
        """All keys, the oldest first."""
        ...

    def key(self, key: str) -> Key | None:
        """The key of this id, if it exists and was not revoked."""
        ...

    def revoke_key(self, key: str) -> bool:
        """Refuse the key from now on, and give up its webhooks; False where there is none to revoke."""
        ...


class Webhooks(Protocol):
    """The outbox: every end of a job puts into it, in the transaction that ends the job, what is to be delivered."""

    def next_webhook(self, now: float, occupied: Occupied) -> Webhook | None:
        """The one that is due for the longest time, of those that nothing occupied stands in the way of."""
        ...

    def failed_webhook(self, id_: str, due: float) -> None:
        """An attempt failed; the next is due then."""
        ...

    def ended_webhook(self, id_: str, *, delivered: bool) -> None:
        """It was delivered, or is given up."""
        ...


class Ledger(Jobs, Holdings, Keys, Webhooks, Protocol):
    """All of it."""

    def check(self) -> None:
        """Find out whether the ledger can be written.

        Raises:
            Exception: it cannot, and why.
        """
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
