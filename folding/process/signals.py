"""Signals that end the command: it cleans up as after Ctrl-C and exits with the code that a shell would report."""

from __future__ import annotations

import signal

from folding.process.quit import quit_now

ENDING = tuple(name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
SHELL_OFFSET = 128  # a shell reports a process ended by signal n as 128 + n


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived; `code` is the exit code for that signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = SHELL_OFFSET + number


def raise_when_interrupted() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, where it quits."""
    if signal.getsignal(signal.SIGINT) is quit_now:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_cleanly_when_asked() -> None:
    """Turn SIGTERM and SIGHUP (timeout, docker stop, a closed terminal) into `Terminated`, once; and Ctrl-C as ever."""
    raise_when_interrupted()

    def end(number: int, _: object) -> None:
        for name in ENDING:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        raise Terminated(number)

    for name in ENDING:
        signal.signal(getattr(signal, name), end)
