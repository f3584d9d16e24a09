"""Blobs in an object store: S3 and what is like it, under `sha256/ab/cd...`, through obstore (extra `cluster`).

An upload is spooled to the disk of this machine, and stored under its address when it is complete: so its digest is
known before the first byte leaves, and a store that fails is asked again. A blob goes up in parts, of which two are in
memory, and an object appears whole or not at all; to store one again replaces it with the same bytes. Errors that pass
are retried for some seconds; what fails then is a `StoreError`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from service.blobs.cache import Cache
from service.blobs.interface import Blob, DamagedError, StoreError, is_digest
from service.blobs.spool import BLOCK, Spool, adopt
from service.left import opened
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterator
    from contextlib import AbstractAsyncContextManager
    from io import FileIO

    from obstore.store import ObjectStore

    from service.blobs.interface import Draft

PREFIX = "sha256"
PART = 5 << 20  # bytes; the least that S3 takes as a part
PARTS = 9000  # of one object; S3 takes 10,000
AT_ONCE = 2  # parts of one object on their way
STALL_SECONDS = 30.0  # in which a block of a blob must arrive
LISTED = 1000  # objects in one answer
RETRIES: Any = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=3), "base": 2},
}
REQUEST_SECONDS = 60  # of one request: a part, a look, a removal; reading a blob takes as long as its client does
FAILED = "the blob store cannot be used now ({}); try again later"


def open_store(url: str, *, seconds: float = REQUEST_SECONDS) -> ObjectStore:
    """The store at a URL: s3://bucket/prefix and the like, with the credentials of the environment, or file:///folder.

    Raises:
        StoreError: the URL names no store that there is.
    """
    found = urlsplit(url)
    try:
        if found.scheme == "file":
            return LocalStore(Path(found.path), mkdir=True)
        plain = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", "")).startswith("http://")
        options: Any = {"timeout": timedelta(seconds=seconds), "connect_timeout": timedelta(seconds=5)}
        return from_url(url, client_options=options | {"allow_http": plain}, retry_config=RETRIES)
    except (BaseError, OSError, ValueError) as error:
        raise StoreError(errno.EIO, FAILED.format(_cause(error))) from None


class ObjectBlobs:
    """A `BlobStore` in an object store, for any number of servers. `folder` is on this machine: spool and cache."""

    def __init__(self, url: str, folder: Path, low_water: int = 0, cache_bytes: int = 0) -> None:
        self.url = url
        self._store, self._reading = open_store(url), open_store(url, seconds=24 * 60 * 60)
        self._spool = Spool(folder / "spool", low_water)
        self._cache = Cache(folder / "cache", cache_bytes)

    def receive(self, chunks: AsyncIterable[bytes], limit: int) -> AbstractAsyncContextManager[Draft]:
        """See `BlobStore`."""
        return self._spool.receive(chunks, limit)

    async def adopt(self, path: Path) -> Draft:
        """See `BlobStore`."""
        return await adopt(path)

    async def commit(self, draft: Draft) -> None:
        """See `BlobStore`."""
        name, size = _name(draft.blob.sha256), draft.blob.bytes
        with opened(draft.path) as file, _translated_errors():
            if size <= PART:
                data = await in_thread(_content, file, draft.blob)
                await obstore.put_async(self._store, name, data, use_multipart=False)
            else:
                part = max(PART, -(-size // PARTS))
                blocks = _blocks(file, draft.blob)
                await obstore.put_async(self._store, name, blocks, chunk_size=part, max_concurrency=AT_ONCE)

    async def place(self, sha256: str, path: Path, *, shared: bool) -> None:
        """See `BlobStore`."""
        size = None if self._cache.holds(sha256) else await self.size(sha256)
        if size is None and not self._cache.holds(sha256):
            raise FileNotFoundError(errno.ENOENT, f"there is no blob {sha256}")
        await self._cache.place(sha256, path, lambda: self.read(sha256, 0, size or 0), shared=shared)

    async def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """See `BlobStore`."""
        name = _name(sha256)
        with _translated_errors():
            async with asyncio.timeout(STALL_SECONDS):
                if start == 0:
                    found = await obstore.get_async(self._reading, name)
                else:
                    found = await obstore.get_async(self._reading, name, options={"range": (start, end)})
        digest = hashlib.sha256() if start == 0 and end == found.meta["size"] else None
        blocks = aiter(found.stream(min_chunk_size=BLOCK))
        held = b""
        while start < end:
            with _translated_errors():
                async with asyncio.timeout(STALL_SECONDS):
                    block = bytes(await anext(blocks, b""))[: end - start]
            start += len(block)
            if digest is not None:
                await in_thread(digest.update, block)
            if not block or (digest is not None and start == end and digest.hexdigest() != sha256):
                raise DamagedError(errno.EIO, f"the store damaged the blob {sha256}")
            if held:
                yield held
            held = block
        if held:
            yield held

    def stored(self) -> Iterator[Blob]:
        """See `BlobStore`."""
        with _translated_errors():
            for batch in obstore.list(self._store, PREFIX, chunk_size=LISTED):
                for found in batch:
                    sha256 = found["path"].removeprefix(f"{PREFIX}/").replace("/", "")
                    if is_digest(sha256):
                        yield Blob(sha256, found["size"])

    async def is_whole(self, blob: Blob, *, by_content: bool) -> bool:
        """See `BlobStore`. Where the content is in doubt, so is that of its copy on this disk."""
        if await self.size(blob.sha256) != blob.bytes:
            return False
        if by_content:
            self._cache.drop(blob.sha256)
            try:
                async for _ in self.read(blob.sha256, 0, blob.bytes):
                    pass
            except (FileNotFoundError, DamagedError):
                return False
        return True

    async def size(self, sha256: str) -> int | None:
        """See `BlobStore`."""
        try:
            with _translated_errors():
                return (await obstore.head_async(self._store, _name(sha256)))["size"]
        except FileNotFoundError:
            return None

    def delete(self, sha256: str) -> None:
        """See `BlobStore`."""
        try:
            with _translated_errors():
                obstore.delete(self._store, _name(sha256))
        except FileNotFoundError:
            return

    def shortage(self, coming: int) -> int:  # noqa: ARG002  nothing that is stored takes room on this disk
        """See `BlobStore`."""
        return 0

    def require_space(self, coming: int = 0) -> None:
        """See `BlobStore`."""
        self._spool.require_space(coming)


def _name(sha256: str) -> str:
    if not is_digest(sha256):
        raise FileNotFoundError(errno.ENOENT, f"{sha256!r} is no address")
    return f"{PREFIX}/{sha256[:2]}/{sha256[2:]}"


def _blocks(file: FileIO, blob: Blob) -> Iterator[bytes]:
    """The content of a draft. It breaks off before its end if it is not that of its digest: then nothing is stored."""
    digest, left = hashlib.sha256(), blob.bytes
    while left:
        block = file.read(min(BLOCK, left))
        digest.update(block)
        left -= len(block)
        if not block or (not left and digest.hexdigest() != blob.sha256):
            raise DamagedError(errno.EIO, "the disk damaged what was on its way to the store")
        yield block


def _content(file: FileIO, blob: Blob) -> bytes:
    return b"".join(_blocks(file, blob))


@contextmanager
def _translated_errors() -> Generator[None]:
    """Turn what a store reports into the errors of `BlobStore`: an object that is not there is a FileNotFoundError."""
    try:
        yield
    except (FileNotFoundError, DamagedError):
        raise
    except TimeoutError as error:
        raise StoreError(errno.ETIMEDOUT, FAILED.format("it does not answer")) from error
    except (BaseError, OSError) as error:
        raise StoreError(errno.EIO, FAILED.format(_cause(error))) from error


def _cause(error: BaseException) -> str:
    """The first sentence of an error: obstore adds what it did in full, with addresses."""
    return str(error).partition("\n")[0].partition(" - ")[2] or str(error).partition("\n")[0] or type(error).__name__
