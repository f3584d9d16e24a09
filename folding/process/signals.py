"""Signals that end the command: it cleans up as after Ctrl-C and exits with the code that a shell would report."""

from __future__ import annotations

import os
import signal

ENDING = tuple(name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
SHELL_OFFSET = 128  # a shell reports a process ended by signal n as 128 + n
STDERR = 2  # the file descriptor
INTERRUPTED = SHELL_OFFSET + signal.SIGINT


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived; `code` is the exit code for that signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = SHELL_OFFSET + number


def quit_when_interrupted() -> None:
    """Let Ctrl-C end the process at once, before there is anything to clean up: an exception could not.

    While modules are imported, native code turns a KeyboardInterrupt into other errors, or loses it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell has it ignored
        signal.signal(signal.SIGINT, _quit)


def _quit(*_: object) -> None:
    os.write(STDERR, b"bnfold: interrupted; nothing was written\n")
    os._exit(INTERRUPTED)


def raise_when_interrupted() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_cleanly_when_told_to() -> None:
    """Turn SIGTERM and SIGHUP (timeout, docker stop, a closed terminal) into `Terminated`, once; and Ctrl-C as ever."""
    raise_when_interrupted()

    def end(number: int, _: object) -> None:
        for name in ENDING:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        raise Terminated(number)

    for name in ENDING:
        signal.signal(getattr(signal, name), end)
