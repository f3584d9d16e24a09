"""Watch: what all processes of one fold use together, which no limit of a single process bounds.

Linux only: elsewhere nothing is seen, and only the limits of the single processes hold.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
KIB = 1 << 10
COUNTED = {"Threads": "tasks", "RssAnon": "memory", "RssShmem": "memory"}  # of /proc/PID/status; mapped files are not


class Used(NamedTuple):
    """What processes use: how many there are with their threads, and bytes of memory that is theirs alone."""

    tasks: int
    memory: int


def used(pid: int) -> Used:
    """What a process and its descendants use now."""
    totals = {"tasks": 0, "memory": 0}
    for one in (pid, *descendants(pid)):
        for line in _lines(PROC / str(one) / "status"):
            name, _, value = line.partition(":")
            if name in COUNTED:
                totals[COUNTED[name]] += int(value.split()[0]) * (1 if name == "Threads" else KIB)
    return Used(**totals)


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found, ahead = [], [pid]
    while ahead:
        tasks = PROC / str(ahead.pop()) / "task"
        with suppress(OSError):
            for task in tasks.iterdir():
                children = [int(child) for line in _lines(task / "children") for child in line.split()]
                found += children
                ahead += children
    return found


def kill(pids: list[int]) -> None:
    """Kill these processes, as far as they still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().splitlines()
    return []
