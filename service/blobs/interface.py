"""The interface of a blob store: contents under their SHA-256, complete and durable, or absent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

DIGEST_LENGTH = 64


@dataclass(frozen=True)
class Blob:
    """The SHA-256 (hex) and the size of a content."""

    sha256: str
    bytes: int


class DamagedError(OSError):
    """The disk changed the content of a blob."""


class StoreError(OSError):
    """The store cannot be reached, or cannot do what it is asked for now. What it holds is not lost."""


@dataclass
class Draft:
    """A complete content that the store does not name yet."""

    blob: Blob
    path: Path
    magic: bytes  # the first bytes of the content


class BlobStore(Protocol):
    """Stores contents. Every method may raise `StoreError`: then the same call may succeed later."""

    def receive(self, chunks: AsyncIterable[bytes], limit: int) -> AbstractAsyncContextManager[Draft]:
        """A context with a draft of the chunks; unless committed, the draft is removed when the context ends.

        Raises:
            Problem: too-large (more than `limit` bytes), insufficient-storage.
        """
        ...

    async def adopt(self, path: Path) -> Draft:
        """Make a draft of a file on the same file system, durably; `commit` moves the file.

        Raises:
            Problem: insufficient-storage.
            ValueError: it is not a regular file.
        """
        ...

    async def commit(self, draft: Draft) -> None:
        """Give a draft its name, durably; it is stored even if the store has it already."""
        ...

    async def place(self, sha256: str, path: Path, *, shared: bool) -> None:
        """Put a blob at `path`, where it stays when the blob is deleted.

        `shared` says that nobody can change it there: then it is a link, and no copy.

        Raises:
            FileNotFoundError: there is no such blob.
        """
        ...

    def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`, in blocks; of a whole blob, the last block only if the content is right.

        Raises:
            FileNotFoundError: there is no such blob; raised at the first block.
            DamagedError: the content is not that of the digest.
        """
        ...

    def stored(self) -> Iterator[Blob]:
        """All blobs, with the sizes that they have now; may block."""
        ...

    async def is_whole(self, blob: Blob, *, by_content: bool) -> bool:
        """Whether a blob exists with its size and, if `by_content`, with the content of its digest."""
        ...

    async def size(self, sha256: str) -> int | None:
        """The size of a blob in bytes; None if there is no such blob."""
        ...

    def delete(self, sha256: str) -> None:
        """Remove a blob, if it exists; may block."""
        ...

    def shortage(self, coming: int) -> int:
        """The bytes that blobs must make room for, so that `coming` more fit; not positive if there is enough room."""
        ...

    def require_space(self, coming: int = 0) -> None:
        """Check that after `coming` more bytes, the free disk space is not below the low-water mark.

        Raises:
            Problem: insufficient-storage.
        """
        ...


def is_digest(text: str) -> bool:
    """Whether a text is a digest: 64 hexadecimal digits in lower case."""
    return len(text) == DIGEST_LENGTH and set(text) <= set("0123456789abcdef")
