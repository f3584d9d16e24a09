"""The watchdog: cuts connections to a database that does not answer in time.

The timeouts of PostgreSQL hold on its own side, and those of TCP do not hold where something in between takes the bytes
and passes nothing on. A thread that waits for an answer then would wait forever.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

LOOK_EVERY = 0.5  # seconds


class Watchdog:
    """A thread that looks at the connections that are in use."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[float, Any]] = {}
        self._numbers, self._lock, self._ends = count(), threading.Lock(), threading.Event()
        threading.Thread(target=self._look, name="bnfold-watchdog", daemon=True).start()

    @contextmanager
    def watched(self, connection: Any, seconds: float) -> Generator[None]:
        """Cut this connection of psycopg unless the context ends in time; what waits for it raises an error then."""
        number = next(self._numbers)
        with self._lock:
            self._watched[number] = time.monotonic() + seconds, connection
        try:
            yield
        finally:
            with self._lock:
                del self._watched[number]

    def close(self) -> None:
        """End the thread."""
        self._ends.set()

    def _look(self) -> None:
        while not self._ends.wait(LOOK_EVERY):
            now = time.monotonic()
            with self._lock:  # while it is held, none of these connections is given back, and its socket is its own
                for due, connection in self._watched.values():
                    if due < now:
                        cut(connection)


def cut(connection: Any) -> None:
    """End a connection at once, whatever it waits for."""
    with suppress(Exception):  # it may have ended meanwhile, and then has no socket
        twin = socket.socket(fileno=os.dup(connection.pgconn.socket))
        with twin:
            twin.shutdown(socket.SHUT_RDWR)
