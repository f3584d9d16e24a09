"""Waiting: for what is to happen, however long this machine takes. A bound is there for what never happens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 600.0  # seconds for anything in the tests to happen: who waits goes on when it has
FOREVER = 20 * PATIENCE  # seconds of what ends only because somebody ends it
LOOK_EVERY = 0.01  # seconds between two looks


def until(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until it holds, and fail if it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(LOOK_EVERY)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
