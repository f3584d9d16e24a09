"""Guests: the requests under way of each key. When a key ends, so do its requests, its jobs and, if wished, its blobs.

A key is revoked by another process (`bnfold keys revoke`), or expires. So the ledger is asked every second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from service.auth.audit import audit
from service.auth.keys import CHALLENGE
from service.problems import Problem
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from service.ledger.interface import Ledger
    from service.storage import Storage

LOG = logging.getLogger("bnfold")
LOOK_EVERY = 1.0  # seconds between two looks
GONE = "this API key was revoked or has expired; ask the operator for another one"


class Guests:
    """The requests of one server. `stop_jobs` ends the processes of jobs that are not open any more.

    `remove_uploads` removes what has arrived in pieces for keys that have ended.
    """

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        storage: Storage,
        stop_jobs: Callable[[list[tuple[str, str]]], Awaitable[None]],
        remove_uploads: Callable[[set[str]], Awaitable[None]],
    ) -> None:
        self._remove_uploads = remove_uploads
        self._data, self._ledger, self._storage, self._stop_jobs = data, ledger, storage, stop_jobs
        self._tasks: defaultdict[str, set[asyncio.Task[object]]] = defaultdict(set)
        self._turned_out: set[asyncio.Task[object]] = set()
        self._ended: set[str] = set()
        self._loop: asyncio.Task[None] | None = None

    def enter(self, key: str, expires: float | None = None) -> None:
        """Note that the current task is a request of this key, until it is done or, at the latest, until `expires`.

        Raises:
            Problem: unauthorized: the key has just ended.
        """
        task = asyncio.current_task()
        if key in self._ended:
            raise Problem("unauthorized", GONE, headers=CHALLENGE)
        if task is not None and key:
            self._tasks[key].add(task)
            task.add_done_callback(lambda done: self._leave(key, done))
            if expires is not None:
                seconds = max(expires - time.time(), 0)
                handle = asyncio.get_running_loop().call_later(seconds, self._turn_out, task)
                task.add_done_callback(lambda _: handle.cancel())

    def was_turned_out(self) -> bool:
        """Whether the current task was cancelled because its key has ended; it may then go on, to say so."""
        task = asyncio.current_task()
        if task is None or task not in self._turned_out:
            return False
        self._turned_out.discard(task)
        task.uncancel()
        return True

    def start(self) -> None:
        """Start to look for keys that have ended: first what ended while no server ran."""
        self._loop = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Stop to look."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _look(self) -> None:
        while True:
            try:
                await self._end(await in_thread(self._ledger.ended_keys, time.time()))
            except (OSError, SQLAlchemyError) as error:
                LOG.warning("keys that have ended could not be read; it is tried again", exc_info=error)
            await asyncio.sleep(LOOK_EVERY)

    async def _end(self, ended: set[str]) -> None:
        self._ended = ended
        if tasks := [task for key in self._tasks.keys() & ended for task in self._tasks[key]]:
            for task in tasks:
                self._turn_out(task)
            await asyncio.wait(tasks)
        await self._remove_uploads(ended)
        if jobs := await in_thread(self._ledger.end_jobs, time.time()):
            await self._stop_jobs(jobs)
            LOG.info("jobs of keys that have ended were cancelled", extra={"count": len(jobs)})
        for key in await in_thread(self._ledger.erasing):
            await self._storage.erase(key)
            audit(self._data, "key erased", key=key)

    def _turn_out(self, task: asyncio.Task[object]) -> None:
        self._turned_out.add(task)
        task.cancel()

    def _leave(self, key: str, task: asyncio.Task[object]) -> None:
        self._turned_out.discard(task)
        self._tasks[key].discard(task)
        if not self._tasks[key]:
            del self._tasks[key]
