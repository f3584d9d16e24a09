"""Verification without a child process: thousands of small models are judged in the time that starting one takes."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from folding.verification import child, parent, ranges
from folding.verification.job import JOB, RESULT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Here:
    """What `folding.verification.standby.Standby` is, but for the process: the job runs in this one, without limits."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def run(self, seconds: float, watch: Callable[[], None] = lambda: None) -> int:  # noqa: ARG002
        """Run the job in the folder."""
        assert (self.folder / JOB).is_file()
        child.main(self.folder)
        assert (self.folder / RESULT).is_file()
        return 0


@contextmanager
def standby() -> Iterator[Here]:
    """One that is new every time."""
    with tempfile.TemporaryDirectory(prefix="bnfold-here-") as folder:
        yield Here(folder)


@contextmanager
def in_process() -> Iterator[None]:
    """Let `verify` and `measure` run models in this process."""
    with (
        mock.patch.object(parent, "standby", standby),
        mock.patch.object(ranges, "standby", standby),
        mock.patch.object(child, "die_with", return_value=None),
        mock.patch.object(child, "_limit", return_value=None),
    ):
        yield
