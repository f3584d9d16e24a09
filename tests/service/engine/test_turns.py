"""Turns: a pure queue, so each rule is a row. Nobody waits behind more than one turn of each other key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from service.engine.turns import Turn, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SMALL, LARGE = {"is_large": False}, {"is_large": True}


class Story:
    """Turns that begin and end as a test says; `began` has their names."""

    def __init__(self, slots: int = 1, *, extra: bool = False) -> None:
        self.turns = Turns(slots, extra=extra)
        self.began: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def queue(self, *names: str, weight: int = 1, **kind: bool) -> None:
        """Queue turns; the letter with which a name begins is the key."""
        for name in names:
            turn = Turn(self.turns, name[0], weight, **kind)
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._take(name, turn))
            await asyncio.sleep(0)

    async def _take(self, name: str, turn: Turn) -> None:
        async with turn:
            self.began.append(name)
            await self._ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await self._tasks[name]
            await asyncio.sleep(0)

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.wait([self._tasks[name]])
        await asyncio.sleep(0)

    async def drain(self) -> list[str]:
        """End every turn in the order in which they begin; return that order."""
        ended = 0
        while ended < len(self.began):
            await self.end(self.began[ended])
            ended += 1
        assert len(self.began) == sum(not task.cancelled() for task in self._tasks.values())
        return self.began


def assert_order(story: Callable[[], Awaitable[list[str]]], expected: str) -> None:
    async def bounded() -> list[str]:
        async with asyncio.timeout(60):
            return await story()

    assert asyncio.run(bounded()) == expected.split()


def test_keys_are_served_in_turn():
    async def story() -> list[str]:
        queue = Story()
        await queue.queue("b1", "b2", "b3", "b4", "c1", "c2")
        await queue.queue("a1")
        return await queue.drain()

    assert_order(story, "b1 c1 a1 b2 c2 b3 b4")


def test_a_key_that_comes_late_is_next_behind_any_number_of_jobs():
    async def story() -> list[str]:
        queue = Story()
        await queue.queue(*(f"b{number}" for number in range(400)))
        await queue.end("b0", "b1", "b2")
        await queue.queue("a")
        await queue.end("b3")
        return queue.began

    assert_order(story, "b0 b1 b2 b3 a")


def test_a_key_of_twice_the_weight_has_twice_the_turns():
    async def story() -> list[str]:
        queue = Story()
        await queue.queue("x0")
        await queue.queue("a1", "a2", "a3", "a4", weight=2)
        await queue.queue("b1", "b2")
        return await queue.drain()

    assert_order(story, "x0 a1 b1 a2 a3 b2 a4")


def test_what_a_client_waits_for_goes_first():
    async def story() -> list[str]:
        queue = Story()
        await queue.queue("b0", "b1", "b2")
        await queue.queue("b3", is_urgent=True)
        await queue.queue("c1")
        await queue.queue("a1", is_urgent=True)
        return await queue.drain()

    assert_order(story, "b0 a1 c1 b3 b1 b2")


def test_small_turns_have_a_slot_that_large_ones_do_not_get():
    async def story() -> list[str]:
        queue = Story(2, extra=True)
        await queue.queue("b1", "b2", "b3", **LARGE)
        assert queue.began == ["b1", "b2"]
        await queue.queue("b4", "b5", **SMALL)
        assert queue.began == ["b1", "b2", "b4"]
        await queue.end("b4")
        assert queue.began == ["b1", "b2", "b4", "b5"]
        await queue.end("b1")
        return queue.began

    assert_order(story, "b1 b2 b4 b5")  # two that are large or small run, and the one beside them is not b3


def test_a_key_of_which_nothing_runs_has_that_slot_too():
    async def story() -> list[str]:
        queue = Story(2, extra=True)
        await queue.queue("b1", "b2", "b3")
        await queue.queue("a0", **LARGE)
        await queue.queue("a1", "a2")
        assert queue.began == ["b1", "b2", "a1"]
        await queue.queue("c1")
        assert queue.began == ["b1", "b2", "a1"]  # there is one
        await queue.end("a1")
        return queue.began

    assert_order(story, "b1 b2 a1 c1")


def test_one_that_must_be_alone_is_alone():
    async def story() -> list[str]:
        queue = Story(3, extra=True)
        await queue.queue("b1", "c1")
        await queue.queue("a", is_alone=True)
        await queue.queue("d1", "d2")
        assert queue.began == ["b1", "c1"]  # nothing more begins
        await queue.end("b1")
        assert queue.began == ["b1", "c1"]
        await queue.end("c1")
        assert queue.began == ["b1", "c1", "a"]
        await queue.end("a")
        return queue.began

    assert_order(story, "b1 c1 a d1 d2")


@pytest.mark.parametrize("is_alone", [True, False])
def test_who_goes_keeps_nobody_waiting(is_alone):
    async def story() -> list[str]:
        queue = Story()
        await queue.queue("b1")
        await queue.queue("a", is_alone=is_alone)
        await queue.queue("c1")
        await queue.cancel("a")
        await queue.cancel("b1")  # this one has its slot
        return queue.began

    assert_order(story, "b1 c1")


def test_a_slot_that_was_given_to_one_who_goes_is_given_on():
    async def story() -> list[str]:
        turns = Turns(1)
        first, second = Turn(turns, "a"), Turn(turns, "b")
        await turns.enter(first)
        waits = asyncio.create_task(turns.enter(second))
        await asyncio.sleep(0)
        turns.leave(first)  # the second one has the slot now, and does not know yet
        waits.cancel()
        await asyncio.wait([waits])
        async with Turn(turns, "c"):
            return ["c"]

    assert_order(story, "c")
