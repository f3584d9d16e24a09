"""A copy of this process that runs one function, with the interface of `subprocess.Popen` as far as it is used."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_EVERY = 0.01  # seconds, where the system cannot report the end of a process


class Fork:
    """Runs `work` in a process group of its own. It reads standard input from `stdin`; what it prints is lost.

    Call this while no other thread runs: a lock that one holds would stay locked in the copy.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(writing)
            _work_and_leave(work, reading)
        with suppress(OSError):  # both do it, so it is done when either goes on
            os.setpgid(self.pid, self.pid)
        os.close(reading)
        self.stdin = os.fdopen(writing, "wb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, after `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and timeout is not None and left <= 0:
                raise subprocess.TimeoutExpired("a fork", timeout)
            self._sleep(left)
        return status

    def kill(self) -> None:
        """Kill it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _sleep(self, seconds: float | None) -> None:
        """Sleep until it ends, for `seconds` at most."""
        try:
            file = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # Linux only, since 5.3
            time.sleep(min(LOOK_EVERY, seconds or LOOK_EVERY))
            return
        try:
            select.select([file], [], [], seconds)
        finally:
            os.close(file)


def _work_and_leave(work: Callable[[], object], reading: int) -> NoReturn:
    """Do the work, then exit without running any more of this program."""
    status = 1
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_WRONLY)
        for source, number in ((reading, 0), (nothing, 1), (nothing, 2)):
            os.dup2(source, number)
        os.close(reading)
        os.close(nothing)
        work()
        status = 0
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
        os._exit(status)
