"""Storage: the one place where blobs and the ledger meet. What a key holds is on the disk; what nobody holds is not.

A blob is committed and its holder noted, or its last holder gone and it removed, under one lock: a blob that arrives
again while it is being removed is never lost.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from service.ledger.records import Failure, Output
from service.threads import in_thread
from service.work import OUT, PAGE, REPORT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from service.blobs import Blob, BlobStore, Draft
    from service.ledger.interface import Ledger
    from service.ledger.records import Idempotency, Job, Quota
    from service.work import Answer


class Storage:
    """Blobs and their holders."""

    def __init__(self, blobs: BlobStore, ledger: Ledger) -> None:
        self.blobs, self._ledger, self._lock = blobs, ledger, asyncio.Lock()

    async def accept(
        self,
        draft: Draft,
        job: Job,
        quota: Quota,
        queue: int,
        request: Idempotency | None,
        webhook: str | None = None,
    ) -> tuple[Job, bool]:
        """Keep an upload and its job, durably; see `ledger.interface.Jobs.submit`, which raises as this does."""
        async with self._lock:
            await self.blobs.commit(draft)
            try:
                return await in_thread(self._ledger.submit, job, quota, queue, request, webhook)
            finally:
                await self._remove_unheld([draft.blob.sha256])

    async def finish(self, job: Job, folder: Path, answer: Answer) -> bool:
        """Keep what a fold left in its folder, and end the job; False where the job was cancelled meanwhile.

        Raises:
            Problem: insufficient-storage.
            ValueError, OSError: the files are not what a fold leaves.
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
        """Let go of a blob for a key; raises as `service.ledger.interface.Holdings.release` does."""
        async with self._lock:
            if await in_thread(self._ledger.release, key, sha256):
                await self.blobs.delete(sha256)

    async def sweep(self, ttl: float, cap: int) -> int:
        """Remove what was not used for `ttl` seconds, and the least recently used above `cap` bytes; how many."""
        before, count = time.time() - ttl, 0
        while True:
            async with self._lock:  # not for longer: uploads wait for it
                gone = await in_thread(self._ledger.sweep, before, cap)
                for sha256 in gone:
                    await self.blobs.delete(sha256)
            count += len(gone)
            if not gone:
                return count

    async def tidy(self) -> None:
        """Make disk and ledger agree again, after a server that was killed or a disk that was repaired."""
        async with self._lock:
            held: dict[str, Blob] = {
                holding.blob.sha256: holding.blob for holding in await in_thread(self._ledger.held)
            }
            there = set(await in_thread(lambda: list(self.blobs.addresses())))
            for sha256 in there - held.keys():
                await self.blobs.delete(sha256)
            for sha256 in held.keys() - there:
                await in_thread(self._ledger.lost, sha256)

    async def _remove_unheld(self, addresses: Iterable[str]) -> None:
        for sha256 in addresses:
            if not await in_thread(self._ledger.is_held, sha256):
                await self.blobs.delete(sha256)
