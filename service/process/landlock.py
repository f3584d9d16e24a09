"""Landlock: what a process may read and write, without namespaces and without privileges (Linux 5.19 and later).

The kernel has no function for it in the C library: https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CREATE, ADD, RESTRICT = 444, 445, 446  # system calls, the same on all machines
ASK_VERSION, BENEATH = 1, 1  # LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH
OLDEST = 2  # version 1 has no renaming from one folder to another, which a fold needs

# LANDLOCK_ACCESS_FS_...
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, REFER = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 13
TRUNCATE, IOCTL = 1 << 14, 1 << 15
OF_VERSION = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL}  # the rights that a version brought
NETWORK_SINCE, ALL_OF_NETWORK = 4, 0b11  # LANDLOCK_ACCESS_NET_...: TCP
SCOPES_SINCE, ALL_SCOPES = 6, 0b11  # LANDLOCK_SCOPE_...: abstract sockets and signals of processes outside

READING = EXECUTE | READ_FILE | READ_DIR
WRITING = READ_FILE | READ_DIR | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("place", ctypes.c_int32))


def version() -> int:
    """The version of Landlock in this kernel; 0 if there is none."""
    if sys.platform != "linux":
        return 0
    return max(int(ctypes.CDLL(None).syscall(CREATE, None, ctypes.c_size_t(0), ASK_VERSION)), 0)


def restrict(rules: Iterable[tuple[Path, int]]) -> None:
    """Restrict this process and all that it starts to these rules, a path and the rights beneath it, for good.

    The process must have one thread and must not be able to gain privileges. A path that does not exist is passed over.

    Raises:
        OSError: the kernel refuses.
    """
    known = version()
    files = sum(rights for since, rights in OF_VERSION.items() if since <= known)
    wanted = _Ruleset(
        files, ALL_OF_NETWORK if known >= NETWORK_SINCE else 0, ALL_SCOPES if known >= SCOPES_SINCE else 0
    )
    ruleset = _call(CREATE, ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)), 0)
    try:
        for path, rights in rules:
            with suppress(FileNotFoundError):
                _allow(ruleset, path, rights & files)
        _call(RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = rights if stat.S_ISDIR(os.fstat(place).st_mode) else rights & OF_FILES
        _call(ADD, ruleset, BENEATH, ctypes.byref(_Beneath(allowed, place)), 0)
    finally:
        os.close(place)


def _call(*arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(*arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
