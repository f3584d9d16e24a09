"""A small disk of its own for a folder, which a test can fill. Only root can mount one."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 1 << 16
FILLER = "filler"


MOUNTED = "mounted"
# It ends when whoever started it has ended, however that was, and nothing stays mounted.
MOUNTS = f"""mount -t tmpfs -o "$0" bnfold-tests "$1" && echo {MOUNTED} && {{ read _; umount --lazy "$1"; }}"""


class MountError(Exception):
    """Nothing can be mounted here."""


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a disk of so many bytes at this folder, and remove it afterwards.

    Raises:
        MountError: that cannot be done here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size},mode=700"
    with subprocess.Popen(
        ["sh", "-c", MOUNTS, options, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as mounts:
        assert mounts.stdout is not None
        said = mounts.stdout.readline().strip()
        if said != MOUNTED:
            raise MountError(said)
        try:
            yield
        finally:
            mounts.communicate()
            assert mounts.returncode == 0


def fill(folder: Path) -> None:
    """Write to the disk of this folder until nothing fits on it."""
    with suppress(OSError), (folder / FILLER).open("ab", buffering=0) as file:
        for block in (BLOCK, 1):  # what is smaller than a block does not fit afterwards
            with suppress(OSError):
                while True:
                    file.write(bytes(block))


def empty(folder: Path) -> None:
    """Remove what fills it."""
    (folder / FILLER).unlink(missing_ok=True)
