"""Children: a process for every fold, and a few that wait for the next ones."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from service.child import Child
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from service.child import Program
    from service.sandbox import Sandbox
    from service.work import Bounds


class Children:
    """Starts them, each in a folder of its own in `folders`, and keeps `spares` that wait.

    `sandbox` is None where bubblewrap is not used; `bounds` are the widest that any request may have.
    """

    def __init__(
        self, folders: Path, bounds: Bounds, sandbox: Sandbox | None, program: Program, spares: int = 0
    ) -> None:
        self._folders, self._bounds, self._sandbox, self._program = folders, bounds, sandbox, program
        self._spares, self._ready = spares, deque[asyncio.Task[Child]]()

    async def open(self) -> None:
        """Remove what an earlier server left, and start the first that wait."""
        await in_thread(shutil.rmtree, self._folders, ignore_errors=True)
        self._folders.mkdir(mode=0o700)
        self._refill()

    async def close(self) -> None:
        """End those that wait."""
        self._spares = 0
        while self._ready:
            await (await self._ready.popleft()).close()

    @asynccontextmanager
    async def child(self) -> AsyncGenerator[Child]:
        """A child for one request. It and its folder are gone afterwards."""
        child = await self._next()
        try:
            yield child
        finally:
            await asyncio.shield(child.close())
            self._refill()  # not before: this fold needed the processor

    async def _next(self) -> Child:
        while self._ready:
            child = await self._ready.popleft()
            if child.is_alive:
                return child
            await child.close()
        return await self._start()

    async def _start(self) -> Child:
        folder = self._folders / secrets.token_hex(16)
        return await Child.start(folder, self._bounds, self._sandbox, self._program)

    def _refill(self) -> None:
        while len(self._ready) < self._spares:
            self._ready.append(asyncio.create_task(self._start()))
