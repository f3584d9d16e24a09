"""Processes that tests start: they hear signals, and what they start in turn is found."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
TEMPLATE = "service.process.template"
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


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    return [one for child in children(pid) for one in (child, *descendants(child))]


def children(pid: int) -> list[int]:
    """Those that it started itself, whichever of its threads did."""
    tasks = _entries(PROC / str(pid) / "task")
    return [int(child) for task in tasks for child in text(task / "children").split()]


def of_folds(server: int) -> list[int]:
    """What a server started for its folds: what is forked from its template, and what holds their namespaces."""
    started = {pid: text(PROC / str(pid) / "cmdline") for pid in children(server)}
    holders = [pid for pid, command in started.items() if "bwrap" in command]
    templates = [pid for pid, command in started.items() if TEMPLATE in command]
    return holders + [pid for process in holders + templates for pid in descendants(process)]


def named(word: object) -> list[int]:
    """The processes that have a word in their command."""
    processes = [path for path in _entries(PROC) if path.name.isdigit()]
    return [int(path.name) for path in processes if str(word) in text(path / "cmdline")]


def _entries(folder: Path) -> list[Path]:
    """None of a process that has ended meanwhile."""
    with suppress(OSError):
        return list(folder.iterdir())
    return []


def text(path: Path) -> str:
    """What is in a file about a process, nothing where it has ended."""
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""
