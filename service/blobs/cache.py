"""The cache: those blobs of a store elsewhere that were used last, as files on this disk."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from service.blobs.folder import copy_file
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from pathlib import Path

READ_ONLY = 0o400


class Cache:
    """A folder with at most `most` bytes of blobs, and what is on its way."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._coming: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        shutil.rmtree(folder, ignore_errors=True)  # what was written before a crash may not be on the disk
        folder.mkdir(parents=True, mode=0o700)

    async def place(self, sha256: str, path: Path, fetch: Callable[[], AsyncIterable[bytes]], *, shared: bool) -> None:
        """Put a blob at `path`, as a link if `shared`, else as a copy; `fetch` has its bytes where it is not here.

        Raises the errors of `fetch`; what it fetched so far is removed then.
        """
        lock = self._coming.setdefault(sha256, asyncio.Lock())
        async with lock:  # whoever asks for the same blob waits for the first one
            kept = self._folder / sha256
            if not kept.exists():
                await self._keep(kept, fetch())
            await in_thread(os.utime, kept)
            await in_thread(os.link if shared else copy_file, kept, path)
        await in_thread(self._shrink)

    def drop(self, sha256: str) -> None:
        """Remove a blob, which this disk may have damaged."""
        (self._folder / sha256).unlink(missing_ok=True)

    def holds(self, sha256: str) -> bool:
        """Whether a blob is here."""
        return (self._folder / sha256).exists()

    async def _keep(self, kept: Path, blocks: AsyncIterable[bytes]) -> None:
        draft = self._folder / f"{secrets.token_hex(16)}.partial"
        try:
            with draft.open("xb", buffering=0) as file:
                async for block in blocks:
                    await in_thread(_write, file.fileno(), block)
            draft.chmod(READ_ONLY)
            draft.rename(kept)
        finally:
            draft.unlink(missing_ok=True)

    def _shrink(self) -> None:
        """Remove what was used least recently, above the bound. What a fold uses has a link or a copy of its own."""
        files = []
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):
                found = file.stat()
                files.append((found.st_mtime, found.st_size, file))
        held = sum(size for _, size, _ in files)
        for _, size, file in sorted(files, key=lambda one: one[:2]):
            if held <= self._most:
                return
            if not file.name.endswith(".partial"):
                file.unlink(missing_ok=True)
                held -= size


def _write(fd: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(fd, rest) :]
