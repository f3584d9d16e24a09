"""One piece of work in a fork of this process, which bounds itself and dies with this one: it may crash, or hang."""

from __future__ import annotations

import os
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
    """What `work` returns, done in a fork that gets so many seconds of processor time and bytes of memory more.

    `doing` completes "the process that ... died". Call it without threads.

    Raises:
        RuntimeError: it raised, with the text of what it raised; or the process died, of whatever it was.
        OSError: there is no process or no pipe to be had.
    """
    reading, writing = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _work_and_leave(work, writing, parent, seconds, memory)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pipe.read()
    if os.waitpid(child, 0)[1] != DONE:
        raise RuntimeError(result.decode() or f"the process that {doing} died")
    return result


def _work_and_leave(work: Callable[[], bytes], writing: int, parent: int, seconds: int, memory: int) -> NoReturn:
    """Write the result, or what is wrong, and end without another line of this program."""
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
        if held := _held():
            lower(resource.RLIMIT_AS, held + memory)


def _held() -> int:
    """Bytes of address space that this process has; 0 where nothing says."""
    with suppress(OSError), STATM.open() as file:
        return int(file.read().split()[0]) * resource.getpagesize()
    return 0
