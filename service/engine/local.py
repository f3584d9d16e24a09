"""The engine: runs every accepted job in a child, a bounded number at a time, until the ledger has the job's end.

All durable state is in the ledger: when the server starts, every accepted job that has not ended is run again.

The death of a server counts against no job that it ran beside others, and the death of a child only if the server saw
it. Jobs that ran when a server died run alone from then on. Something may kill a server again and again, and it may be
one of them: so each of them waits longer every time, and all others go on meanwhile. After five more such deaths in a
row it ends as crashed. A child that something else killed is tried again once, alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service.blobs import StoreError
from service.changes import Address
from service.engine.interface import Engine
from service.engine.turns import Turn, Turns
from service.threads import in_thread
from service.work import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.ledger.records import Job, Stage
    from service.process.child import OnProgress

LOG = logging.getLogger("bnfold")
STORE_EVERY = 1.0  # seconds between two writes of a job's progress: each write waits for the disk


class LocalEngine(Engine):
    """Runs jobs in child processes of this server."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._turns = Turns(self._settings.workers, extra=True)
        self._waiting: dict[Address, tuple[Turn, asyncio.Task[None]]] = {}
        self._running: dict[Address, asyncio.Task[Job | None]] = {}
        self._progress: dict[Address, tuple[Stage, float]] = {}

    async def start(self) -> None:
        """Start to run jobs: first those that an earlier server left, then new ones."""
        await self._children.open()
        await self._storage.tidy()
        for job in await in_thread(self._ledger.interrupted):
            self._accounts.ended(job, Answer(slug="crashed"), 0.0)
        await self._reconcile()
        self._sweeping = self._spawn(self._sweep())

    async def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for running folds; the ledger queues the others again, for the next server."""
        self._stopping.set()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=seconds)
        tasks = [*self._running.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._children.close()

    def submit(self, job: Job, weight: int = 1, *, is_urgent: bool = False) -> None:
        """Queue a job, to run it in its turn."""
        address = Address(job.key, job.id)
        if address in self._waiting:
            return
        turn = Turn(self._turns, job.key, weight, job.is_large, is_alone=job.is_suspect, is_urgent=is_urgent)
        self._waiting[address] = turn, self._spawn(self._deliver(address, turn, job.pause))

    def hurry(self, job: Job) -> None:
        """Let a job that waits go before others of its key, because a client waits for it now."""
        if waiting := self._waiting.get(Address(job.key, job.id)):
            waiting[0].is_urgent = True

    async def stop_jobs(self, jobs: Iterable[tuple[str, str]]) -> None:
        """End the processes of jobs that the ledger has ended."""
        for address in (Address(*job) for job in jobs):
            waiting = self._waiting.pop(address, None)
            for task in filter(None, (self._running.get(address), waiting and waiting[1])):
                task.cancel()
                await asyncio.wait([task])
            self._accounts.cancelled()
            self._changes.notify(address)
            if waiting and (job := await in_thread(self._ledger.job, *address)) and job.is_open:  # submitted again
                self.submit(job, waiting[0].weight)

    def live(self, job: Job) -> Job:
        """The job with its latest progress, which the ledger may not have yet."""
        known = self._progress.get(Address(job.key, job.id))
        if known is None or job.status != "running":
            return job
        return replace(job, stage=known[0], progress=known[1])

    async def _deliver(self, address: Address, turn: Turn, pause: float) -> None:
        """Run a job in its turn."""
        try:
            await asyncio.sleep(pause)
            async with turn:
                while earlier := self._running.get(address):  # cancelled, and submitted again before its end
                    await asyncio.wait([earlier])
                if self._stopping.is_set():
                    return
                task = self._running[address] = asyncio.create_task(self._attempt(address))
                del self._waiting[address]
                try:
                    await asyncio.wait([task])
                finally:
                    del self._running[address]
        finally:
            if self._waiting.get(address, (None, None))[0] is turn:
                del self._waiting[address]
        if task.cancelled():
            return
        if isinstance(error := task.exception(), StoreError):
            LOG.warning("a job goes back: %s", error, extra={"job": address.job})
        elif error:
            LOG.error("a job could not be delivered", exc_info=error, extra={"job": address.job})
        elif again := task.result():
            self.submit(again, turn.weight, is_urgent=turn.is_urgent)

    async def _attempt(self, address: Address) -> Job | None:
        """Run a job until it has ended, or its process has died; return the job if it is to be tried again."""
        try:
            job = await self._started(address)
            if job is None:
                return None
            self._changes.notify(address)
            if await self._runner.run(job, self._reporter(address, job.run)):
                return await in_thread(self._ledger.job, *address)
            return None
        finally:
            self._progress.pop(address, None)
            self._changes.notify(address)

    async def _started(self, address: Address) -> Job | None:
        """Start an attempt in the ledger, which has none if this is cancelled."""
        starting = asyncio.ensure_future(in_thread(self._ledger.start, *address))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if job := await starting:
                await in_thread(self._ledger.give_back, *address, job.run)
            raise

    def _reporter(self, address: Address, run: str) -> OnProgress:
        stored = time.monotonic()

        def report(stage: Stage, progress: float) -> None:
            nonlocal stored
            self._progress[address] = stage, progress
            self._changes.notify(address)
            if time.monotonic() - stored >= STORE_EVERY:
                stored = time.monotonic()
                self._spawn(in_thread(self._ledger.progress, *address, run, stage, progress))

        return report

    async def _reconcile(self) -> None:
        """Queue every open job of the ledger that is not queued or running here: the ledger decides."""
        weights = {key.id: key.quota.weight for key in await in_thread(self._ledger.all_keys)}
        for job in await in_thread(self._ledger.unfinished):
            if Address(job.key, job.id) not in self._running:
                self.submit(job, weights.get(job.key, 1))
