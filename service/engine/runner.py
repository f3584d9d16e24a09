"""The runner: one attempt of one job, from the blob of its input to its end in the ledger. Every engine runs jobs so.

The death of a child counts only if it was seen: a child that something else killed is tried again once, alone. Who ends
an attempt, the ledger decides: an attempt that others took for dead changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import time
from typing import TYPE_CHECKING, Literal

from sqlalchemy.exc import SQLAlchemyError

from service.blobs import StoreError
from service.ledger.records import Failure
from service.metrics import DEATHS
from service.problems import Problem
from service.threads import in_thread
from service.work import ARCHIVE, IN, Answer, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.engine.accounts import Accounts, Folding
    from service.ledger.interface import Ledger
    from service.ledger.records import Job
    from service.process.child import Child, OnProgress
    from service.process.children import Children
    from service.settings import Settings
    from service.storage import Storage

LOG = logging.getLogger("bnfold")
VERIFICATION_GRACE = 10.0  # seconds in which a verification must notice that its time is over
LOOK_EVERY = 1.0  # seconds between two checks of the free disk space while a fold runs
KILLS = 2  # of a job's process by something else: the second time, nothing else ran
END_SECONDS = 1.0  # after a kill, to see whether the server was asked to end as well: then it is no fault
FINISH_AGAIN_SECONDS = 1.0  # between two tries to store the end of a job
NO_SPACE = "insufficient-storage"
TRIED_AGAIN = {"crashed", "killed", NO_SPACE}
FULL = {errno.ENOSPC, errno.EDQUOT}
DISK_FULL = "the disk of this machine is full"
LOST = Answer(slug="internal")  # the ledger has ended the job, and said why


class Runner:
    """Runs jobs in child processes, each when it is asked to. `is_ending` says whether this process ends.

    `patience` is the time in seconds in which the end of a job is tried again, while the ledger or the store fails.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        storage: Storage,
        children: Children,
        accounts: Accounts,
        is_ending: Callable[[], bool],
        patience: float = 0.0,
    ) -> None:
        self._settings, self._ledger, self._storage, self._children = settings, ledger, storage, children
        self._accounts, self._is_ending, self._patience = accounts, is_ending, patience
        self.ending: set[str] = set()  # attempts that fold no more: their end is stored, or is being stored

    async def run(self, job: Job, on_progress: OnProgress) -> bool:
        """Run an attempt that the ledger has started; whether the job is queued again, because its process has died.

        Raises:
            StoreError: the blob store cannot be used now, or the disk is full; the job is queued again.
            SQLAlchemyError: the ledger cannot be used now; it still has the attempt.
        """
        began = time.monotonic()
        self._accounts.started(job)
        try:
            answer = await self._fold(job, on_progress)
            if answer is None:
                return False
            self._require_space(answer)
            if answer.slug in TRIED_AGAIN and await self._is_tried_again(job, answer):
                return True
        except (asyncio.CancelledError, StoreError):
            await in_thread(self._ledger.give_back, job.key, job.id, job.run)  # without effect if it was cancelled
            raise
        finally:
            self.ending.discard(job.run)
        self._accounts.ended(job, answer, time.monotonic() - began)
        return False

    def request(self, job: Job, kind: Literal["fold", "inspect"] = "fold") -> Request:
        """The request to a child for a job."""
        settings, options = self._settings, json.loads(job.options)
        verifies = kind == "fold" and options["verify"]
        verification = options["verify_timeout"] + VERIFICATION_GRACE if verifies else 0.0
        bounds, sha256 = settings.bounds(verification), job.input.sha256 if kind == "fold" else ""
        return Request(kind, job.name, job.archive, options, settings.limits, bounds, sha256)

    async def guarded(self, child: Child, request: Request, on_progress: OnProgress) -> Answer:
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

    def _require_space(self, answer: Answer) -> None:
        """See that no full disk is the reason of an answer: without what the fold has written, there is space.

        Raises:
            StoreError: there is none, so something else fills the disk.
        """
        if answer.slug in {NO_SPACE, "crashed"} and not self._storage.has_space:
            raise StoreError(errno.ENOSPC, DISK_FULL)

    async def _is_tried_again(self, job: Job, answer: Answer) -> bool:
        """Count that the process of a job has died, or has met a full disk; False if the job ends with that.

        Raises:
            asyncio.CancelledError: the server ends, and whoever ended it killed the process, too.
        """
        if answer.slug == "killed":
            await asyncio.sleep(END_SECONDS)
            if self._is_ending():
                raise asyncio.CancelledError
        most = KILLS if answer.slug == "killed" else self._settings.attempts
        failure = Failure(answer.slug or "", answer.detail)
        return await in_thread(self._ledger.died, job.key, job.id, job.run, failure, most)

    async def _fold(self, job: Job, on_progress: OnProgress) -> Answer | None:
        """The answer of a child; None if the ledger did not take it, because the attempt does not run any more."""
        with self._accounts.folding(job) as folding:
            answer = await self._once(job, folding, on_progress)
            if answer is not None and answer.damaged:  # the copy was, and the upload is not: it is placed again
                answer = await self._once(job, folding, on_progress, is_last=True)
            return answer

    async def _once(
        self, job: Job, folding: Folding, on_progress: OnProgress, *, is_last: bool = False
    ) -> Answer | None:
        """As `_fold`. The job has ended with the answer, unless it is tried again, or its copy is damaged."""
        try:
            async with self._children.child() as child:
                place = child.folder / IN / (ARCHIVE if job.archive else job.name)
                await self._storage.blobs.place(job.input.sha256, place, shared=child.shares_inputs)
                answer = await self.guarded(child, self.request(job), folding.watching(on_progress))
                folding.answered(answer)
                if (answer.damaged or answer.slug in DEATHS) and not await self._has_upload(job):
                    return LOST
                if answer.slug in TRIED_AGAIN or (answer.damaged and not is_last):
                    return answer
                return answer if await self._finish(job, child.folder, answer) else None
        except StoreError:
            raise
        except (Problem, OSError, ValueError) as error:
            return await self._failed(job, error)

    async def _failed(self, job: Job, error: Exception) -> Answer | None:
        """As `_once`, where the child has no answer, or its output cannot be stored."""
        if isinstance(error, Problem):
            answer = Answer(slug=error.slug, detail=error.detail)
        elif isinstance(error, OSError) and error.errno in FULL:
            answer = Answer(slug=NO_SPACE, detail=f"{DISK_FULL}; try again later")
        elif not await self._has_upload(job):
            return LOST
        else:
            LOG.error("a fold failed", exc_info=error, extra={"job": job.id})
            answer = Answer(slug="internal", detail="the server could not keep the result; try again later")
        if answer.slug in TRIED_AGAIN:
            return answer
        return answer if await self._finish(job, self._settings.data, answer) else None

    async def _finish(self, job: Job, folder: Path, answer: Answer) -> bool:
        """Store the output of a job and end it, again and again while that fails: a fold took longer than this does.

        False if the attempt does not run any more.
        """
        self.ending.add(job.run)
        until = time.monotonic() + self._patience
        while True:
            try:
                return await self._storage.finish(job, folder, answer)
            except (StoreError, SQLAlchemyError) as error:
                if time.monotonic() >= until or self._is_ending():
                    raise
                LOG.warning("the end of a job could not be stored; it is tried again", exc_info=error)
                await asyncio.sleep(FINISH_AGAIN_SECONDS)

    async def _has_upload(self, job: Job) -> bool:
        """Whether the upload of a job is whole; if not, the job has ended with that."""
        return await self._storage.heal([job.input], by_content=True)
