"""Processes that tests start: whoever sends one a signal starts it so that it hears it."""

from __future__ import annotations

import sys

# A job in the background of a shell ignores SIGINT, one of `nohup` SIGHUP, and what a process ignores its children do.
_LISTEN = """
import os, signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def listening(*arguments: object) -> list[str]:
    """The command of a Python with these arguments that hears signals, whatever this process ignores."""
    return [sys.executable, "-c", _LISTEN, *map(str, arguments)]
