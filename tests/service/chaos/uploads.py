"""Slow uploads: clients that trickle, break off, or are too slow, on connections of their own."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    import random

STEPS = 20
STEP_SECONDS = 0.15
CUT = b"408"


class Trickle:
    """An upload whose bytes come one step after the other."""

    def __init__(self, url: str, content: bytes, size: int) -> None:
        where = httpx.URL(url)
        self._socket = socket.create_connection((where.host, where.port), PATIENCE)
        given = ("Host: localhost", "Prefer: respond-async", f"Content-Length: {size}", "Connection: close")
        self._socket.sendall("\r\n".join(("POST /v1/fold?verify=false HTTP/1.1", *given, "", "")).encode())
        self._content = content

    def send(self, rng: random.Random, steps: int) -> None:
        """Send the first so many of `STEPS` steps, unless the server has closed the connection."""
        size = -(-len(self._content) // STEPS)
        with suppress(OSError):
            for step in range(steps):
                self._socket.sendall(self._content[step * size : (step + 1) * size])
                time.sleep(rng.uniform(0, 2 * STEP_SECONDS))

    def answer(self) -> bytes:
        """The status and the body of the response; nothing if the connection broke off."""
        received = b""
        with suppress(OSError):
            while block := self._socket.recv(1 << 16):
                received += block
        head, _, body = received.partition(b"\r\n\r\n")
        return head[9:12] + body

    def close(self) -> None:
        self._socket.close()
