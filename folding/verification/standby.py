"""Standby: the child process of a verification, started before there is anything to verify.

Starting an interpreter with ONNX Runtime takes longer than folding most models, so both run at the same time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from folding.process.fork import Fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WATCH_EVERY = 0.2  # seconds
GO = b"\n"  # if its input ends without this byte, the process is not needed and exits
_ready: list[Standby] = []  # one at most, for the next verification


class Standby:
    """A process that waits for one job, and the folder that it shares with this process.

    It is a new interpreter; or a copy of this process that calls `verifies` (`folding.verification.child.main`, which
    is imported then), where this process has one thread.
    """

    def __init__(self, verifies: Callable[[Path], None] | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="bnfold-verify-")
        self.folder = Path(self._temporary.name)
        name = self._temporary.name
        self._child = _started(name) if verifies is None else Fork(partial(_verify, verifies, self.folder))

    def run(self, seconds: float, watch: Callable[[], None] = lambda: None) -> int | None:
        """Run the job in the folder; return the exit status (negative for a signal), or None if the time ran out.

        `watch` is called while it runs.
        """
        assert self._child.stdin is not None  # noqa: S101  the pipe was requested
        with suppress(BrokenPipeError):  # it has died, and its exit status shows that
            self._child.stdin.write(GO)
            self._child.stdin.flush()
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                return self._child.wait(min(left, WATCH_EVERY))
            watch()
        return None

    def close(self) -> None:
        """End the process if it still runs, and remove the folder."""
        if self._child.poll() is None:
            _kill(self._child)
        assert self._child.stdin is not None  # noqa: S101
        with suppress(BrokenPipeError):
            self._child.stdin.close()
        self._temporary.cleanup()


def _started(folder: str) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[2])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's BLAS is not called, but maps 40 MiB for each further thread
        "MALLOC_ARENA_MAX": "2",  # glibc reserves 64 MiB of address space per arena, and the limit counts that
        "ORT_DISABLE_TELEMETRY": "1",  # since 1.29 it reports every loaded model to its vendor, and writes a file
    }
    return subprocess.Popen(
        # -P: modules of the current folder cannot be imported
        [sys.executable, "-P", "-m", "folding.verification.child", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )


def _verify(verifies: Callable[[Path], None], folder: Path) -> None:
    if sys.stdin.buffer.read(len(GO)):
        verifies(folder)


@contextmanager
def standby() -> Iterator[Standby]:
    """The process for one verification: the prepared one, or a new one. It never outlives the block."""
    try:
        one = _ready.pop()
    except IndexError:
        one = Standby()
    try:
        yield one
    finally:
        one.close()


def prepare(verifies: Callable[[Path], None] | None = None) -> None:
    """Start a process for the next verification, unless one is ready; `verifies`: see `Standby`."""
    if not _ready:
        _ready.append(Standby(verifies))


@contextmanager
def prepared(*, wanted: bool = True) -> Iterator[None]:
    """Keep one process ready during the block; end it with the block if it was not used."""
    if wanted:
        prepare()
    try:
        yield
    finally:
        while _ready:
            _ready.pop().close()


def _kill(child: subprocess.Popen[bytes] | Fork) -> None:
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
