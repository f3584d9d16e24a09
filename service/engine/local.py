"""The engine: runs every accepted job in a child, a bounded number at a time, until the ledger has the job's end.

All durable state is in the ledger: when the server starts, every accepted job that has not ended is run again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from service.changes import Address
from service.metrics import size_label
from service.problems import Problem
from service.threads import in_thread
from service.work import ARCHIVE, IN, Answer, Request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable
    from pathlib import Path

    from service.blobs import Draft
    from service.changes import Changes
    from service.engine.child import Child, OnProgress
    from service.engine.children import Children
    from service.ledger.interface import Ledger
    from service.ledger.records import Job, Quota, Stage
    from service.metrics import Metrics
    from service.settings import Settings
    from service.storage import Storage

LOG = logging.getLogger("bnfold")
VERIFICATION_GRACE = 10.0  # seconds in which a verification must notice that its time is over
STORE_EVERY = 1.0  # seconds between two writes of a job's progress: each write waits for the disk
LOOK_EVERY = 1.0  # seconds between two checks of the free disk space while a fold runs
INSPECTION_FILE_BYTES = 64 << 20  # of one report of an inspection, which is sent from memory
RETRY_AFTER = {"Retry-After": "30"}
DEATHS = {"timed-out", "out-of-memory", "crashed"}


class LocalEngine:
    """Runs jobs in child processes of this server."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        storage: Storage,
        children: Children,
        changes: Changes,
        metrics: Metrics,
    ) -> None:
        self._settings, self._ledger, self._storage, self._children = settings, ledger, storage, children
        self._changes, self._metrics = changes, metrics
        self._queue: asyncio.Queue[Address] = asyncio.Queue()
        self._slots = asyncio.Semaphore(settings.workers)
        self._running: dict[Address, asyncio.Task[None]] = {}
        self._progress: dict[Address, tuple[Stage, float]] = {}
        self._waiting: set[Address] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._inspecting: Counter[str] = Counter()  # by key

    async def start(self) -> None:
        """Start to run jobs: first those that an earlier server left, then new ones."""
        await self._children.open()
        await self._storage.tidy()
        await in_thread(self._ledger.interrupted)
        await self._reconcile()
        self._loops = [self._spawn(self._deliver()) for _ in range(self._settings.workers)]
        self._loops.append(self._spawn(self._sweep()))

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

    @property
    def works(self) -> bool:
        """Whether the engine still runs jobs."""
        return not self._stopping.is_set() and bool(self._loops) and not any(loop.done() for loop in self._loops)

    def submit(self, address: Address) -> None:
        """Queue a job, to run it when a slot is free."""
        if address not in self._waiting:
            self._waiting.add(address)
            self._queue.put_nowait(address)

    async def cancel(self, address: Address) -> bool:
        """End an open job and its child process; False if the job is not open."""
        if not await in_thread(self._ledger.cancel, *address):
            return False
        await self.stop_jobs([address])
        return True

    async def stop_jobs(self, jobs: Iterable[tuple[str, str]]) -> None:
        """End the processes of jobs that the ledger has ended."""
        for address in (Address(*job) for job in jobs):
            if task := self._running.get(address):
                task.cancel()
                await asyncio.wait([task])
            self._metrics.outcomes.labels("cancelled").inc()
            self._changes.notify(address)

    def live(self, job: Job) -> Job:
        """The job with its latest progress, which the ledger may not have yet."""
        known = self._progress.get(Address(job.key, job.id))
        if known is None or job.status != "running":
            return job
        return replace(job, stage=known[0], progress=known[1])

    @asynccontextmanager
    async def inspected(
        self, draft: Draft, request: Request, key: str, quota: Quota
    ) -> AsyncGenerator[tuple[Answer, Path]]:
        """The answer of an inspection, and the folder with its files, which is removed afterwards.

        Raises:
            Problem: busy: too many jobs wait; quota-exceeded: too many inspections of the key are open.
        """
        with self._counted(key, quota):
            async with self._slots, self._children.child() as child:
                os.link(draft.path, child.folder / IN / (ARCHIVE if request.archive else request.name))
                bounds = replace(request.bounds, file=min(request.bounds.file, INSPECTION_FILE_BYTES))
                answer = await self._guarded(child, replace(request, bounds=bounds), lambda *_: None)
                yield answer, child.folder

    @contextmanager
    def _counted(self, key: str, quota: Quota) -> Generator[None]:
        """Reserve a place for an inspection; the ledger does not count inspections."""
        most = self._settings.max_queue
        if self._queue.qsize() >= most or self._inspecting.total() >= most + self._settings.workers:
            raise Problem("busy", "too many jobs wait already; try again later", headers=RETRY_AFTER)
        if quota.open_jobs is not None and self._inspecting[key] >= quota.open_jobs:
            detail = f"{quota.open_jobs} inspections of this key have not ended yet; wait for one of them"
            raise Problem("quota-exceeded", detail, headers=RETRY_AFTER)
        self._inspecting[key] += 1
        try:
            yield
        finally:
            self._inspecting -= Counter([key])  # this also removes entries that are 0

    def request(self, job: Job, kind: Literal["fold", "inspect"] = "fold") -> Request:
        """The request to a child for a job."""
        settings, options = self._settings, json.loads(job.options)
        verifies = kind == "fold" and options["verify"]
        verification = options["verify_timeout"] + VERIFICATION_GRACE if verifies else 0.0
        return Request(kind, job.name, job.archive, options, settings.limits, settings.bounds(verification))

    async def _deliver(self) -> None:
        while not self._stopping.is_set():
            address = await self._queue.get()
            while earlier := self._running.get(address):  # cancelled, and submitted again before its end
                await asyncio.wait([earlier])
            async with self._slots:
                if self._stopping.is_set():
                    return
                task = self._running[address] = asyncio.create_task(self._attempt(address))
                self._waiting.discard(address)
                try:
                    await asyncio.wait([task])
                finally:
                    del self._running[address]
            if not task.cancelled() and (error := task.exception()):
                LOG.error("a job could not be delivered", exc_info=error, extra={"job": address.job})

    async def _attempt(self, address: Address) -> None:
        """Run a job, again if its process crashes, until it has ended."""
        began = time.monotonic()
        answer: Answer | None = None
        try:
            while job := await in_thread(self._ledger.start, *address, self._settings.attempts):
                self._changes.notify(address)
                answer = await self._fold(job, address)
                if answer.slug != "crashed" or job.attempts >= self._settings.attempts:
                    break
        except asyncio.CancelledError:
            await in_thread(self._ledger.give_back, *address)  # without effect if the job was cancelled
            raise
        finally:
            self._progress.pop(address, None)
            self._changes.notify(address)
        if answer is not None:
            self._account(address, answer, time.monotonic() - began)

    async def _fold(self, job: Job, address: Address) -> Answer:
        with self._metrics.running.track_inprogress(), self._metrics.folds.labels(size_label(job.input.bytes)).time():
            try:
                async with self._children.child() as child:
                    place = child.folder / IN / (ARCHIVE if job.archive else job.name)
                    await self._storage.blobs.place(job.input.sha256, place, shared=child.shares_inputs)
                    answer = await self._guarded(child, self.request(job), self._reporter(address))
                    if answer.slug == "crashed" and job.attempts < self._settings.attempts:
                        return answer
                    await self._storage.finish(job, child.folder, answer)
                    return answer
            except Problem as problem:
                answer = Answer(slug=problem.slug, detail=problem.detail)
            except (OSError, ValueError):
                LOG.exception("a fold failed", extra={"job": job.id})
                answer = Answer(slug="internal", detail="the server could not keep the result; try again later")
            await self._storage.finish(job, self._settings.data, answer)
            return answer

    async def _guarded(self, child: Child, request: Request, on_progress: OnProgress) -> Answer:
        """The answer of a child, which is killed when the disk becomes too full."""
        work = asyncio.create_task(child.run(request, on_progress))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=LOOK_EVERY)
                if not work.done():
                    self._storage.blobs.require_space()
        finally:
            work.cancel()
            await asyncio.wait([work])
        answer = work.result()
        if answer.slug in DEATHS:
            self._metrics.kills.labels(answer.slug).inc()
        return answer

    def _reporter(self, address: Address) -> OnProgress:
        stored = time.monotonic()

        def report(stage: Stage, progress: float) -> None:
            nonlocal stored
            self._progress[address] = stage, progress
            self._changes.notify(address)
            if time.monotonic() - stored >= STORE_EVERY:
                stored = time.monotonic()
                self._spawn(in_thread(self._ledger.progress, *address, stage, progress))

        return report

    def _account(self, address: Address, answer: Answer, seconds: float) -> None:
        outcome = answer.slug or "done"
        self._metrics.outcomes.labels(outcome).inc()
        LOG.info("job ended", extra={"job": address.job, "outcome": outcome, "seconds": round(seconds, 3)})

    async def _sweep(self) -> None:
        while True:
            try:
                removed = await self._storage.sweep(self._settings.ttl_seconds, self._settings.cap_bytes)
                await self._reconcile()
                if removed:
                    LOG.info("blobs removed", extra={"count": removed})
            except (OSError, SQLAlchemyError) as error:
                LOG.warning("nothing could be removed; it is tried again", exc_info=error)
            await asyncio.sleep(self._settings.sweep_seconds)

    async def _reconcile(self) -> None:
        """Queue every open job of the ledger that is not queued or running here: the ledger decides."""
        for key, job in await in_thread(self._ledger.unfinished):
            address = Address(key, job)
            if address not in self._running:
                self.submit(address)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
