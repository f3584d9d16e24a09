"""The interface of an engine, and what all engines share: inspections, results that are lost, and sweeps.

Inspections run in children of the server that was asked, whatever runs the folds: they take seconds, store nothing, and
their upload is on this machine already.
"""

from __future__ import annotations

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from service.engine.runner import Runner
from service.engine.turns import Turn, Turns
from service.problems import Problem
from service.reservations import require_place
from service.threads import in_thread
from service.work import ARCHIVE, IN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable
    from pathlib import Path

    from service.blobs import Blob, Draft
    from service.changes import Address, Changes
    from service.engine.accounts import Accounts
    from service.ledger.interface import Ledger
    from service.ledger.records import Job, Quota, Worker
    from service.process.children import Children
    from service.settings import Settings
    from service.storage import Storage
    from service.work import Answer, Request

LOG = logging.getLogger("bnfold")
INSPECTION_FILE_BYTES = 64 << 20  # of one report of an inspection, which is sent from memory
RETRY_AFTER = {"Retry-After": "30"}
CHECKED_BYTES = 1 << 20  # an output of at most this size is checked before it is sent, others while


class Engine(ABC):
    """Runs every accepted job until the ledger has its end."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        storage: Storage,
        children: Children,
        changes: Changes,
        accounts: Accounts,
    ) -> None:
        self._settings, self._ledger, self._storage, self._children = settings, ledger, storage, children
        self._changes, self._accounts = changes, accounts
        self._runner = Runner(settings, ledger, storage, children, accounts, self._is_ending)
        self._inspections = Turns(settings.inspections)
        self._inspecting: Counter[str] = Counter()  # by key
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    @abstractmethod
    async def start(self) -> None:
        """Start to run jobs: first those that are left from before, then new ones."""

    @abstractmethod
    async def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for folds that run here; others go on with them."""

    @abstractmethod
    def submit(self, job: Job, weight: int = 1, *, is_urgent: bool = False) -> None:
        """Run a job that the ledger accepted, in its turn; `weight` is that of its key.

        It is urgent if a client waits for it.
        """

    @abstractmethod
    def hurry(self, job: Job) -> None:
        """Let a job that waits go before others of its key, because a client waits for it now."""

    @abstractmethod
    async def stop_jobs(self, jobs: Iterable[tuple[str, str]]) -> None:
        """End the processes of jobs that the ledger has ended."""

    @abstractmethod
    def live(self, job: Job) -> Job:
        """The job with its latest progress, which the ledger may not have yet."""

    @abstractmethod
    async def _reconcile(self) -> None:
        """See that every open job of the ledger waits or runs."""

    async def workers(self) -> list[Worker]:
        """The workers on other machines."""
        return []

    @property
    def works(self) -> bool:
        """Whether the engine still runs jobs."""
        return not self._stopping.is_set() and self._sweeping is not None and not self._sweeping.done()

    async def cancel(self, address: Address) -> bool:
        """End an open job and its child process; False if the job is not open."""
        if not await in_thread(self._ledger.cancel, *address):
            return False
        await self.stop_jobs([address])
        return True

    def request(self, job: Job) -> Request:
        """The request to a child for the inspection of a job's model."""
        return self._runner.request(job, "inspect")

    @asynccontextmanager
    async def inspected(
        self, draft: Draft, request: Request, key: str, quota: Quota
    ) -> AsyncGenerator[tuple[Answer, Path]]:
        """The answer of an inspection, and the folder with its files, which is removed afterwards.

        Raises:
            Problem: busy: too many jobs wait; quota-exceeded: too many inspections of the key are open.
        """
        with self._counted(key, quota):
            async with Turn(self._inspections, key, quota.weight), self._children.child() as child:
                os.link(draft.path, child.folder / IN / (ARCHIVE if request.archive else request.name))
                bounds = replace(request.bounds, file=min(request.bounds.file, INSPECTION_FILE_BYTES))
                answer = await self._runner.guarded(child, replace(request, bounds=bounds), lambda *_: None)
                yield answer, child.folder

    @contextmanager
    def _counted(self, key: str, quota: Quota) -> Generator[None]:
        """Reserve a place for an inspection; the ledger does not count inspections."""
        mine = self._inspecting[key]
        require_place("inspections", key, mine, self._settings.max_queue - self._inspecting.total())
        if quota.open_jobs is not None and mine >= quota.open_jobs:
            detail = f"{quota.open_jobs} inspections of this key have not ended yet; wait for one of them"
            raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)
        self._inspecting[key] += 1
        try:
            yield
        finally:
            self._inspecting -= Counter([key])  # this also removes entries that are 0

    async def has_whole(self, *blobs: Blob, by_content: bool = False) -> bool:
        """Whether blobs are whole; if not, the jobs that produced them are folded again."""
        is_whole = await self._storage.heal(blobs, by_content=by_content)
        if not is_whole:
            await self._reconcile()
        return is_whole

    async def healed(self, job: Job) -> Job | None:
        """A job that has ended; queued again if the disk lost its output, None if its upload is gone, too."""
        small = [blob for blob in job.output.blobs if blob.bytes <= CHECKED_BYTES]
        if await self.has_whole(*job.output.blobs) and await self.has_whole(*small, by_content=True):
            return job
        return await in_thread(self._ledger.job, job.key, job.id)

    def _is_ending(self) -> bool:
        return self._changes.closing or self._stopping.is_set()

    async def _sweep(self) -> None:
        while True:
            try:
                removed = await self._storage.sweep(self._settings.ttl_seconds, self._settings.cap)
                with suppress(Problem):
                    await self._storage.make_room()
                await self._reconcile()
                if removed:
                    LOG.info("blobs removed", extra={"count": removed})
            except (OSError, SQLAlchemyError) as error:
                LOG.warning("nothing could be removed; it is tried again", exc_info=error)
            await asyncio.sleep(self._settings.sweep_seconds)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
