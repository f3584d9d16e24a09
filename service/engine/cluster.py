"""The engine of a cluster, as a server sees it: workers on any machines take the jobs out of the ledger.

The transaction that accepts a job also queues it; so there is nothing to submit here. Notifications of PostgreSQL say
that a job has changed, and a request that waits for it reads the ledger then.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import SQLAlchemyError

from service.changes import Address
from service.engine.interface import Engine
from service.engine.listening import listen
from service.engine.recovery import recover
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.ledger.interface import SharedLedger
    from service.ledger.records import Job, Worker

LOG = logging.getLogger("bnfold")


class ClusterEngine(Engine):
    """Leaves jobs to the workers, and shows what becomes of them."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._shared = cast("SharedLedger", self._ledger)

    async def start(self) -> None:
        """Listen for changes, and look for what workers that died have left."""
        await self._children.open()
        self._spawn(listen(self._settings.database_url, self._changed, self._changes.notify_all))
        self._spawn(recover(self._shared, self._settings, self._accounts))
        self._spawn(self._tidy())
        self._sweeping = self._spawn(self._sweep())

    async def stop(self, seconds: float) -> None:  # noqa: ARG002  no fold runs here
        """End; the workers go on."""
        self._stopping.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._children.close()

    def submit(self, job: Job, weight: int = 1, *, is_urgent: bool = False) -> None:  # noqa: ARG002  a worker asks for it
        """The job is queued already; it goes before others if it is urgent."""
        if is_urgent:
            self.hurry(job)

    def hurry(self, job: Job) -> None:
        """Let a job that waits go before others of its key, because a client waits for it now."""
        if job.status == "queued":
            self._spawn(self._hurry(job))

    async def stop_jobs(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Nothing to do: the worker that runs such a job sees that the ledger has ended it, and ends its process."""
        for job in jobs:
            self._accounts.cancelled()
            self._changes.notify(Address(*job))

    def live(self, job: Job) -> Job:
        """The job: the ledger has its progress."""
        return job

    async def workers(self) -> list[Worker]:
        """All workers that give signs of life."""
        return await in_thread(self._shared.all_workers)

    async def _reconcile(self) -> None:
        if count := await in_thread(self._shared.reconcile):
            LOG.warning("open jobs that no worker would have found are queued again", extra={"count": count})

    async def _hurry(self, job: Job) -> None:
        with suppress(SQLAlchemyError):  # then it waits for its turn
            await in_thread(self._shared.hurry, job)

    async def _tidy(self) -> None:
        """Compare the store with the ledger, beside the requests: it may hold millions of blobs."""
        try:
            await self._storage.tidy()
        except (OSError, SQLAlchemyError) as error:
            LOG.warning("the blob store could not be compared with the ledger", exc_info=error)

    def _changed(self, _: str, address: Address) -> None:
        self._changes.notify(address)
