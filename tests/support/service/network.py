"""A network between two programs, which a test can cut: then it takes bytes, and passes nothing on."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

BLOCK = 1 << 16


class Network:
    """A port of loopback that leads to another one. `listener` is it, where it is in another network namespace."""

    def __init__(self, port: int, listener: socket.socket | None = None) -> None:
        self._target, self._given = ("127.0.0.1", port), listener
        self._passes = threading.Event()
        self._passes.set()

    def __enter__(self) -> Self:
        self._listener = self._given or socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """Pass nothing on, in either direction, until it is healed; new connections are taken, too."""
        self._passes.clear()

    def heal(self) -> None:
        """Pass on what has waited, and what comes."""
        self._passes.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        self._passes.wait()
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
        back.start()
        self._pump(near, far)
        back.join()
        near.close()
        far.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(BLOCK):
                self._passes.wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
