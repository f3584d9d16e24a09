"""Standby: the process of a verification, started before there is anything to verify.

An interpreter with ONNX Runtime takes longer to start than most models to fold; both go on at the same time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GO = b"\n"  # the end of its input without it tells a process that nobody needs it any more
_ready: list[Standby] = []  # one at most, for the next verification


class Standby:
    """A process that waits for its one job, and the folder that it shares with this one."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
            "OPENBLAS_NUM_THREADS": "1",  # NumPy's BLAS, never called, maps 40 MiB for each further one
            "MALLOC_ARENA_MAX": "2",  # glibc reserves 64 MiB of address space per arena, which the limit would count
            "ORT_DISABLE_TELEMETRY": "1",  # since 1.29 it tells its maker of every model it loads, and leaves a file
        }
        self._temporary = tempfile.TemporaryDirectory(prefix="bnfold-verify-")
        self.folder = Path(self._temporary.name)
        self._child = subprocess.Popen(
            # -P: modules of the current folder stay out
            [sys.executable, "-P", "-m", "folding.verification.child", self._temporary.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )

    def run(self, seconds: float) -> int | None:
        """Do the job that lies in the folder: the exit status, negative for a signal; None when its time was over."""
        assert self._child.stdin is not None  # noqa: S101  it was asked for
        with suppress(BrokenPipeError):  # it has died, and its status will tell
            self._child.stdin.write(GO)
            self._child.stdin.flush()
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """End the process, if it has not ended, and remove the folder."""
        if self._child.poll() is None:
            _kill(self._child)
        assert self._child.stdin is not None  # noqa: S101
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        self._temporary.cleanup()


@contextmanager
def standby() -> Iterator[Standby]:
    """The process for one verification: the one that is ready, or a new one. It never outlives the block."""
    try:
        one = _ready.pop()
    except IndexError:
        one = Standby()
    try:
        yield one
    finally:
        one.close()


def prepare() -> None:
    """Have a process ready for the next verification."""
    if not _ready:
        _ready.append(Standby())


@contextmanager
def prepared(*, wanted: bool = True) -> Iterator[None]:
    """Have one ready during the block; it ends with it where it was not needed."""
    if wanted:
        prepare()
    try:
        yield
    finally:
        while _ready:
            _ready.pop().close()


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
