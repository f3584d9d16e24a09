"""Changes of jobs: requests that wait for a job are notified when it changes."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from weakref import WeakValueDictionary


class Address(NamedTuple):
    """The identity of a job: the id of its key, and its own id."""

    key: str
    job: str


class Changes:
    """The next change of each job, as an event. Call `next` before you read the job, so that no change is missed."""

    def __init__(self) -> None:
        self._next: WeakValueDictionary[Address, asyncio.Event] = WeakValueDictionary()
        self.closing = False

    def next(self, address: Address) -> asyncio.Event:
        """The event that is set at the next change of the job, or when the server shuts down."""
        event = self._next.get(address)
        if event is None:
            event = self._next[address] = asyncio.Event()
            if self.closing:
                event.set()
        return event

    def notify(self, address: Address) -> None:
        """Set the event of a job that has changed."""
        event = self._next.pop(address, None)
        if event is not None:
            event.set()

    def notify_all(self) -> None:
        """Set the events of all jobs: some may have changed."""
        for address in list(self._next):
            self.notify(address)

    def close(self) -> None:
        """Set all events, because the server shuts down."""
        self.closing = True
        for event in list(self._next.values()):
            event.set()
