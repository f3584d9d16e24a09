"""What a child left: it may be anything, and only a regular file of its own folder is ever looked at.

A sandbox keeps a child from other files; a link that it leaves would have the server read them instead.
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

OPENING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # without waiting for a writer of a FIFO


def opened(path: Path) -> FileIO:
    """A file that a child left, to read. Neither it nor its folder is a link.

    Raises:
        OSError, ValueError: there is none, or it is no regular file.
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
    """The content of a file that a child left; raises as `opened` does."""
    with opened(path) as file:
        return file.read()


def remove(folder: Path) -> None:
    """Remove a folder, as far as that is possible, however deep a child has nested others in it."""
    with suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with suppress(OSError):
            subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)
