"""Sources of payload bytes (files, memory); ranges are read without loading the rest."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator  # noqa: TC003  (annotations of a Protocol are part of its interface)
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from folding.errors import ModelError
from folding.onnxfile.wire import header

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Buffer = memoryview | bytearray | npt.NDArray[Any]

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_BLOCKING = getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must not wait for a writer
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_seek_lock = threading.Lock()  # for platforms that have no positional reads


def pread_into(fd: int, view: memoryview, offset: int) -> int:
    """Read once at `offset` into `view`; return the number of bytes read, 0 at the end of the file."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], offset)
    with _seek_lock:
        os.lseek(fd, offset, os.SEEK_SET)
        block = os.read(fd, len(view))
    view[: len(block)] = block
    return len(block)


class Source(Protocol):
    """A readable range of bytes of a known size; safe to read from several threads at once."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on; raises ModelError if they no longer exist."""
        ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self.size = len(data)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on."""
        view[:] = self._view[offset : offset + len(view)]


class FileSource:
    """A regular file, as it was when it was opened.

    With `keep_open` it stays readable after its name was removed or given to another file. Without it, the
    file is opened for each read, and refused if it was replaced or has changed.

    Raises:
        OSError: it cannot be opened, or it is no regular file.
    """

    def __init__(self, path: Path, *, follow_links: bool = True, keep_open: bool = True) -> None:
        self.path = path
        self._flags = _OPEN_FLAGS | _NO_BLOCKING | (0 if follow_links else _NO_LINKS)
        self._fd = os.open(path, self._flags)
        self._closed = False
        self.status = os.fstat(self._fd)
        self.size = self.status.st_size
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            what = "a folder" if stat.S_ISDIR(self.status.st_mode) else "not a regular file"
            raise OSError(errno.EINVAL, f"it is {what}")
        if not keep_open:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A file descriptor for positional reads.

        Raises:
            ModelError: the file is closed, missing or replaced.
        """
        if self._closed:
            raise ModelError(f"{self.path.name} cannot be read: the model was closed")
        if self._fd >= 0:
            yield self._fd
            return
        fd = self._reopen()
        try:
            yield fd
        finally:
            os.close(fd)

    def _reopen(self) -> int:
        try:
            fd = os.open(self.path, self._flags)
        except OSError as error:
            raise ModelError(f"{self.path.name} cannot be opened again: {error.strerror}") from error
        if _identity(os.fstat(fd)) != _identity(self.status):
            os.close(fd)
            raise ModelError(f"{self.path.name} was changed while it was used; start again")
        return fd

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on.

        Raises:
            ModelError: the file became shorter, or reading failed.
        """
        with self.opened() as fd:
            while len(view):
                try:
                    count = pread_into(fd, view, offset)
                except OSError as error:
                    raise ModelError(f"{self.path.name} cannot be read: {error.strerror}") from error
                if count == 0:
                    raise ModelError(f"{self.path.name} became shorter while it was used; start again")
                view, offset = view[count:], offset + count

    def close(self) -> None:
        """Close the file; spans of it cannot be read afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._closed = -1, True


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Span:
    """Unchanged payload bytes: `length` bytes from `offset` of a source, as stored in `field`.

    `field` is a field number of TensorProto (4 float_data, 5 int32_data, 7 int64_data, 9 raw_data,
    10 double_data, 11 uint64_data, 13 external_data) or of AttributeProto (4 s, 7 floats, 8 ints).
    Spans are equal if they have the same source object, range and field.
    """

    source: Source
    offset: int
    length: int
    field: int

    @property
    def nbytes(self) -> int:
        """The number of payload bytes."""
        return self.length

    def as_field(self) -> bytes:
        """The payload with its tag and length, as in its message; raises as `read_into` does."""
        return header(self.field, self.length) + self.read()

    def read_into(self, buffer: Buffer, start: int = 0) -> None:
        """Fill `buffer` (writable, C-contiguous) with the payload bytes [start, start + its size in bytes).

        Raises:
            ModelError: the file became shorter.
            ValueError: the range is not within the payload.
        """
        view: memoryview = memoryview(buffer)  # type: ignore[arg-type, unused-ignore]  # arrays are buffers (PEP 688)
        view = view if view.nbytes == 0 else view.cast("B")
        if not 0 <= start <= start + view.nbytes <= self.length:
            raise ValueError(f"bytes {start}..{start + view.nbytes} are not within a payload of {self.length} bytes")
        if view.nbytes:
            self.source.read_into(view, self.offset + start)

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """The payload bytes [start, stop), by default to the end; raises as `read_into` does."""
        block = bytearray((self.length if stop is None else stop) - start)
        self.read_into(block, start)
        return bytes(block)


class Computed(Protocol):
    """Payload bytes (little endian, as in raw_data) that are computed when the model is written."""

    @property
    def nbytes(self) -> int:
        """The number of payload bytes."""
        ...

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Consecutive ranges (start, stop) that cover [0, nbytes), each of a few MiB at most."""
        ...

    def evaluate(self, start: int, stop: int) -> memoryview:
        """The bytes of one of these blocks; the next call in the same thread may reuse the memory.

        It may be called from several threads at the same time.
        """
        ...


Payload = Span | Computed
