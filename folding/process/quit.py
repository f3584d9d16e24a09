"""Ctrl-C before there is anything to clean up: the process ends at once, in one line.

An exception could not do that: while modules are imported, native code turns a KeyboardInterrupt into other errors, or
loses it. This module is loaded before all others, so it imports what every interpreter has loaded.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without its enumerations, which take 5 ms to import
import os

STDERR = 2  # the file descriptor
INTERRUPTED = 130  # what a shell reports for a process ended by SIGINT: 128 + 2


def quit_when_interrupted() -> None:
    """Let Ctrl-C end the process, unless a shell has it ignored."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, quit_now)


def quit_now(*_: object) -> None:
    """End the process."""
    os.write(STDERR, b"bnfold: interrupted; nothing was written\n")
    os._exit(INTERRUPTED)
