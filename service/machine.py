"""The machine: the processors and the memory that this process may use, also where a container bounds them.

And what becomes of memory that is free, which the C library decides.

Source: cpu.max and memory.max of cgroup v2, cpu.cfs_quota_us, cpu.cfs_period_us and memory.limit_in_bytes of v1
(https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")
M_ARENA_MAX, ARENAS = -8, 2  # of malloc.h of the GNU C library, and how many arenas it may have
OF_THE_OPERATOR = ("MALLOC_", "GLIBC_TUNABLES")  # variables by which somebody else decides


def cores(root: Path = ROOT) -> int:
    """The processors that this process may use: of its affinity, no more than its cgroup gives, at least 1."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = [quota / period for quota, period in _quotas(root) if period > 0]
    return max(1, min([usable, *(int(share) for share in given)]))


def memory(root: Path = ROOT) -> int:
    """The bytes of memory that this process may use: of the machine, no more than its cgroup gives."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("memory.max", "memory.limit_in_bytes")
    given = [numbers[0] for folder in _folders(root) for name in names if (numbers := _numbers(folder / name))]
    return min([machine, *given])


def share_free_memory() -> None:
    """Let the threads of this process use free memory of each other; call it before any thread starts.

    The GNU C library gives threads arenas of their own, up to eight for each processor, and keeps in each of them what
    its busiest moment took. Other C libraries do not. (Lower thresholds, from which memory goes back to the system,
    would save a few MiB more, but large uploads would take twice the processor time.)
    """
    if any(name.startswith(OF_THE_OPERATOR) for name in os.environ):
        return
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def _quotas(root: Path) -> Iterator[tuple[int, int]]:
    """The time on processors in each period, in microseconds."""
    for folder in _folders(root):
        found = _numbers(folder / "cpu.max") or [
            *_numbers(folder / "cpu.cfs_quota_us"),
            *_numbers(folder / "cpu.cfs_period_us"),
        ]
        if len(found) == 2 and found[0] > 0:
            yield found[0], found[1]


def _folders(root: Path) -> Iterator[Path]:
    """The folders of this process's cgroups and of those around them: each can give less than the one around it."""
    mounted = root / "sys/fs/cgroup"
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            top = mounted / controllers if controllers else mounted
            inner = top / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _numbers(file: Path) -> list[int]:
    """The numbers in a file; none if there is no such file, or if it says `max`."""
    with suppress(OSError, ValueError):
        return [int(word) for word in file.read_text().split()]
    return []
