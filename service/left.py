"""Reads and removes what a child process left: it can be anything, so only regular files of its own folder are read.

A sandbox keeps a child from other files. If the server followed a link that the child left, it would read them instead.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

OPENING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # to open a FIFO does not wait for a writer


def opened(path: Path) -> FileIO:
    """Open a file that a child left, for reading. Neither the file nor its folder may be a link.

    Raises:
        OSError, ValueError: there is no such file, or it is not a regular file.
    """
    folder = os.open(path.parent, OPENING | os.O_DIRECTORY)
    try:
        fd = os.open(path.name, OPENING, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError(f"{path.name} is no regular file")
    return os.fdopen(fd, "rb", buffering=0)


def content(path: Path) -> bytes:
    """The content of a file that a child left. Raises the errors of `opened`."""
    with opened(path) as file:
        return file.read()


def remove(folder: Path) -> None:
    """Remove a folder as far as possible, even if a child nested folders in it too deep for Python."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with suppress(OSError):
            subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)
