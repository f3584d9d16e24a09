"""Connections: slow clients are disconnected, and the number of connections is limited.

The limit leaves enough file descriptors for the work that was accepted.

uvicorn limits only the time between two requests. Here the same limit applies to three more waits: for the head of a
request, for the rest of a body that the server does not read, and for a client that does not read its response. The
body of an upload has limits of its own (`service.http.uploads`).

A request may be refused before its body has arrived. If the connection were closed then, the system would answer what
still arrives with a reset, and a proxy would report 502 instead of the refusal. So the server ends only its own side,
and reads the rest of the body, within bounds.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio


MOST_FILES = 1 << 16  # open files that this process asks the system for
OWN_FILES, FILES_OF_A_FOLD = 256, 8  # for the ledger, blobs and webhooks; for pipes and the result
FILES_OF_ONE = 2  # the connection, and the blob that it transfers
LEAST = 16
DRAINED = 64 << 20  # bytes of a refused body, at most, that are read so that the refusal arrives


class Connection(H11Protocol):
    """A connection of uvicorn with a limit on waiting, `patience`."""

    patience = 20.0  # seconds
    most = MOST_FILES  # connections
    _head: asyncio.TimerHandle | None = None  # runs until the head of a request has arrived
    _taking: asyncio.TimerHandle | None = None  # runs until the client has read what is buffered for it
    _drained: int | None = None  # bytes of a refused body that were discarded; None if nothing was refused

    @property
    def is_arriving(self) -> bool:
        """Whether the body of a request still arrives."""
        return self.conn.their_state is h11.SEND_BODY

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's signature
        """Start the timer for the head of the first request."""
        super().connection_made(cast("asyncio.Transport", _Ending(transport, self)))
        self._expect_request()
        if len(self.connections) > self.most:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Handle a part of a request. The timer runs from the first part of a head until the head is complete."""
        if self._drained is not None:
            self._drained += len(data)
            if self._drained > DRAINED:
                self.transport.abort()
            return
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_request()
        else:
            self._stop_expecting()

    def drain(self) -> None:
        """Discard what still arrives of a refused request, for `patience` seconds at most."""
        self._drained = 0
        self.flow.resume_reading()
        self._stop_expecting()
        self._expect_request()

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read its response."""
        super().pause_writing()
        if self._taking is None:
            self._taking = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that timer, because the client reads again."""
        super().resume_writing()
        self._stop_taking()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
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


class _Ending:
    """The transport of a connection; closed while a body arrives, it ends its own side only."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport, self._connection, self._is_ending = transport, connection, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._is_ending or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing() or not (self._connection.is_arriving and self._transport.can_write_eof()):
            self._transport.close()
            return
        self._is_ending = True
        self._transport.write_eof()
        self._connection.drain()


def patient(seconds: float, most: int = MOST_FILES) -> type[Connection]:
    """A class of connections with this patience in seconds; at most `most` are open at a time."""
    return type("Connection", (Connection,), {"patience": seconds, "most": most})


def room(folds: int) -> int:
    """How many connections fit beside `folds` folds. Raises this process's limit of open files as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    files = allowed if soft == resource.RLIM_INFINITY else max(soft, allowed)
    return max((files - OWN_FILES - FILES_OF_A_FOLD * folds) // FILES_OF_ONE, LEAST)
