"""The spool: uploads on their way, as files that are hashed while they are written; and files that a child left.

Blocks are written in a thread: the event loop never waits for a disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from service.blobs.interface import Blob, Draft, StoreError
from service.left import opened
from service.problems import Problem
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
    from pathlib import Path

BLOCK = 1 << 20  # bytes hashed, written and read at a time
LOOK_EVERY = 64 * BLOCK  # bytes between two checks of the free disk space
MAGIC_BYTES = 4


class Spool:
    """A folder for what is not complete, for one server at a time; `low_water` bytes of its disk stay free."""

    def __init__(self, folder: Path, low_water: int = 0) -> None:
        self.folder, self.low_water = folder, low_water
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in folder.iterdir():  # unfinished uploads of a server that was killed
            left.unlink()

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterable[bytes], limit: int) -> AsyncGenerator[Draft]:
        """See `BlobStore`."""
        self.require_space()
        growing = self._growing()
        try:
            async for block in _blocks(chunks):
                if growing.size + len(block) > limit:
                    raise Problem("too-large", f"the upload is larger than {limit:,} bytes, the most that is taken")
                if growing.size % LOOK_EVERY < len(block):
                    self.require_space(len(block))
                await in_thread(growing.write, block)
            yield await in_thread(growing.finish)
        except OSError as error:
            raise full(error) from error
        finally:
            growing.discard()

    def shortage(self, coming: int) -> int:
        """The bytes of free disk space that are missing for `coming` more bytes; not positive if there are enough."""
        try:
            return self.low_water + coming - shutil.disk_usage(self.folder).free
        except FileNotFoundError as error:
            raise absent(error, self.folder) from error

    def require_space(self, coming: int = 0) -> None:
        """See `BlobStore`."""
        if self.shortage(coming) > 0:
            raise Problem("insufficient-storage", "the server has too little disk space left; try again later")

    def _growing(self) -> _Growing:
        try:
            return _Growing(self.folder / secrets.token_hex(16))
        except FileNotFoundError as error:
            raise absent(error, self.folder) from error
        except OSError as error:
            raise full(error) from error


async def adopt(path: Path) -> Draft:
    """See `BlobStore`."""
    try:
        return await in_thread(_adopted, path)
    except OSError as error:
        raise full(error) from error


class _Growing:
    """The file of an upload, hashed while it is written."""

    def __init__(self, path: Path) -> None:
        self._path, self._hash, self.size, self._magic = path, hashlib.sha256(), 0, b""
        self._file = path.open("xb", buffering=0)

    def write(self, block: bytearray) -> None:
        self._hash.update(block)
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._magic = self._magic or bytes(block[:MAGIC_BYTES])
        self.size += len(block)

    def finish(self) -> Draft:
        os.fsync(self._file.fileno())
        self._file.close()  # a batch has many
        return Draft(Blob(self._hash.hexdigest(), self.size), self._path, self._magic)

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


async def _blocks(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytearray]:
    """The chunks, joined to blocks of at least BLOCK bytes; the last block may be smaller."""
    held = bytearray()  # not a list of chunks: each has 33 bytes of overhead, and may hold a single byte
    async for chunk in chunks:
        held += chunk
        if len(held) >= BLOCK:
            yield held
            held = bytearray()
    if held:
        yield held


def _adopted(path: Path) -> Draft:
    """Sync a file to the disk, and make a draft of it. A child wrote the file: it may be anything."""
    with opened(path) as file:
        fd, digest = file.fileno(), hashlib.file_digest(file, "sha256")
        os.fsync(fd)
        return Draft(Blob(digest.hexdigest(), os.fstat(fd).st_size), path, os.pread(fd, MAGIC_BYTES, 0))


def absent(error: FileNotFoundError, folder: Path) -> OSError:
    """The error of a file that is not in a folder; a `StoreError` where the folder is not there, and may come back."""
    return error if folder.is_dir() else StoreError(errno.ENOENT, f"the folder {folder} is not there")


def full(error: OSError) -> Exception:
    """The problem for an error of writing; the error itself if the disk is not full."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Problem("insufficient-storage", "the server's disk is full; try again later")
    return error
