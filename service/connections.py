"""Connections: a client that keeps the server waiting is cut off, so that nobody holds one for free.

uvicorn bounds the time between two requests only. Here it is also the time in which the head of a request must arrive,
the rest of a body that nobody reads must come, and a client must take what it asked for. The body of an upload has
bounds of its own (`service.uploads`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


class Connection(H11Protocol):
    """uvicorn's, with patience."""

    patience = 20.0  # seconds
    _head: asyncio.TimerHandle | None = None  # until a request is there
    _taking: asyncio.TimerHandle | None = None  # until the client has taken what is buffered for it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._expect_request()

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


def patient(seconds: float) -> type[Connection]:
    """Connections with so much patience."""
    return type("Connection", (Connection,), {"patience": seconds})
