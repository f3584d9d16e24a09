"""A member of a cluster: a worker, which takes jobs out of the ledger and folds them in its own children.

It gives signs of life, and learns with each of them which attempts are still its own: one that was cancelled, or given
to another worker because this one was taken for dead, ends. While the ledger cannot be reached, folds go on: only the
ledger decides whether they count. When the worker ends, it finishes what it can in time, and gives the rest back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from service.blobs import StoreError
from service.engine.listening import listen
from service.engine.recovery import recover
from service.engine.runner import Runner
from service.engine.turns import Turn, Turns
from service.threads import in_thread

if TYPE_CHECKING:
    from service.changes import Address
    from service.engine.accounts import Accounts
    from service.ledger.interface import SharedLedger
    from service.ledger.records import Beat, Job, Stage
    from service.process.child import OnProgress
    from service.process.children import Children
    from service.settings import Settings
    from service.storage import Storage

LOG = logging.getLogger("bnfold")
STORE_EVERY = 1.0  # seconds between two writes of a job's progress
LOOK_EVERY = 1.0  # seconds between two looks for jobs, if no notification comes
KEYS_SECONDS = 10.0  # for which the weights of keys are kept
PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds in which no job is taken, after the store failed; it doubles
PATIENCE = 60.0  # seconds in which the end of a job is tried again, while ledger or store fail


class Member:
    """One worker. `engine` is its version of bnfold."""

    def __init__(
        self,
        settings: Settings,
        ledger: SharedLedger,
        storage: Storage,
        children: Children,
        accounts: Accounts,
        engine: str,
    ) -> None:
        self._settings, self._ledger, self._storage, self._children = settings, ledger, storage, children
        self._accounts = accounts
        self._engine, self.ending = engine, asyncio.Event()
        self._runner = Runner(settings, ledger, storage, children, accounts, self.ending.is_set, PATIENCE)
        self._turns = Turns(settings.workers, extra=True)
        self._running: dict[str, asyncio.Task[None]] = {}  # by attempt
        self._missing: set[str] = set()  # attempts that the ledger has and that do not run here
        self._weights: dict[str, int] = {}
        self._weighed = float("-inf")
        self._wake = asyncio.Event()
        self._pause, self._paused = PAUSE, float("-inf")
        self._id = 0

    async def run(self) -> None:
        """Work until `ending` is set, or an operator drains this worker.

        Raises:
            SQLAlchemyError: the ledger cannot be used at the start.
        """
        await self._children.open()
        await self._enter()
        around = [
            asyncio.create_task(work)
            for work in (
                listen(self._settings.database_url, self._changed, self._wake.set),
                recover(self._ledger, self._settings, self._accounts),
                self._beat(),
            )
        ]
        try:
            await self._work()
            await self._end()
        finally:
            for task in around:
                task.cancel()
            await asyncio.wait(around)
            await self._children.close()

    def end(self) -> None:
        """Take no more jobs, and end."""
        self.ending.set()
        self._wake.set()

    async def _work(self) -> None:
        while not self.ending.is_set():
            self._wake.clear()
            try:
                while not self.ending.is_set() and await self._took():
                    pass
            except (OSError, SQLAlchemyError) as error:
                LOG.warning("no job can be taken now; it is tried again: %s", _first_line(error))
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _took(self) -> bool:
        """Take one job and begin with it; False if there is none, or no room for it here."""
        if not self._turns.has_room or time.monotonic() < self._paused or not self._storage.has_space:
            return False
        waiting = await in_thread(self._ledger.takeable, self._engine)
        if not waiting:
            return False
        await self._weigh()
        turns = {
            Turn(
                self._turns,
                one.key,
                self._weights.get(one.key, 1),
                one.kind == "l",
                is_alone=one.kind == "a",
                is_urgent=one.urgent,
                number=one.number,
            ): one
            for one in waiting
        }
        turn = self._turns.choose(list(turns))
        if turn is None:
            return False
        taking = asyncio.ensure_future(in_thread(self._ledger.take, self._id, turns[turn].name))
        job = await asyncio.shield(taking)
        if job is not None:
            self._turns.begin(turn)
            self._running[job.run] = asyncio.create_task(self._fold(job, turn))
        return True  # another worker may have been faster: there may be more

    async def _fold(self, job: Job, turn: Turn) -> None:
        try:
            await self._runner.run(job, self._reporter(job))
            self._pause = PAUSE
        except StoreError as error:
            LOG.warning("a job goes back: %s", error, extra={"job": job.id})
            self._paused = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        except SQLAlchemyError as error:
            LOG.warning("the ledger cannot be used; the job goes back: %s", _first_line(error), extra={"job": job.id})
        except Exception:  # a worker goes on, whatever one job does
            LOG.exception("a job could not be run", extra={"job": job.id})
        finally:
            self._turns.leave(turn)
            del self._running[job.run]
            self._wake.set()

    async def _end(self) -> None:
        """Finish what can be finished in time, and give the rest back."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=self._settings.shutdown_seconds)
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await in_thread(self._ledger.leave, self._id)

    async def _enter(self) -> None:
        name = f"{socket.gethostname()}:{os.getpid()}"
        self._id = await in_thread(self._ledger.enter, name, self._engine, self._settings.workers)

    async def _beat(self) -> None:
        while True:
            before = set(self._running)
            try:
                await self._heed(await in_thread(self._ledger.beat, self._id), before)
            except (OSError, SQLAlchemyError) as error:
                LOG.warning("no sign of life could be given; it is tried again: %s", _first_line(error))
            await asyncio.sleep(self._settings.heartbeat_seconds)

    async def _heed(self, beat: Beat, before: set[str]) -> None:
        """Do what the ledger says; `before` are the attempts that ran here before it was asked."""
        if not beat.is_known:
            LOG.warning("this worker was taken for dead: its jobs are given to others")
            await self._enter()
        for run in before - beat.runs.keys() - self._runner.ending:  # those return by themselves
            if task := self._running.get(run):
                task.cancel()
        missing = beat.runs.keys() - self._running.keys()
        for run in missing & self._missing:  # twice: it is not one that has just been taken or has just ended
            await in_thread(self._ledger.give_back, *beat.runs[run], run)
        self._missing = missing
        if beat.draining:
            self.end()

    async def _weigh(self) -> None:
        if time.monotonic() - self._weighed > KEYS_SECONDS:
            keys = await in_thread(self._ledger.all_keys)
            self._weights, self._weighed = {key.id: key.quota.weight for key in keys}, time.monotonic()

    def _changed(self, what: str, _: Address) -> None:
        if what == "queued":
            self._wake.set()

    def _reporter(self, job: Job) -> OnProgress:
        stored, tasks = time.monotonic(), set[asyncio.Task[None]]()

        async def store(stage: Stage, progress: float) -> None:
            try:
                await in_thread(self._ledger.progress, job.key, job.id, job.run, stage, progress)
            except SQLAlchemyError as error:
                LOG.warning("progress could not be stored: %s", _first_line(error), extra={"job": job.id})

        def report(stage: Stage, progress: float) -> None:
            nonlocal stored
            if time.monotonic() - stored >= STORE_EVERY:
                stored = time.monotonic()
                task = asyncio.create_task(store(stage, progress))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        return report


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0]
