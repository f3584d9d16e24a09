"""Confine: limits that the process of a fold sets before it reads a model. Only the process itself can do it safely."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.work import Bounds

PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
GRACE_SECONDS = 10  # the parent's clock must end a process first, because the parent can report why
THREADS = 8  # that a verification computes with (`folding.verification.runtime`), each of which takes processor time
COUNTED_APART = (5, 14)  # since this Linux, the processes of a user namespace are counted separately
FOLDS = 16  # in the same count, without such a namespace: what other folds of this user start must not end this one


def confine(bounds: Bounds) -> None:
    """Bound this process and all that it starts from now on. Lower bounds that already hold are kept."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    seconds = int(bounds.seconds + bounds.verification) + GRACE_SECONDS
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_AS, bounds.memory, bounds.memory),
        (resource.RLIMIT_FSIZE, bounds.file, bounds.file),
        (resource.RLIMIT_NOFILE, bounds.open_files, bounds.open_files),
        (resource.RLIMIT_CPU, seconds, seconds * THREADS),
    ):
        _lower(kind, soft, hard)


def confine_tasks(tasks: int, *, is_apart: bool) -> None:
    """Bound the processes and threads of this process's user; `is_apart` is whether it has a user namespace of its own.

    The kernel counts all of a user, so those that exist are added. It does not hold root to this limit: the server
    counts the tasks of each fold itself (`service.process.watch`).
    """
    release = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    if sys.platform != "linux" or (is_apart and release < COUNTED_APART):
        return
    most = _tasks_of_user() + tasks * (1 if is_apart else FOLDS)
    _lower(resource.RLIMIT_NPROC, most, most)


def _tasks_of_user() -> int:
    """The processes and threads of this user that are visible here."""
    count, user = 0, os.getuid()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if place.stat().st_uid == user:
                count += len(list((place / "task").iterdir()))
    return count


def _lower(kind: int, soft: int, hard: int) -> None:
    allowed = resource.getrlimit(kind)[1]
    least = [min(value, allowed) if allowed != resource.RLIM_INFINITY else value for value in (soft, hard)]
    resource.setrlimit(kind, (least[0], least[1]))
