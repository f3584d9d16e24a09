"""A worker: whose job it takes next, and what it does when the ledger says that a job is not its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from service.auth.keys import new_key
from service.blobs import StoreError
from service.engine.accounts import Accounts
from service.engine.member import Member
from service.ledger.records import Failure, Quota
from service.ledger.sql import open_shared
from service.metrics import Metrics
from service.settings import Settings
from service.tracing.spans import Traces
from tests.service.ledger.test_sql import MODEL, submit
from tests.service.ledger.test_workers import ENGINE, silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from service.ledger.interface import SharedLedger
    from service.ledger.records import Job

pytest_plugins = ["tests.support.service.cluster"]

LARGE = replace(MODEL, bytes=1 << 30)


@pytest.fixture
def ledger(database_url: str) -> Iterator[SharedLedger]:
    opened = open_shared(database_url)
    yield opened
    opened.close()


class Held:
    """In place of the runner: a job runs until the test ends it, or until it is cancelled."""

    def __init__(self, ledger: SharedLedger) -> None:
        self._ledger = ledger
        self.ends: dict[str, asyncio.Future[None]] = {}
        self.began: list[Job] = []
        self.ending: set[str] = set()

    async def run(self, job: Job, _: object) -> bool:
        self.began.append(job)
        self.ends[job.id] = asyncio.get_running_loop().create_future()
        try:
            await self.ends[job.id]
        except (asyncio.CancelledError, StoreError):
            self._ledger.give_back(job.key, job.id, job.run)
            raise
        self._ledger.finish(job.key, job.id, job.run, job.output, Failure("invalid-model", "it is none"))
        return False


class Room:
    """In place of the storage: there is room."""

    has_space = True


async def settled(member: Member) -> None:
    """Take what can be taken, and let what was taken begin."""
    while await member._took():
        await asyncio.sleep(0)
    await asyncio.sleep(0)


def story(
    ledger: SharedLedger, folder: Path, act: Callable[[Member, Held], Awaitable[None]], slots: int = 1, **settings: Any
) -> None:
    async def run() -> None:
        chosen = Settings(data=folder, workers=slots, **settings)
        member = Member(chosen, ledger, Room(), None, Accounts(Metrics(), Traces()), ENGINE)  # type: ignore[arg-type]
        member._turns._extra = False
        member._runner = held = Held(ledger)  # type: ignore[assignment]
        await member._enter()
        await act(member, held)
        for task in list(member._running.values()):
            task.cancel()
        await asyncio.sleep(0)

    asyncio.run(run())


async def end(member: Member, held: Held, job: Job) -> None:
    """Let a job end."""
    held.ends[job.id].set_result(None)
    await asyncio.wait([member._running[job.run]])
    await asyncio.sleep(0)


async def one_after_the_other(member: Member, held: Held, count: int) -> list[str]:
    """The keys of the next jobs, each ended before the next one begins."""
    keys = []
    for _ in range(count):
        await settled(member)
        job = held.began[-1]
        keys.append(job.key)
        await end(member, held, job)
    return keys


def test_keys_are_served_in_turn_and_by_weight(ledger, tmp_path):
    heavy = replace(new_key("heavy", quota=Quota(weight=2))[0], id="heavy")
    ledger.add_key(heavy)
    for number in range(6):
        submit(ledger, "heavy", f"{number}")
    for number in range(4):
        submit(ledger, "light", f"{number}")

    async def act(member: Member, held: Held) -> None:
        first = await one_after_the_other(member, held, 6)
        assert (first.count("heavy"), first.count("light")) == (4, 2)
        submit(ledger, "late")
        assert "late" in await one_after_the_other(member, held, 2)  # next, whatever waits before it

    story(ledger, tmp_path, act)


def test_a_suspect_runs_alone(ledger, tmp_path):
    dead, made = ledger.enter("dead", ENGINE, 1), submit(ledger, "a")
    assert ledger.take(dead, ledger.waiting()[0].name) is not None
    silent(ledger, dead)

    async def act(member: Member, held: Held) -> None:
        submit(ledger, "b")
        await settled(member)
        assert len(ledger.recover(5.0)) == 1
        submit(ledger, "c")
        await settled(member)
        assert [job.key for job in held.began] == ["b"]  # there is another slot
        await end(member, held, held.began[0])
        await settled(member)
        assert [job.id for job in held.began[1:]] == [made.id]
        await settled(member)
        await end(member, held, held.began[1])
        await settled(member)
        assert [job.key for job in held.began] == ["b", "a", "c"]

    story(ledger, tmp_path, act, slots=2)


def test_a_small_job_has_a_place_beside_large_ones(ledger, tmp_path):
    for number in range(2):
        submit(ledger, "a", f"{number}", model=LARGE)
    submit(ledger, "b")

    async def act(member: Member, held: Held) -> None:
        member._turns._extra = True
        await settled(member)
        assert sorted(job.key for job in held.began) == ["a", "b"]

    story(ledger, tmp_path, act)


def test_a_job_that_is_not_its_own_any_more_ends(ledger, tmp_path):
    made = submit(ledger)

    async def act(member: Member, held: Held) -> None:
        await settled(member)
        ledger.cancel(made.key, made.id)
        (task,) = member._running.values()
        await member._heed(ledger.beat(member._id), set(member._running))
        await asyncio.wait([task])
        assert task.cancelled()
        assert member._running == {}

    story(ledger, tmp_path, act)


def test_a_job_that_has_just_ended_is_left_to_return(ledger, tmp_path):
    """The ledger has it no more, and the runner still has to count it, and to tidy up after it."""
    made = submit(ledger)

    async def act(member: Member, held: Held) -> None:
        await settled(member)
        (job,), (task,) = held.began, member._running.values()
        held.ending.add(job.run)
        assert ledger.finish(job.key, job.id, job.run, job.output, None)
        await member._heed(ledger.beat(member._id), set(member._running))
        assert not task.cancelling()
        await end(member, held, job)
        assert ledger.job(made.key, made.id).status == "done"

    story(ledger, tmp_path, act)


def test_a_job_that_was_taken_meanwhile_goes_on(ledger, tmp_path):
    submit(ledger)

    async def act(member: Member, held: Held) -> None:
        before = set(member._running)
        beat = ledger.beat(member._id)
        await settled(member)
        await member._heed(beat, before)
        (task,) = member._running.values()
        await asyncio.sleep(0)
        assert not task.cancelling()

    story(ledger, tmp_path, act)


def test_a_job_that_runs_nowhere_is_given_back(ledger, tmp_path):
    """The answer to its start was lost, or its end could not be stored."""
    made = submit(ledger)

    async def act(member: Member, held: Held) -> None:
        assert ledger.take(member._id, ledger.waiting()[0].name) is not None
        await member._heed(ledger.beat(member._id), set())
        assert ledger.job(made.key, made.id).status == "running"  # it may have just been taken
        await member._heed(ledger.beat(member._id), set())
        assert ledger.job(made.key, made.id).status == "queued"

    story(ledger, tmp_path, act)


def test_a_worker_that_was_taken_for_dead_is_another_one_now(ledger, tmp_path):
    submit(ledger)

    async def act(member: Member, held: Held) -> None:
        await settled(member)
        before, (task,) = member._id, member._running.values()
        silent(ledger, before)
        assert len(ledger.recover(5.0)) == 1
        await member._heed(ledger.beat(before), set(member._running))
        assert member._id != before
        await asyncio.wait([task])
        await settled(member)
        assert held.began[-1].worker == member._id

    story(ledger, tmp_path, act)


def test_while_the_store_fails_no_job_is_taken(ledger, tmp_path):
    made = submit(ledger)

    async def act(member: Member, held: Held) -> None:
        await settled(member)
        held.ends[made.id].set_exception(StoreError(5, "it fails"))
        await asyncio.wait(member._running.values())
        await asyncio.sleep(0)
        assert ledger.job(made.key, made.id).status == "queued"
        assert not await member._took()
        member._paused = float("-inf")  # the pause is over
        assert await member._took()

    story(ledger, tmp_path, act)


def test_an_operator_drains_a_worker(ledger, tmp_path):
    async def act(member: Member, held: Held) -> None:
        ledger.drain(member._id)
        await member._heed(ledger.beat(member._id), set())
        assert member.ending.is_set()

    story(ledger, tmp_path, act)
