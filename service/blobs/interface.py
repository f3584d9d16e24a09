"""What a store of blobs is: contents under the address of what they hold, whole and durable, or not there."""

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
    """The address and size of a content."""

    sha256: str
    bytes: int


@dataclass
class Draft:
    """A complete content that has no name yet."""

    blob: Blob
    path: Path
    magic: bytes  # its first bytes


class BlobStore(Protocol):
    """Where contents are kept."""

    def receive(self, chunks: AsyncIterable[bytes], limit: int) -> AbstractAsyncContextManager[Draft]:
        """A context with what the chunks hold; whatever was not committed is gone when it ends.

        Raises:
            Problem: too-large (more than `limit` bytes), insufficient-storage.
        """
        ...

    async def adopt(self, path: Path) -> Draft:
        """Make a draft of a file on the same file system, durably; committing it takes the file away.

        Raises:
            Problem: insufficient-storage.
            ValueError: it is no regular file.
        """
        ...

    async def commit(self, draft: Draft) -> None:
        """Give a draft its name, durably."""
        ...

    async def place(self, sha256: str, path: Path) -> None:
        """Make a blob a file at `path` that stays when the blob is deleted.

        Raises:
            FileNotFoundError: there is no such blob.
        """
        ...

    def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`, in blocks.

        Raises:
            FileNotFoundError: (at the first block) there is no such blob.
        """
        ...

    def addresses(self) -> Iterator[str]:
        """All that there are; may block."""
        ...

    async def size(self, sha256: str) -> int | None:
        """How many bytes it has; None where there is none."""
        ...

    async def delete(self, sha256: str) -> None:
        """Remove it, if it is there."""
        ...

    def require_space(self, coming: int = 0) -> None:
        """Check that `coming` bytes leave more free than the low-water mark.

        Raises:
            Problem: insufficient-storage.
        """
        ...


def is_digest(text: str) -> bool:
    """Whether it is the address of a content: 64 digits, lower case."""
    return len(text) == DIGEST_LENGTH and set(text) <= set("0123456789abcdef")
