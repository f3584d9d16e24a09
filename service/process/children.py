"""Children: one process for every fold, and spare processes that wait for the next folds."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from service.left import remove
from service.process.child import Child
from service.process.forkserver import ForkServer
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from service.process.forkserver import Program
    from service.process.sandbox import Sandbox
    from service.work import Bounds


class Children:
    """Starts child processes, each with a folder of its own in `folders`, and keeps `spares` of them waiting.

    `sandbox` is None if bubblewrap is not used; `bounds` are the widest that any request may have.
    """

    def __init__(
        self, folders: Path, bounds: Bounds, sandbox: Sandbox | None, program: Program, spares: int = 0
    ) -> None:
        self._folders, self._bounds, self._sandbox, self._forks = folders, bounds, sandbox, ForkServer(program)
        self._spares, self._ready = spares, deque[asyncio.Task[Child]]()
        self._working = 0

    async def open(self) -> None:
        """Remove what an earlier server left, and start the spare processes."""
        await in_thread(remove, self._folders)
        self._folders.mkdir(mode=0o700, exist_ok=True)
        self._refill()

    async def close(self) -> None:
        """End the spare processes, and the one that all are forked from."""
        self._spares = 0
        while self._ready:
            with suppress(OSError):
                await (await self._ready.popleft()).close()
        await self._forks.close()

    @property
    def counts(self) -> dict[str, int]:
        """The number of processes that work, and of those that wait, ready or nearly so."""
        return {"working": self._working, "waiting": len(self._ready)}

    @asynccontextmanager
    async def child(self) -> AsyncGenerator[Child]:
        """A child for one request. The process and its folder are removed afterwards."""
        child = await self._next()
        self._working += 1
        try:
            yield child
        finally:
            self._working -= 1
            await asyncio.shield(child.close())
            self._refill()  # only now: before, this fold needed the processor

    async def _next(self) -> Child:
        while self._ready:
            with suppress(OSError):  # its start failed earlier; a new start may work
                child = await self._started(self._ready.popleft())
                if child.is_alive:
                    return child
                await child.close()
        return await self._started(asyncio.create_task(self._start()))

    async def _started(self, starting: asyncio.Task[Child]) -> Child:
        """A child, once it has started. A caller that is cancelled leaves it for the next request."""
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._ready.appendleft(starting)
            raise

    async def _start(self) -> Child:
        folder = self._folders / secrets.token_hex(16)
        try:
            return await Child.start(folder, self._bounds, self._sandbox, self._forks)
        except OSError:
            await in_thread(remove, folder)
            raise

    def _refill(self) -> None:
        while len(self._ready) < self._spares:
            self._ready.append(asyncio.create_task(self._start()))
