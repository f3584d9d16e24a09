"""A clock of the system that jumps: a process that follows one reads how far it is off from a file beside its data."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FOLLOWS = "TESTS_FOLLOW_A_CLOCK"  # in the environment of servers and workers: they follow one
NAME = "clock"
real = time.time


def jump(data: Path, seconds: float) -> None:
    """Let the clock of the server or worker with this data folder be off by so much."""
    made = data.with_name("clock.new")
    made.write_text(str(seconds))
    made.rename(data.with_name(NAME))


def follow(data: Path) -> None:
    """Let `time.time` of this process be off as the file says, if the environment asks for it."""
    if FOLLOWS not in os.environ:
        return
    file = data.with_name(NAME)

    def now() -> float:
        with suppress(FileNotFoundError):
            return real() + float(file.read_text())
        return real()

    time.time = now
