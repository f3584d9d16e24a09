"""Changes: who waits for a job is woken when it changes."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from weakref import WeakValueDictionary


class Address(NamedTuple):
    """Where a job is found."""

    key: str
    job: str


class Changes:
    """The next change of every job. Ask for it before looking at the job: then no change is missed."""

    def __init__(self) -> None:
        self._next: WeakValueDictionary[Address, asyncio.Event] = WeakValueDictionary()
        self.closing = False

    def next(self, address: Address) -> asyncio.Event:
        """What is set when the job changes next, or the server ends."""
        event = self._next.get(address)
        if event is None:
            event = self._next[address] = asyncio.Event()
            if self.closing:
                event.set()
        return event

    def tell(self, address: Address) -> None:
        """The job has changed."""
        event = self._next.pop(address, None)
        if event is not None:
            event.set()

    def close(self) -> None:
        """The server ends: nobody waits any longer."""
        self.closing = True
        for event in list(self._next.values()):
            event.set()
