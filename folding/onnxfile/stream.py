"""Write segments with two threads: the kernel copies spans, and computed blocks are written as they are evaluated."""

from __future__ import annotations

import errno
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from folding.errors import FoldingError
from folding.onnxfile.sources import FileSource, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from folding.onnxfile.layout import Segment
    from folding.onnxfile.sources import Computed

    Progress = Callable[[int, int], None]  # bytes done, bytes in all

THREADS = 2  # one computes while the other waits for the disk; memory stays at two blocks
PIECE = 8 << 20  # bytes of a span that one thread copies at a time
BATCH = 1 << 20  # bytes of small adjacent segments that are written together
SMALL = 64 << 10  # bytes; smaller spans are joined with adjacent ones, which saves a system call each
BUFFER = 1 << 20  # bytes read and written at a time if the kernel cannot copy
WRITTEN = (
    256 << 10
)  # bytes written at a time, as `cp` does: for more, the kernel looks for contiguous memory, at length
PROGRESS_SECONDS = 0.05  # between two reports; a reader cannot see more frequent ones
# Errors if the kernel cannot copy between these files, or at all: different file systems, old kernels
_CANNOT_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM}
_CANNOT_ALLOCATE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV}
_seek_lock = threading.Lock()  # for platforms that have no positional writes


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn an OSError into a FoldingError that states what could not be written, and why."""
    try:
        yield
    except OSError as error:
        raise FoldingError(f"{what} cannot be written: {error.strerror or error}") from error


@dataclass(frozen=True)
class Target:
    """A new file that is open for writing, its contents, and its name in messages."""

    fd: int
    name: str
    segments: Iterable[Segment]
    nbytes: int

    def allocate(self) -> None:
        """Reserve the space at once: it is contiguous, and a full disk fails before any work is done."""
        if self.nbytes and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self.fd, 0, self.nbytes)
            except OSError as error:
                if error.errno not in _CANNOT_ALLOCATE:
                    raise
        os.ftruncate(self.fd, self.nbytes)


class _Work(NamedTuple):
    nbytes: int
    run: Callable[[], None]


def stream(targets: list[Target], progress: Progress | None) -> None:
    """Write all targets.

    `progress(done, total)` is called from this thread only. The first exception in a thread stops the
    other thread and is raised here unchanged.

    Raises:
        FoldingError: writing failed (disk full, for example).
        ModelError: a source became shorter or cannot be read.
    """
    for target in targets:
        with writing(target.name):
            target.allocate()
    crew = _Crew(work for target in targets for work in _works(target))
    crew.run(progress or (lambda _done, _total: None), sum(target.nbytes for target in targets))


class _Crew:
    """Threads that take work from one iterator until it ends or one of them fails."""

    def __init__(self, works: Iterator[_Work]) -> None:
        self._works, self._lock = works, threading.Lock()
        self._done = 0
        self._stopped = False
        self._error: BaseException | None = None

    def run(self, progress: Progress, total: int) -> None:
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]
        try:
            for thread in threads:
                thread.start()
            self._watch(threads, progress, total)
        finally:
            self._stopped = True
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._error is not None:
            raise self._error
        progress(self._done, total)

    def _watch(self, threads: list[threading.Thread], progress: Progress, total: int) -> None:
        reported = time.monotonic()
        for thread in threads:
            while thread.is_alive():
                thread.join(PROGRESS_SECONDS)
                if time.monotonic() - reported >= PROGRESS_SECONDS and self._error is None:
                    progress(self._done, total)
                    reported = time.monotonic()

    def _work(self) -> None:
        try:
            while (work := self._take()) is not None:
                work.run()
                with self._lock:
                    self._done += work.nbytes
        except BaseException as error:  # noqa: BLE001  (raised again by `run`, in the caller's thread)
            with self._lock:
                self._error = self._error or error
                self._stopped = True

    def _take(self) -> _Work | None:
        with self._lock:
            return None if self._stopped else next(self._works, None)


def _works(target: Target) -> Iterator[_Work]:
    """The segments of a target as work items; small adjacent segments are joined."""
    batch: list[Segment] = []
    size = 0
    for segment in target.segments:
        if isinstance(segment.content, bytes) or (isinstance(segment.content, Span) and segment.nbytes <= SMALL):
            if batch and (size >= BATCH or batch[-1].offset + batch[-1].nbytes != segment.offset):
                yield _batch(target, batch, size)
                batch, size = [], 0
            batch.append(segment)
            size += segment.nbytes
        elif isinstance(segment.content, Span):
            yield from _copies(target, segment, segment.content)
        else:
            yield from _evaluations(target, segment, segment.content)
    if batch:
        yield _batch(target, batch, size)


def _batch(target: Target, batch: list[Segment], size: int) -> _Work:
    def run() -> None:
        joined = bytearray(size)
        view, start = memoryview(joined), batch[0].offset
        for segment in batch:
            part = view[segment.offset - start :][: segment.nbytes]
            if isinstance(segment.content, Span):
                segment.content.read_into(part, 0)
            else:
                part[:] = segment.content  # type: ignore[assignment]  # batches have no computed payloads
        write_at(target, view, start)

    return _Work(size, run)


def _copies(target: Target, segment: Segment, span: Span) -> Iterator[_Work]:
    for start in range(0, span.length, PIECE):
        nbytes = min(PIECE, span.length - start)
        yield _Work(nbytes, _copy(target, segment.offset + start, span, start, nbytes))


def _copy(target: Target, offset: int, span: Span, start: int, nbytes: int) -> Callable[[], None]:
    def run() -> None:
        copied = _copy_in_kernel(target, offset, span, start, nbytes)
        buffer = memoryview(bytearray(min(BUFFER, nbytes - copied)))
        for at in range(copied, nbytes, BUFFER):
            part = buffer[: min(BUFFER, nbytes - at)]
            span.read_into(part, start + at)
            write_at(target, part, offset + at)

    return run


def _copy_in_kernel(target: Target, offset: int, span: Span, start: int, nbytes: int) -> int:
    """Copy in the kernel from file to file; return the number of bytes copied. The caller copies the rest."""
    if not isinstance(span.source, FileSource) or not hasattr(os, "copy_file_range"):
        return 0
    copied = 0
    with span.source.opened() as fd, writing(target.name):
        while copied < nbytes:
            at = span.offset + start + copied
            try:
                count = os.copy_file_range(fd, target.fd, nbytes - copied, at, offset + copied)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                break
            if count == 0:
                break  # the end of the source, or a file system that reports it; the caller's read decides
            copied += count
    return copied


def _evaluations(target: Target, segment: Segment, payload: Computed) -> Iterator[_Work]:
    position = 0
    for start, stop in payload.blocks():
        if start != position:
            raise ValueError(f"the blocks of a payload must follow each other: {start} after {position}")
        position = stop
        yield _Work(stop - start, _evaluation(target, segment.offset, payload, start, stop))
    if position != segment.nbytes:
        raise ValueError(f"the blocks of a payload end at {position}, its size is {segment.nbytes}")


def _evaluation(target: Target, offset: int, payload: Computed, start: int, stop: int) -> Callable[[], None]:
    def run() -> None:
        view = memoryview(payload.evaluate(start, stop))
        if view.nbytes != stop - start:
            raise ValueError(f"the payload gave {view.nbytes} bytes for the block {start}..{stop}")
        write_at(target, view.cast("B") if view.nbytes else view, offset + start)

    return run


def write_at(target: Target, view: memoryview, offset: int) -> None:
    """Write all of `view` at `offset`; raises FoldingError on failure."""
    with writing(target.name):
        while len(view):
            count = _pwrite(target.fd, view[:WRITTEN], offset)
            view, offset = view[count:], offset + count


def _pwrite(fd: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, view, offset)
    with _seek_lock:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, view)
