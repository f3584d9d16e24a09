"""Blobs in a directory: files named after their SHA-256, `sha256/ab/cd...`, each complete and durable.

An upload is spooled on the same file system. It gets its name when it is complete and on the disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from service.blobs.interface import Blob, DamagedError, StoreError, is_digest
from service.blobs.spool import BLOCK, Spool, absent, adopt
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from io import FileIO
    from pathlib import Path

    from service.blobs.interface import Draft

BLOBS = "blobs"  # the name of the store in a data folder
NAMED, PARTIAL = "sha256", "partial"  # names in the store: of blobs, and of what is not complete
READ_ONLY = 0o400


class DirectoryBlobs:
    """A `BlobStore` in a directory, for one server at a time."""

    def __init__(self, root: Path, low_water: int = 0) -> None:
        self._root, self._blobs = root, root / NAMED
        for folder in (self._blobs, *(self._blobs / f"{first:02x}" for first in range(256))):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._spool = Spool(root / PARTIAL, low_water)
        sync_folder(self._blobs)

    def receive(self, chunks: AsyncIterable[bytes], limit: int) -> AbstractAsyncContextManager[Draft]:
        """See `BlobStore`."""
        return self._spool.receive(chunks, limit)

    async def adopt(self, path: Path) -> Draft:
        """See `BlobStore`."""
        return await adopt(path)

    async def commit(self, draft: Draft) -> None:
        """See `BlobStore`."""
        await in_thread(self._take, draft.path, draft.blob)

    def _take(self, path: Path, blob: Blob) -> None:
        """Store it even if it exists already: the time this takes must not show one key what another holds."""
        place = self._path(blob.sha256)
        path.chmod(READ_ONLY)
        try:
            path.rename(place)
        except FileNotFoundError as error:
            raise absent(error, place.parent) from error
        sync_folder(place.parent)

    async def place(self, sha256: str, path: Path, *, shared: bool) -> None:
        """See `BlobStore`."""
        source = self._path(sha256)
        try:
            await in_thread(os.link if shared else copy_file, source, path)
        except FileNotFoundError as error:
            raise absent(error, source.parent) from error

    async def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        with self._opened(sha256) as file:
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
        if not is_digest(sha256):
            return None
        path = self._path(sha256)
        try:
            return path.stat().st_size
        except FileNotFoundError as error:
            if isinstance(found := absent(error, path.parent), StoreError):
                raise found from error
        return None

    def delete(self, sha256: str) -> None:
        """See `BlobStore`."""
        self._path(sha256).unlink(missing_ok=True)

    def shortage(self, coming: int) -> int:
        """See `BlobStore`."""
        return self._spool.shortage(coming)

    def require_space(self, coming: int = 0) -> None:
        """See `BlobStore`."""
        self._spool.require_space(coming)

    def _opened(self, sha256: str) -> FileIO:
        path = self._path(sha256)
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise absent(error, path.parent) from error

    def _path(self, sha256: str) -> Path:
        if not is_digest(sha256):
            raise FileNotFoundError(f"{sha256!r} is no address")
        return blob_path(self._root, sha256)


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


def copy_file(source: Path, path: Path) -> None:
    """Copy a file; where the file system can, both share their blocks on the disk (`copy_file_range` does this)."""
    with source.open("rb", buffering=0) as read, path.open("xb", buffering=0) as write:
        left = os.fstat(read.fileno()).st_size
        try:
            while left and (done := os.copy_file_range(read.fileno(), write.fileno(), left)):
                left -= done
        except (AttributeError, OSError):  # not on this system, or not between these files
            shutil.copyfileobj(read, write, BLOCK)


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
