"""Walls: what the process of a fold closes around itself before it reads a model, beside its limits (`confine`).

It gives up all files but its own (Landlock), and the system calls that no fold needs and that lead to the network, to
other processes and into the kernel (seccomp). In bubblewrap it sees few others anyway: each is there for the case that
the other one has a hole, and where one of them is missing in this kernel, bubblewrap alone holds.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Literal

from service.process import landlock, seccomp
from service.work import LIBRARY, OUT, TEMPORARY, UNPACKED

Kind = Literal["bubblewrap", "landlock", "none"]

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")  # what an interpreter needs from the system
APART = ("/tmp", "/dev/shm")  # noqa: S108  in bubblewrap, those of the fold
DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
# Facts about the machine that libraries look up; nothing here is of another process.
FACTS = ("/dev/urandom", "/dev/random", "/proc/meminfo", "/proc/cpuinfo", "/proc/self/statm", "/proc/self/status",
         "/sys/devices/system/cpu", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")  # fmt: skip
PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 24, 36  # linux/prctl.h
CAPABILITIES, CAPABILITY_VERSION = 64, 0x20080522  # linux/capability.h: _LINUX_CAPABILITY_VERSION_3


def close(kind: Kind, folder: Path) -> None:
    """Close the walls of this kind around this process; `folder` is that of the fold. It must have one thread.

    Raises:
        OSError: the kernel refuses one of them.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what it starts stays findable beneath it
    if kind == "landlock":
        drop_capabilities()
    if kind == "landlock" or (kind == "bubblewrap" and landlock.version() >= landlock.OLDEST):
        landlock.restrict([(path, rights) for paths, rights in _rules(kind, folder) for path in paths])
    if kind == "landlock" or (kind == "bubblewrap" and seccomp.is_known()):
        seccomp.restrict(metadata=kind == "bubblewrap")


def drop_capabilities() -> None:
    """Give up the rights that a process of root has beyond those of its files, as bubblewrap does."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in range(CAPABILITIES):
        library.prctl(
            PR_CAPBSET_DROP, capability, 0, 0, 0
        )  # it fails for who has none, and for numbers without meaning
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if library.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "the capabilities cannot be dropped")


def _rules(kind: Kind, folder: Path) -> list[tuple[list[Path], int]]:
    packages = [link.resolve() for link in (folder / LIBRARY).iterdir()]
    return [
        ([*map(Path, (*SYSTEM, sys.base_prefix, sys.prefix)), *packages], landlock.READING),
        ([*map(Path, FACTS), folder], landlock.READ_FILE | landlock.READ_DIR),
        (list(map(Path, DEVICES)), landlock.READ_FILE | landlock.WRITE_FILE),
        ([folder / name for name in (OUT, TEMPORARY, UNPACKED)], landlock.WRITING),
        (list(map(Path, APART)) if kind == "bubblewrap" else [], landlock.WRITING),
    ]
