"""Blobs in a directory: files named after their SHA-256, `sha256/ab/cd...`, each complete and durable.

An upload is written to a file of its own on the same file system, and hashed meanwhile. It gets its name when it is
complete and on the disk. Blocks are written in a thread: the event loop never waits for a disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from service.blobs.interface import Blob, DamagedError, Draft, is_digest
from service.left import opened
from service.problems import Problem
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
    from io import FileIO
    from pathlib import Path

BLOBS = "blobs"  # the name of the store in a data folder
NAMED, PARTIAL = "sha256", "partial"  # names in the store: of blobs, and of what is not complete
BLOCK = 1 << 20  # bytes hashed, written and read at a time
LOOK_EVERY = 64 * BLOCK  # bytes between two checks of the free disk space
READ_ONLY = 0o400
MAGIC_BYTES = 4


class DirectoryBlobs:
    """A `BlobStore` in a directory, for one server at a time."""

    def __init__(self, root: Path, low_water: int = 0) -> None:
        self._root, self._blobs, self._partial = root, root / NAMED, root / PARTIAL
        self._low_water = low_water
        for folder in (self._blobs, self._partial, *(self._blobs / f"{first:02x}" for first in range(256))):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(self._blobs)
        for left in self._partial.iterdir():  # unfinished uploads of a server that was killed
            left.unlink()

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterable[bytes], limit: int) -> AsyncGenerator[Draft]:
        """See `BlobStore`."""
        self.require_space()
        growing = _Growing(self._partial / secrets.token_hex(16))
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

    async def adopt(self, path: Path) -> Draft:
        """See `BlobStore`."""
        try:
            return await in_thread(_adopted, path)
        except OSError as error:
            raise full(error) from error

    async def commit(self, draft: Draft) -> None:
        """See `BlobStore`."""
        await in_thread(self._take, draft.path, draft.blob)

    def _take(self, path: Path, blob: Blob) -> None:
        """Store it even if it exists already: the time this takes must not show one key what another holds."""
        place = self._path(blob.sha256)
        path.chmod(READ_ONLY)
        path.rename(place)
        sync_folder(place.parent)

    async def place(self, sha256: str, path: Path, *, shared: bool) -> None:
        """See `BlobStore`."""
        await in_thread(os.link if shared else _copy, self._path(sha256), path)

    async def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        with self._path(sha256).open("rb", buffering=0) as file:
            digest = hashlib.sha256() if start == 0 and end == os.fstat(file.fileno()).st_size else None
            file.seek(start)
            while start < end:
                block = await in_thread(_read, file, min(BLOCK, end - start), digest)
                start += len(block)
                if not block or (digest is not None and start == end and digest.hexdigest() != sha256):
                    raise DamagedError(errno.EIO, f"the disk damaged the blob {sha256}")
                yield block

    def stored(self) -> Iterator[Blob]:
        """See `BlobStore`."""
        for folder in self._blobs.iterdir():
            for file in folder.iterdir():
                with suppress(FileNotFoundError):
                    if is_digest(folder.name + file.name):
                        yield Blob(folder.name + file.name, file.stat().st_size)

    async def is_whole(self, blob: Blob, *, by_content: bool) -> bool:
        """See `BlobStore`."""
        if await self.size(blob.sha256) != blob.bytes:
            return False
        return not by_content or await in_thread(has_content, self._path(blob.sha256), blob)

    async def size(self, sha256: str) -> int | None:
        """See `BlobStore`."""
        with suppress(FileNotFoundError):
            return self._path(sha256).stat().st_size
        return None

    async def delete(self, sha256: str) -> None:
        """See `BlobStore`."""
        await in_thread(self._path(sha256).unlink, missing_ok=True)

    def shortage(self, coming: int) -> int:
        """See `BlobStore`."""
        return self._low_water + coming - shutil.disk_usage(self._partial).free

    def require_space(self, coming: int = 0) -> None:
        """See `BlobStore`."""
        if self.shortage(coming) > 0:
            raise Problem("insufficient-storage", "the server has too little disk space left; try again later")

    def _path(self, sha256: str) -> Path:
        if not is_digest(sha256):
            raise FileNotFoundError(f"{sha256!r} is no address")
        return blob_path(self._root, sha256)


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
        return Draft(Blob(self._hash.hexdigest(), self.size), self._path, self._magic)

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def blob_path(root: Path, sha256: str) -> Path:
    """Where the store in `root` keeps a blob."""
    return root / NAMED / sha256[:2] / sha256[2:]


def _read(file: FileIO, size: int, digest: hashlib._Hash | None) -> bytes:
    block = file.read(size)
    if digest is not None:
        digest.update(block)
    return block


def has_content(path: Path, blob: Blob) -> bool:
    """Whether a file can be read, and has the content of a blob."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == blob.sha256
    except OSError:
        return False


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


def _copy(source: Path, path: Path) -> None:
    """Copy a file; where the file system can, both share their blocks on the disk (`copy_file_range` does this)."""
    with source.open("rb", buffering=0) as read, path.open("xb", buffering=0) as write:
        left = os.fstat(read.fileno()).st_size
        try:
            while left and (done := os.copy_file_range(read.fileno(), write.fileno(), left)):
                left -= done
        except (AttributeError, OSError):  # not on this system, or not between these files
            shutil.copyfileobj(read, write, BLOCK)


def _adopted(path: Path) -> Draft:
    """Sync a file to the disk, and make a draft of it. A child wrote the file: it may be anything."""
    with opened(path) as file:
        fd, digest = file.fileno(), hashlib.file_digest(file, "sha256")
        os.fsync(fd)
        return Draft(Blob(digest.hexdigest(), os.fstat(fd).st_size), path, os.pread(fd, MAGIC_BYTES, 0))


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def full(error: OSError) -> Exception:
    """The problem for an error of writing; the error itself if the disk is not full."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Problem("insufficient-storage", "the server's disk is full; try again later")
    return error
