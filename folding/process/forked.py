"""Run a function that may crash or hang in a fork of this process; the fork has limits and dies with this process."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from folding.process.bounds import die_with

if sys.platform != "win32":
    import resource

    from folding.process.bounds import lower

if TYPE_CHECKING:
    from collections.abc import Callable

STATM = Path("/proc/self/statm")  # in pages
DONE = 0


def forked(work: Callable[[], bytes], doing: str, seconds: int, memory: int) -> bytes:
    """Run `work` in a fork and return its result.

    The fork may use `seconds` of processor time, and `memory` bytes more than this process has. `doing` completes the
    sentence "the process that ... died". Call this while no other thread runs.

    Raises:
        RuntimeError: `work` raised (the text is that of its exception), or the process died for any reason.
        OSError: the process or the pipe cannot be created.
    """
    reading, writing = os.pipe()
    parent, held = os.getpid(), _held()  # which a sandbox may hide from a new process
    child = os.fork()
    if child == 0:
        _work_and_leave(work, writing, parent, seconds, held and held + memory)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pipe.read()
    status = os.waitpid(child, 0)[1]
    if status != DONE:
        ran_out = os.waitstatus_to_exitcode(status) == -getattr(signal, "SIGXCPU", 0)
        end = f"used its {seconds} s of processor time" if ran_out else "died"
        raise RuntimeError(result.decode() or f"the process that {doing} {end}")
    return result


def _work_and_leave(work: Callable[[], bytes], writing: int, parent: int, seconds: int, memory: int) -> NoReturn:
    """Write the result or the error text, then exit without running any more of this program.

    `memory` is all that the process may have, in bytes; 0 for no bound.
    """
    status = DONE + 1
    with suppress(BaseException), os.fdopen(writing, "wb") as pipe:
        die_with(parent)
        _bound(seconds, memory)
        try:
            result = work()
            status = DONE
        except Exception as error:  # noqa: BLE001  the parent raises it
            result = str(error).encode()
        pipe.write(result)
    os._exit(status)


def _bound(seconds: int, memory: int) -> None:
    if sys.platform != "win32":
        lower(resource.RLIMIT_CPU, seconds)
        if memory:
            lower(resource.RLIMIT_AS, memory)


def _held() -> int:
    """Bytes of address space that this process has; 0 if unknown."""
    with suppress(OSError), STATM.open() as file:
        return int(file.read().split()[0]) * resource.getpagesize()
    return 0
