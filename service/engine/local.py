"""The engine: runs every accepted job in a child, a bounded number at a time, until the ledger has the job's end.

All durable state is in the ledger: when the server starts, every accepted job that has not ended is run again.

The death of a server counts against no job, and the death of a child only if the server saw it. Jobs that ran when a
server died run alone from then on. Something may kill a server again and again, and it may be one of them: so each of
them waits longer every time, and all others go on meanwhile. A child that something else killed is tried again once,
alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from service.changes import Address
from service.engine.turns import Turn, Turns, pause_of
from service.ledger.records import Failure
from service.metrics import DEATHS
from service.problems import Problem
from service.reservations import require_place
from service.threads import in_thread
from service.work import ARCHIVE, IN, Answer, Request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable
    from pathlib import Path

    from service.blobs import Blob, Draft
    from service.changes import Changes
    from service.engine.accounts import Accounts, Folding
    from service.engine.child import Child, OnProgress
    from service.engine.children import Children
    from service.ledger.interface import Ledger
    from service.ledger.records import Job, Quota, Stage
    from service.settings import Settings
    from service.storage import Storage

LOG = logging.getLogger("bnfold")
VERIFICATION_GRACE = 10.0  # seconds in which a verification must notice that its time is over
STORE_EVERY = 1.0  # seconds between two writes of a job's progress: each write waits for the disk
LOOK_EVERY = 1.0  # seconds between two checks of the free disk space while a fold runs
INSPECTION_FILE_BYTES = 64 << 20  # of one report of an inspection, which is sent from memory
SMALL_BYTES = 16 << 20  # the largest upload that counts as small
KILLS = 2  # of a job's process by something else: the second time, nothing else ran
END_SECONDS = 1.0  # after a kill, to see whether the server was told to end as well: then it is no fault
RETRY_AFTER = {"Retry-After": "30"}
TRIED_AGAIN = {"crashed", "killed"}
CHECKED_BYTES = 1 << 20  # an output of at most this size is checked before it is sent, others while
LOST = Answer(slug="internal")  # the ledger has ended the job, and said why


class LocalEngine:
    """Runs jobs in child processes of this server."""

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
        self._turns = Turns(settings.workers, extra=True)
        self._inspections = Turns(settings.inspections)
        self._waiting: dict[Address, tuple[Turn, asyncio.Task[None]]] = {}
        self._running: dict[Address, asyncio.Task[Job | None]] = {}
        self._progress: dict[Address, tuple[Stage, float]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._inspecting: Counter[str] = Counter()  # by key

    async def start(self) -> None:
        """Start to run jobs: first those that an earlier server left, then new ones."""
        await self._children.open()
        await self._storage.tidy()
        await in_thread(self._ledger.interrupted)
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

    @property
    def works(self) -> bool:
        """Whether the engine still runs jobs."""
        return not self._stopping.is_set() and self._sweeping is not None and not self._sweeping.done()

    def submit(self, job: Job, weight: int = 1, *, is_urgent: bool = False) -> None:
        """Queue a job, to run it in its turn; `weight` is that of its key. It is urgent if a client waits for it."""
        address = Address(job.key, job.id)
        if address in self._waiting:
            return
        is_large = job.input.bytes > SMALL_BYTES
        turn = Turn(self._turns, job.key, weight, is_large, is_alone=job.is_suspect, is_urgent=is_urgent)
        self._waiting[address] = turn, self._spawn(self._deliver(address, turn, pause_of(job.interruptions)))

    def hurry(self, job: Job) -> None:
        """Let a job that waits go before others of its key, because a client waits for it now."""
        if waiting := self._waiting.get(Address(job.key, job.id)):
            waiting[0].is_urgent = True

    async def cancel(self, address: Address) -> bool:
        """End an open job and its child process; False if the job is not open."""
        if not await in_thread(self._ledger.cancel, *address):
            return False
        await self.stop_jobs([address])
        return True

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
                answer = await self._guarded(child, replace(request, bounds=bounds), lambda *_: None)
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

    def request(self, job: Job, kind: Literal["fold", "inspect"] = "fold") -> Request:
        """The request to a child for a job."""
        settings, options = self._settings, json.loads(job.options)
        verifies = kind == "fold" and options["verify"]
        verification = options["verify_timeout"] + VERIFICATION_GRACE if verifies else 0.0
        bounds, sha256 = settings.bounds(verification), job.input.sha256 if kind == "fold" else ""
        return Request(kind, job.name, job.archive, options, settings.limits, bounds, sha256)

    async def _deliver(self, address: Address, turn: Turn, pause: float) -> None:
        """Run a job in its turn."""
        since = time.time()
        try:
            await asyncio.sleep(pause)
            async with turn:
                while earlier := self._running.get(address):  # cancelled, and submitted again before its end
                    await asyncio.wait([earlier])
                if self._stopping.is_set():
                    return
                task = self._running[address] = asyncio.create_task(self._attempt(address, since))
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
        if error := task.exception():
            LOG.error("a job could not be delivered", exc_info=error, extra={"job": address.job})
        elif again := task.result():
            self.submit(again, turn.weight, is_urgent=turn.is_urgent)

    async def _attempt(self, address: Address, since: float) -> Job | None:
        """Run a job until it has ended, or its process has died; return the job if it is to be tried again."""
        began = time.monotonic()
        try:
            job = await in_thread(self._ledger.start, *address)
            if job is None:
                return None
            self._changes.notify(address)
            self._accounts.started(job, since)
            answer = await self._fold(job, address)
            if answer.slug in TRIED_AGAIN and await self._is_tried_again(address, answer):
                return await in_thread(self._ledger.job, *address)
        except asyncio.CancelledError:
            await in_thread(self._ledger.give_back, *address)  # without effect if the job was cancelled
            raise
        finally:
            self._progress.pop(address, None)
            self._changes.notify(address)
        self._accounts.ended(job, answer, time.monotonic() - began)
        return None

    async def _is_tried_again(self, address: Address, answer: Answer) -> bool:
        """Count that the process of a job has died; False if the job ends with that.

        Raises:
            asyncio.CancelledError: the server ends, and whoever ended it killed the process, too.
        """
        if answer.slug == "killed":
            await asyncio.sleep(END_SECONDS)
            if self._changes.closing or self._stopping.is_set():
                raise asyncio.CancelledError
        most = KILLS if answer.slug == "killed" else self._settings.attempts
        failure = Failure(answer.slug or "", answer.detail)
        return await in_thread(self._ledger.died, *address, failure, most)

    async def _fold(self, job: Job, address: Address) -> Answer:
        with self._accounts.folding(job) as folding:
            try:
                async with self._children.child() as child:
                    place = child.folder / IN / (ARCHIVE if job.archive else job.name)
                    await self._storage.blobs.place(job.input.sha256, place, shared=child.shares_inputs)
                    answer = await self._guarded(child, self.request(job), self._reporter(address, folding))
                    folding.answered(answer)
                    if (answer.damaged or answer.slug in DEATHS) and not await self._has_upload(job):
                        return LOST
                    if answer.slug not in TRIED_AGAIN:
                        await self._storage.finish(job, child.folder, answer)
                    return answer
            except Problem as problem:
                answer = Answer(slug=problem.slug, detail=problem.detail)
            except (OSError, ValueError):
                if not await self._has_upload(job):
                    return LOST
                LOG.exception("a fold failed", extra={"job": job.id})
                answer = Answer(slug="internal", detail="the server could not keep the result; try again later")
            await self._storage.finish(job, self._settings.data, answer)
            return answer

    async def _has_upload(self, job: Job) -> bool:
        """Whether the upload of a job is whole; if not, the job has ended with that."""
        return await self._storage.heal([job.input], by_content=True)

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

    async def _guarded(self, child: Child, request: Request, on_progress: OnProgress) -> Answer:
        """The answer of a child, which is killed when the disk becomes too full."""
        work = asyncio.create_task(child.run(request, on_progress))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=LOOK_EVERY)
                if not work.done():
                    await self._storage.make_room()
        finally:
            work.cancel()
            await asyncio.wait([work])
        answer = work.result()
        self._accounts.died(answer)
        return answer

    def _reporter(self, address: Address, folding: Folding) -> OnProgress:
        stored = time.monotonic()

        def report(stage: Stage, progress: float) -> None:
            nonlocal stored
            folding.reached(stage)
            self._progress[address] = stage, progress
            self._changes.notify(address)
            if time.monotonic() - stored >= STORE_EVERY:
                stored = time.monotonic()
                self._spawn(in_thread(self._ledger.progress, *address, stage, progress))

        return report

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

    async def _reconcile(self) -> None:
        """Queue every open job of the ledger that is not queued or running here: the ledger decides."""
        weights = {key.id: key.quota.weight for key in await in_thread(self._ledger.all_keys)}
        for job in await in_thread(self._ledger.unfinished):
            if Address(job.key, job.id) not in self._running:
                self.submit(job, weights.get(job.key, 1))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
