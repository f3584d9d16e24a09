"""Partials: uploads that arrive in pieces, over several requests, and go on where they ended (tus 1.0).

Each is a file that grows and a record beside it, in `DATA/uploads`. What was acknowledged is on the disk; a server that
is killed goes on with all of them. The whole length is reserved from the beginning. An upload of which nothing arrives
for `resume_seconds` is removed; that is measured by the clock of the process, so a jump of the system's clock removes
none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from service.blobs import Blob
from service.ledger.records import Quota
from service.problems import Problem
from service.reservations import Reservation, require_place, usage_of
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

    from service.ledger.interface import Ledger
    from service.reservations import Reservations
    from service.storage import Storage

LOG = logging.getLogger("bnfold")
MOST = 1000  # of all keys; a key may have as many as it leaves free
ID_BYTES = 16
BLOCK = 1 << 20  # bytes that are written at a time
RECORD, CONTENT, WHOLE = ".json", ".part", ".whole"


@dataclass(frozen=True)
class Record:
    """What is stored beside the content."""

    key: str
    length: int  # bytes of the whole
    claimed: dict[str, str]  # digests of the whole that the client states, by algorithm, in hex
    sha256: str | None = None  # of the whole, once it is a blob


@dataclass(eq=False)
class Partial:
    """An upload, or the place of one that has become a blob."""

    id: str
    record: Record
    reservation: Reservation
    offset: int = 0  # the bytes that are on the disk
    used: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ousted: asyncio.Event = field(default_factory=asyncio.Event)  # a newer request is to go on with it

    @property
    def is_complete(self) -> bool:
        """Whether it is a blob."""
        return self.record.sha256 is not None


class Partials:
    """The uploads in pieces of one server."""

    def __init__(
        self, folder: Path, storage: Storage, ledger: Ledger, reservations: Reservations, seconds: float
    ) -> None:
        self._folder, self._storage, self._ledger, self._reservations = folder, storage, ledger, reservations
        self._seconds = seconds
        self._known: dict[str, Partial] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self, every: float) -> None:
        """Find what an earlier server left, and remove what is too old, every so many seconds."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._folder.glob(f"*{WHOLE}"):
            path.unlink()
        for path in self._folder.glob(f"*{RECORD}"):
            with suppress(OSError, ValueError, TypeError):
                self._add(path.stem, Record(**json.loads(path.read_text())))
        self._sweeping = asyncio.create_task(self._sweep(every))

    async def stop(self) -> None:
        """Stop to remove."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])

    async def create(self, key: str, quota: Quota, length: int, claimed: dict[str, str]) -> Partial:
        """A new upload of `length` bytes, which are reserved.

        Raises:
            Problem: busy, quota-exceeded, too-large, insufficient-storage.
        """
        open_ = [one for one in self._known.values() if not one.is_complete]
        require_place("uploads to resume", key, sum(one.record.key == key for one in open_), MOST - len(open_))
        made = self._add(secrets.token_hex(ID_BYTES), Record(key, length, claimed), quota, reserved=0)
        try:
            usage = await usage_of(self._ledger, key, quota)
            self._reservations.grow(made.reservation, length, usage)
            await self._storage.make_room(self._reservations.coming)
            await in_thread(self._path(made, CONTENT).touch, 0o600)
            await self._store(made)
        except BaseException:
            await self.remove(made)
            raise
        if length == 0:
            await self._complete(made)
        return made

    def find(self, key: str, id_: str) -> Partial | None:
        """The upload with this id, if the key has one."""
        found = self._known.get(id_)
        return found if found is not None and found.record.key == key else None

    def remaining(self, partial: Partial) -> float:
        """Seconds after which it is removed if nothing more arrives."""
        return max(partial.used + self._seconds - time.monotonic(), 0.0)

    async def append(self, partial: Partial, offset: int, chunks: AsyncIterator[bytes]) -> None:
        """Add what arrives; what has arrived stays, also if the rest does not.

        A newer request takes over from an older one, whose connection may be dead without the server's knowledge.

        Raises:
            Problem: offset-mismatch: it does not end there, or a newer request takes over; too-large: it would be
                longer than was announced; digest-mismatch: it is complete, and not what was announced: it is
                removed.
        """
        partial.ousted.set()
        async with partial.lock:
            partial.ousted.clear()
            if offset != partial.offset or partial.is_complete:
                raise _mismatch(partial)
            with self._path(partial, CONTENT).open("ab", buffering=0) as file:
                try:
                    async for block in _blocks(_until(partial.ousted, chunks)):
                        if partial.offset + len(block) > partial.record.length:
                            raise Problem("too-large", f"the upload was to have {partial.record.length:,} bytes")
                        await in_thread(_written, file.fileno(), block)
                        partial.offset += len(block)
                        partial.reservation.arrived, partial.used = partial.offset, time.monotonic()
                finally:
                    await in_thread(os.fsync, file.fileno())
            if partial.offset == partial.record.length:
                await self._complete(partial)
            elif partial.ousted.is_set():
                raise _mismatch(partial)

    async def settled(self, partial: Partial) -> None:
        """Wait until no older request adds to it any more; complete what a killed server could not."""
        partial.ousted.set()
        async with partial.lock:
            partial.ousted.clear()
            if partial.offset == partial.record.length and not partial.is_complete:
                await self._complete(partial)

    async def remove(self, partial: Partial) -> None:
        """Remove an upload; the blob that it has become stays."""
        self._known.pop(partial.id, None)
        self._reservations.forget(partial.reservation)
        for suffix in (RECORD, CONTENT, WHOLE):
            await in_thread(self._path(partial, suffix).unlink, missing_ok=True)

    async def remove_of(self, keys: Collection[str]) -> None:
        """Remove the uploads of keys that have ended."""
        for partial in [one for one in self._known.values() if one.record.key in keys]:
            await self.remove(partial)

    async def _complete(self, partial: Partial) -> None:
        """Make a blob of it. The content stays until all of that is on the disk, so it can be done again."""
        content, whole = self._path(partial, CONTENT), self._path(partial, WHOLE)
        for algorithm, claimed in partial.record.claimed.items():
            found = await in_thread(_digest, content, algorithm)
            if found != claimed:
                await self.remove(partial)
                raise Problem(
                    "digest-mismatch", f"what arrived has the {algorithm} {found}, not {claimed}; send it again"
                )
        whole.unlink(missing_ok=True)
        os.link(content, whole)
        draft = await self._storage.blobs.adopt(whole)
        await self._storage.keep(draft, partial.record.key)
        record = Record(partial.record.key, partial.record.length, partial.record.claimed, draft.blob.sha256)
        partial.record = record
        await self._store(partial)
        partial.reservation.is_complete, partial.reservation.bytes = True, 0
        await in_thread(content.unlink, missing_ok=True)

    def _add(self, id_: str, record: Record, quota: Quota | None = None, *, reserved: int | None = None) -> Partial:
        is_complete = record.sha256 is not None
        size = 0 if is_complete or reserved is not None else (self._folder / f"{id_}{CONTENT}").stat().st_size
        wanted = (0 if is_complete else record.length) if reserved is None else reserved
        reservation = Reservation(record.key, quota or Quota(), wanted, size, is_complete, is_in_pieces=True)
        self._reservations.remember(reservation)
        made = self._known[id_] = Partial(id_, record, reservation, record.length if is_complete else size)
        return made

    async def _store(self, partial: Partial) -> None:
        await in_thread(_stored, self._path(partial, RECORD), json.dumps(asdict(partial.record)))

    def _path(self, partial: Partial, suffix: str) -> Path:
        return self._folder / f"{partial.id}{suffix}"

    async def _sweep(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            for partial in list(self._known.values()):
                if self.remaining(partial) <= 0 and not partial.lock.locked():
                    await self.remove(partial)


def blob_of(partial: Partial) -> Blob | None:
    """The blob that it has become, if it has."""
    return None if partial.record.sha256 is None else Blob(partial.record.sha256, partial.record.length)


def _mismatch(partial: Partial) -> Problem:
    detail = f"the upload has {partial.offset:,} bytes; go on from there"
    return Problem("offset-mismatch", detail, headers={"Upload-Offset": str(partial.offset)})


async def _until(stop: asyncio.Event, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks until the event."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(chunks, None))
            await asyncio.wait([coming, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                await asyncio.wait([coming])
                return
            if (chunk := coming.result()) is None:
                return
            yield chunk
    finally:
        stopped.cancel()


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, joined; also those before an error, which is raised after them."""
    held, error = bytearray(), None
    try:
        async for chunk in chunks:
            held += chunk
            if len(held) >= BLOCK:
                yield bytes(held)
                held.clear()
    except Exception as raised:  # noqa: BLE001  it is raised below
        error = raised
    if held:
        yield bytes(held)
    if error is not None:
        raise error


def _written(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm.replace("-", "")).hexdigest()


def _stored(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
