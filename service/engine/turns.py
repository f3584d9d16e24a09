"""Turns: who works next, when there is more to do than there are slots. No key can keep another one waiting.

1. Each key has a queue, and the queues are served in turn: start-time fair queueing (Goyal, Vin and Cheng, 1996). A key
   of weight w gets w turns for each turn of a key of weight 1. A key that had nothing to do is next.
2. Within a key, urgent turns go before others: a client waits for them. Between keys that are equally due, too.
3. Beside the slots is one more, for a small turn that would wait for others: while only large ones run, or while none
   of its own key runs.
4. A turn that must be alone waits until nothing runs, and nothing begins until it has ended.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count
from typing import Self


class Turns:
    """Slots that are given out in turn: `slots` for any turn, and if `extra`, one more for a small one (rule 3)."""

    def __init__(self, slots: int, *, extra: bool = False) -> None:
        self._slots, self._extra = slots, extra
        self._waiting: list[Turn] = []
        self._running: list[Turn] = []
        self._due: dict[str, float] = {}  # of each key, when its next turn begins in virtual time
        self._time = 0.0  # the virtual time: when the latest turn began
        self._numbers = count()

    async def enter(self, turn: Turn) -> None:
        """Wait for a slot."""
        turn.number = next(self._numbers)
        self._waiting.append(turn)
        self._give_out()
        try:
            await turn.begins.wait()
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._give_out()  # it may have been the one for which others waited
            else:
                self.leave(turn)
            raise

    def leave(self, turn: Turn) -> None:
        """Give a slot back."""
        self._running.remove(turn)
        self._give_out()

    def begin(self, turn: Turn) -> None:
        """Give a slot to a turn that `choose` returned."""
        self._running.append(turn)
        self._time = self._start(turn)
        self._due[turn.key] = self._time + 1 / turn.weight
        self._due = {key: due for key, due in self._due.items() if due > self._time}
        turn.begins.set()

    @property
    def has_room(self) -> bool:
        """Whether any turn could begin now."""
        return len(self._running) < self._slots + self._extra and not any(turn.is_alone for turn in self._running)

    def choose(self, waiting: list[Turn]) -> Turn | None:
        """The turn of those that wait that begins now; None if there is none, or no slot for it."""
        if not self.has_room:
            return None
        candidates = waiting
        if len(self._running) >= self._slots:
            candidates = self._that_wait_for_others(waiting)
        if not candidates:
            return None
        turn = min(candidates, key=lambda turn: (self._start(turn), not turn.is_urgent, turn.number))
        return None if turn.is_alone and self._running else turn

    def _that_wait_for_others(self, waiting: list[Turn]) -> list[Turn]:
        keys, only_large = {turn.key for turn in self._running}, all(turn.is_large for turn in self._running)
        return [turn for turn in waiting if not turn.is_large and (only_large or turn.key not in keys)]

    def _give_out(self) -> None:
        while (turn := self.choose(self._waiting)) is not None:
            self._waiting.remove(turn)
            self.begin(turn)

    def _start(self, turn: Turn) -> float:
        return max(self._time, self._due.get(turn.key, 0.0))


@dataclass(eq=False)
class Turn:
    """A turn of a key. As an asynchronous context it waits for its slot, and gives it back."""

    turns: Turns
    key: str
    weight: int = 1
    is_large: bool = False
    is_alone: bool = False
    is_urgent: bool = False  # may become true while it waits
    begins: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = 0

    async def __aenter__(self) -> Self:
        """Wait for a slot."""
        await self.turns.enter(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give the slot back."""
        self.turns.leave(self)
