"""Limits of a child process: its resources, and that it does not outlive its parent."""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if sys.platform != "win32":
    import resource

    def lower(kind: int, value: int) -> None:
        """Limit a resource of this process to `value`, or to the hard limit if that is lower."""
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def die_with(parent: int) -> None:
    """Let the kernel kill this process when `parent` ends for any reason; 0 means no parent. Works on Linux only.

    The kernel watches the thread that started this process, so that thread must wait for it.
    """
    if parent == 0 or sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415  needed only here

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)
