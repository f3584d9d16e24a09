"""Confine: limits that the process of a fold sets before it reads a model. Only the process itself can do it safely."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import TYPE_CHECKING

from folding.verification.runtime import THREADS

if TYPE_CHECKING:
    from service.work import Bounds

PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
GRACE_SECONDS = 10  # the parent's clock must end a process first, because the parent can report why


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
        (resource.RLIMIT_CPU, seconds, seconds * THREADS),  # verification computes with several threads
    ):
        allowed = resource.getrlimit(kind)[1]
        least = [min(value, allowed) if allowed != resource.RLIM_INFINITY else value for value in (soft, hard)]
        resource.setrlimit(kind, (least[0], least[1]))
