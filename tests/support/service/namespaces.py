"""Network namespaces: a test has a network of its own, and a worker another one, with a cable in between to cut.

Both are without a name, held by this process alone: when it has ended, however that was, nothing of them is left.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of linux/sched.h
OWN = Path("/proc/thread-self/ns/net")
HERE, THERE = "10.0.0.1", "10.0.0.2"  # the ends of the cable, in networks that nothing else is in
NEAR, FAR = "here", "there"  # the names of its ends
# A queue that takes no packet: what is to be sent is dropped, and no end learns of it.
NOTHING = ("tbf", "rate", "8bit", "burst", "10", "limit", "1")
Cut = Literal["drop", "down"]


class NamespaceError(Exception):
    """No network namespace can be made here."""


class Networks:
    """While it is open, this thread, and what it starts, is in a network of its own; `there` is the other one."""

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise NamespaceError("only root can make a network")
        self._before = os.open(OWN, os.O_RDONLY)
        try:
            _unshare()
            self.there = self._made()
            _ip("link", "set", "lo", "up")
            _ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR, "netns", self._path)
            _ip("address", "add", f"{HERE}/30", "dev", NEAR)
            _ip("link", "set", NEAR, "up")
            self._there("ip", "address", "add", f"{THERE}/30", "dev", FAR)
            self.heal()
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            raise NamespaceError(str(getattr(error, "stderr", "") or error).strip()) from error
        return self

    def __exit__(self, *_: object) -> None:
        _join(self._before)
        for opened in ("_before", "there"):
            with suppress(AttributeError, OSError):
                os.close(getattr(self, opened))

    @property
    def entering(self) -> tuple[str, ...]:
        """What a command begins with that is to run in the other network."""
        return "nsenter", f"--net={self._path}", "--"

    def cut(self, how: Cut) -> None:
        """Drop what is sent from either end, or take the cable out at this one: both believe to be connected."""
        if how == "down":
            _ip("link", "set", NEAR, "down")
        else:
            _run("tc", "qdisc", "add", "dev", NEAR, "root", *NOTHING)
            self._there("tc", "qdisc", "add", "dev", FAR, "root", *NOTHING)

    def heal(self) -> None:
        """Let all pass again."""
        _ip("link", "set", NEAR, "up")
        self._there("ip", "link", "set", "lo", "up")
        self._there("ip", "link", "set", FAR, "up")
        for entering, end in (((), NEAR), (self.entering, FAR)):  # where there is one
            subprocess.run([*entering, "tc", "qdisc", "del", "dev", end, "root"], check=False, capture_output=True)

    def listener(self, port: int) -> socket.socket:
        """A listener in the other network, on its loopback."""
        made: list[socket.socket] = []

        def make() -> None:
            _join(self.there)
            made.append(socket.create_server(("127.0.0.1", port)))

        _apart(make)
        return made[0]

    @property
    def _path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.there}"

    def _there(self, *command: str) -> None:
        _run(*self.entering, *command)

    def _made(self) -> int:
        made: list[int] = []

        def make() -> None:
            _unshare()
            made.append(os.open(OWN, os.O_RDONLY))

        _apart(make)
        return made[0]


def _apart(work: Callable[[], None]) -> None:
    """Do something in a thread of its own, whose network is gone with it. Raises OSError as that does."""
    failed: list[OSError] = []

    def run() -> None:
        try:
            work()
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _unshare() -> None:
    _call("unshare", NEW_NETWORK)


def _join(namespace: int) -> None:
    _call("setns", namespace, NEW_NETWORK)


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
