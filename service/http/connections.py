"""Connections: a client that keeps the server waiting is cut off, so that nobody holds one for free.

There are never so many that no files are left to open for the work that was accepted.

uvicorn bounds the time between two requests only. Here it is also the time in which the head of a request must arrive,
the rest of a body that nobody reads must come, and a client must take what it asked for. The body of an upload has
bounds of its own (`service.http.uploads`).
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


MOST_FILES = 1 << 16  # that are asked of the system
OWN_FILES, FILES_OF_A_FOLD = 256, 8  # threads with the ledger or a blob, webhooks; pipes, and what is made of a result
FILES_OF_ONE = 2  # the connection, and the blob that goes through it
LEAST = 16


class Connection(H11Protocol):
    """uvicorn's, with patience."""

    patience = 20.0  # seconds
    most = MOST_FILES  # connections
    _head: asyncio.TimerHandle | None = None  # until a request is there
    _taking: asyncio.TimerHandle | None = None  # until the client has taken what is buffered for it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._expect_request()
        if len(self.connections) > self.most:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; while no whole head is there, the first part of it sets the time."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_request()
        else:
            self._stop_expecting()

    def pause_writing(self) -> None:
        """The client does not take what is sent: wait for it, but not forever."""
        super().pause_writing()
        if self._taking is None:
            self._taking = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """The client goes on."""
        super().resume_writing()
        self._stop_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._stop_expecting()
        self._stop_taking()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.patience, self.transport.abort)

    def _stop_expecting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def patient(seconds: float, most: int = MOST_FILES) -> type[Connection]:
    """Connections with so much patience, and not more than `most` of them."""
    return type("Connection", (Connection,), {"patience": seconds, "most": most})


def room(folds: int) -> int:
    """How many connections there may be beside so many folds; this process may open as many files as it can get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    files = allowed if soft == resource.RLIM_INFINITY else max(soft, allowed)
    return max((files - OWN_FILES - FILES_OF_A_FOLD * folds) // FILES_OF_ONE, LEAST)
