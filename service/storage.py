"""Storage: changes blobs and the ledger together. A blob is in the store exactly while a key holds it.

A blob that arrives again while it is being removed is never lost. In one server, a lock for each blob protects both
steps of a change: to commit a blob and record its holder, and to look for a holder and remove the blob. Of several
servers, the ledger lets nobody begin to hold a blob while another server removes it (`discard`, `lost`); who committed
the blob before, and could record its holder only after that, finds that it is missing, and commits it again.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from sqlalchemy.exc import SQLAlchemyError

from service.ledger.records import Failure, Output
from service.problems import Problem
from service.threads import in_thread
from service.work import OUT, PAGE, REPORT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterable
    from pathlib import Path

    from service.blobs import Blob, BlobStore, Draft
    from service.ledger.interface import Ledger
    from service.ledger.records import Idempotency, Job, Quota, Room
    from service.work import Answer

LOG = logging.getLogger("bnfold")
SPARE = 1.25  # of the bytes that are short: so not every upload has to make room


class Storage:
    """Blobs and their holders."""

    def __init__(self, blobs: BlobStore, ledger: Ledger, on_damage: Callable[[int], object] = lambda _: None) -> None:
        self.blobs, self._ledger, self._on_damage = blobs, ledger, on_damage
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def accept(
        self,
        draft: Draft,
        job: Job,
        quota: Quota,
        room: Room,
        request: Idempotency | None,
        webhook: str | None = None,
    ) -> tuple[Job, bool]:
        """Store an upload and its job durably. Returns and raises what `service.ledger.interface.Jobs.submit` does."""
        sha256 = draft.blob.sha256
        async with self._locked([sha256]):
            await self.blobs.commit(draft)
            try:
                accepted = await in_thread(self._ledger.submit, job, quota, room, request, webhook)
            except BaseException:
                await self._discard(sha256)
                raise
            await self._complete([draft])
        return accepted

    async def keep(self, draft: Draft, key: str) -> None:
        """Store a content durably that a key holds, without a job."""
        sha256 = draft.blob.sha256
        async with self._locked([sha256]):
            await self.blobs.commit(draft)
            try:
                await in_thread(self._ledger.keep, key, draft.blob)
            except BaseException:
                await self._discard(sha256)
                raise
            await self._complete([draft])

    async def accept_held(
        self, job: Job, quota: Quota, room: Room, request: Idempotency | None, webhook: str | None = None
    ) -> tuple[Job, bool] | None:
        """Accept a job whose input its key holds; None if it does not any more. Else as `accept`."""
        async with self._locked([job.input.sha256]):
            if await in_thread(self._ledger.holding, job.key, job.input.sha256) is None:
                return None
            return await in_thread(self._ledger.submit, job, quota, room, request, webhook)

    async def finish(self, job: Job, folder: Path, answer: Answer) -> bool:
        """Store what a fold left in its folder, and end the job; False if this attempt does not run any more.

        Raises:
            Problem: insufficient-storage.
            ValueError, OSError: the files are not the output of a fold.
        """
        names = {"result": answer.result, "report": answer.report and REPORT, "page": answer.report and PAGE}
        drafts = {role: await self.blobs.adopt(folder / OUT / name) for role, name in names.items() if name}
        output = Output(media=answer.media, **{role: draft.blob for role, draft in drafts.items()})
        failure = None if answer.slug is None else Failure(answer.slug, answer.detail)
        addresses = [blob.sha256 for blob in output.blobs]
        async with self._locked(addresses):
            for draft in drafts.values():
                await self.blobs.commit(draft)
            ended = await in_thread(self._ledger.finish, job.key, job.id, job.run, output, failure)
            if ended:
                await self._complete(drafts.values())
            else:
                for sha256 in addresses:
                    await self._discard(sha256)
        return ended

    async def release(self, key: str, sha256: str) -> None:
        """Release a blob that a key holds. Raises the errors of `service.ledger.interface.Holdings.release`."""
        if await in_thread(self._ledger.release, key, sha256):
            await self._remove([sha256])

    async def erase(self, key: str) -> None:
        """Remove all jobs of a key that has ended, and the blobs that no other key holds."""
        await self._remove(await in_thread(self._ledger.erase_key, key))

    async def erase_job(self, key: str, job: str) -> None:
        """Remove a job that has ended, and the blobs that only it held."""
        await self._remove(await in_thread(self._ledger.erase_job, key, job))

    async def sweep(self, ttl: float, cap: int) -> int:
        """Remove blobs not used for `ttl` seconds, then the least recently used above `cap` bytes; return how many."""
        count = 0
        while gone := await in_thread(self._ledger.sweep, ttl, cap):
            await self._remove(gone)
            count += len(gone)
        return count

    async def make_room(self, coming: int = 0) -> None:
        """Let go of what is least used until `coming` more bytes fit on the disk.

        Raises:
            Problem: insufficient-storage: not even that would make room, or open jobs need what is stored.
        """
        short = self.blobs.shortage(coming)
        if short > 0:
            stored = await in_thread(self._ledger.total)
            if stored >= short:
                await self.sweep(math.inf, int(max(stored - short * SPARE, 0)))
        self.blobs.require_space(coming)

    @property
    def has_space(self) -> bool:
        """Whether the disk of this machine has the space that is kept free."""
        try:
            self.blobs.require_space()
        except Problem:
            return False
        return True

    async def tidy(self) -> None:
        """Make the disk and the ledger agree again, after a server was killed or a disk was repaired."""
        held = {holding.blob for holding in await in_thread(self._ledger.held)}
        stored = set(await in_thread(lambda: list(self.blobs.stored())))
        await self._remove(blob.sha256 for blob in stored - held)
        await self.heal(held - stored)

    async def heal(self, blobs: Iterable[Blob], *, by_content: bool = False) -> bool:
        """Whether blobs are whole. Those that are not are released: see `service.ledger.interface.Holdings.lost`."""
        damaged = [blob for blob in blobs if not await self.blobs.is_whole(blob, by_content=by_content)]
        if not damaged:
            return True
        async with self._locked(blob.sha256 for blob in damaged):
            # looked at again: they may have arrived again meanwhile
            damaged = [blob for blob in damaged if not await self.blobs.is_whole(blob, by_content=by_content)]
            await self._lose(damaged, by_content=by_content)
        return not damaged

    async def _lose(self, damaged: Collection[Blob], *, by_content: bool) -> None:
        if not damaged:
            return
        self._on_damage(len(damaged))
        loop, sizes = asyncio.get_running_loop(), {blob.sha256: blob.bytes for blob in damaged}

        def is_gone(sha256: str) -> bool:
            """Whether it did not come again through another server; removes what is left of it."""
            size = asyncio.run_coroutine_threadsafe(self.blobs.size(sha256), loop).result()
            if size == sizes[sha256] and not by_content:
                return False
            self.blobs.delete(sha256)
            return True

        damage = await in_thread(self._ledger.lost, list(sizes), is_gone)
        LOG.warning(
            "the disk lost or damaged blobs: %d jobs are folded again, %d are removed, %d need their upload again",
            damage.again,
            damage.removed,
            damage.failed,
            extra={"count": len(damaged)},
        )

    async def _complete(self, drafts: Iterable[Draft]) -> None:
        """Commit again what another server removed between its commit and the record of its holder."""
        for draft in drafts:
            if await self.blobs.size(draft.blob.sha256) is None:
                await self.blobs.commit(draft)

    async def _remove(self, addresses: Iterable[str]) -> None:
        for sha256 in addresses:
            async with self._locked([sha256]):  # released after each: uploads wait for it
                await self._discard(sha256)

    async def _discard(self, sha256: str) -> None:
        """Remove a blob that no key holds. What fails is left to `tidy`: no request fails for it."""
        try:
            await in_thread(self._ledger.discard, sha256, lambda: self.blobs.delete(sha256))
        except (OSError, SQLAlchemyError) as error:
            LOG.warning("a blob that nobody holds could not be removed; it is tried again", exc_info=error)

    @asynccontextmanager
    async def _locked(self, addresses: Iterable[str]) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for sha256 in sorted(set(addresses)):  # in this order, so that no two wait for each other
                await stack.enter_async_context(self._locks.setdefault(sha256, asyncio.Lock()))
            yield
