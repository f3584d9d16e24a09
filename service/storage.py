"""Storage: changes blobs and the ledger together. A blob is on the disk exactly while a key holds it.

One lock protects both steps of a change: to commit a blob and record its holder, and to remove the last holder and the
blob. So a blob that arrives again while it is being removed is never lost.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from service.ledger.records import Failure, Output
from service.threads import in_thread
from service.work import OUT, PAGE, REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from service.blobs import Blob, BlobStore, Draft
    from service.ledger.interface import Ledger
    from service.ledger.records import Idempotency, Job, Quota
    from service.work import Answer

LOG = logging.getLogger("bnfold")
SPARE = 1.25  # of the bytes that are short: so not every upload has to make room


class Storage:
    """Blobs and their holders."""

    def __init__(self, blobs: BlobStore, ledger: Ledger, on_damage: Callable[[int], object] = lambda _: None) -> None:
        self.blobs, self._ledger, self._lock = blobs, ledger, asyncio.Lock()
        self._on_damage = on_damage

    async def accept(
        self,
        draft: Draft,
        job: Job,
        quota: Quota,
        queue: int,
        request: Idempotency | None,
        webhook: str | None = None,
    ) -> tuple[Job, bool]:
        """Store an upload and its job durably. Returns and raises what `service.ledger.interface.Jobs.submit` does."""
        async with self._lock:
            await self.blobs.commit(draft)
            try:
                return await in_thread(self._ledger.submit, job, quota, queue, request, webhook)
            finally:
                await self._remove_unheld([draft.blob.sha256])

    async def finish(self, job: Job, folder: Path, answer: Answer) -> bool:
        """Store what a fold left in its folder, and end the job; False if the job was cancelled meanwhile.

        Raises:
            Problem: insufficient-storage.
            ValueError, OSError: the files are not the output of a fold.
        """
        names = {"result": answer.result, "report": answer.report and REPORT, "page": answer.report and PAGE}
        drafts = {role: await self.blobs.adopt(folder / OUT / name) for role, name in names.items() if name}
        output = Output(media=answer.media, **{role: draft.blob for role, draft in drafts.items()})
        failure = None if answer.slug is None else Failure(answer.slug, answer.detail)
        async with self._lock:
            for draft in drafts.values():
                await self.blobs.commit(draft)
            ended = await in_thread(self._ledger.finish, job.key, job.id, output, failure)
            if not ended:
                await self._remove_unheld(blob.sha256 for blob in output.blobs)
        return ended

    async def release(self, key: str, sha256: str) -> None:
        """Release a blob that a key holds. Raises the errors of `service.ledger.interface.Holdings.release`."""
        async with self._lock:
            if await in_thread(self._ledger.release, key, sha256):
                await self.blobs.delete(sha256)

    async def erase(self, key: str) -> None:
        """Remove all jobs of a key that has ended, and the blobs that no other key holds."""
        async with self._lock:
            for sha256 in await in_thread(self._ledger.erase_key, key):
                await self.blobs.delete(sha256)

    async def erase_job(self, key: str, job: str) -> None:
        """Remove a job that has ended, and the blobs that only it held."""
        async with self._lock:
            for sha256 in await in_thread(self._ledger.erase_job, key, job):
                await self.blobs.delete(sha256)

    async def sweep(self, ttl: float, cap: int) -> int:
        """Remove blobs not used for `ttl` seconds, then the least recently used above `cap` bytes; return how many."""
        count = 0
        while True:
            async with self._lock:  # released after each batch: uploads wait for it
                gone = await in_thread(self._ledger.sweep, ttl, cap)
                for sha256 in gone:
                    await self.blobs.delete(sha256)
            count += len(gone)
            if not gone:
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

    async def tidy(self) -> None:
        """Make the disk and the ledger agree again, after a server was killed or a disk was repaired."""
        async with self._lock:
            held = {holding.blob for holding in await in_thread(self._ledger.held)}
            stored = set(await in_thread(lambda: list(self.blobs.stored())))
            for blob in stored - held:
                await self.blobs.delete(blob.sha256)
            await self._lose(held - stored)

    async def heal(self, blobs: Iterable[Blob], *, by_content: bool = False) -> bool:
        """Whether blobs are whole. Those that are not are released: see `service.ledger.interface.Holdings.lost`."""
        damaged = [blob for blob in blobs if not await self.blobs.is_whole(blob, by_content=by_content)]
        if not damaged:
            return True
        async with self._lock:  # looked at again: they may have arrived again meanwhile
            damaged = [blob for blob in damaged if not await self.blobs.is_whole(blob, by_content=by_content)]
            for blob in damaged:
                await self.blobs.delete(blob.sha256)
            await self._lose(damaged)
        return not damaged

    async def _lose(self, damaged: Collection[Blob]) -> None:
        if not damaged:
            return
        self._on_damage(len(damaged))
        damage = await in_thread(self._ledger.lost, [blob.sha256 for blob in damaged])
        LOG.warning(
            "the disk lost or damaged blobs: %d jobs are folded again, %d are removed, %d need their upload again",
            damage.again,
            damage.removed,
            damage.failed,
            extra={"count": len(damaged)},
        )

    async def _remove_unheld(self, addresses: Iterable[str]) -> None:
        for sha256 in addresses:
            if not await in_thread(self._ledger.is_held, sha256):
                await self.blobs.delete(sha256)
