"""What bounds a child process: what it may take, and that it does not outlive its parent."""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

if sys.platform != "win32":
    import resource

    def lower(kind: int, value: int) -> None:
        """Bound a resource of this process by `value`, or by less where that is all it may have."""
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def die_with(parent: int) -> None:
    """Be killed when the parent ends, also when it is killed; 0 is no parent. Linux alone can do that.

    It is the thread that started this process which counts: it must wait for it.
    """
    if parent == 0 or sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415  needed here alone

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGKILL)
