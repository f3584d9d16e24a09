"""Namespaces: what bubblewrap made for one fold, until they are closed. Processes that entered them end with them."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from service.process.watch import descendants

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Sequence


class Namespaces:
    """The processes of bubblewrap; `file` stands for the innermost (`os.pidfd_open`), whose namespaces are complete."""

    def __init__(self, process: Process, file: int) -> None:
        self._process, self.file, self._is_open = process, file, True

    @classmethod
    async def make(cls, command: Sequence[str]) -> Self:
        """Run a command of `service.process.sandbox.Sandbox`, and wait until it has made its namespaces.

        Raises:
            OSError: it has not.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )
        assert process.stdout is not None  # noqa: S101  the pipe was requested
        try:
            is_made = bool(await process.stdout.readline())
            file = os.pidfd_open(descendants(process.pid)[-1]) if is_made else None
        except BaseException:
            await asyncio.shield(_end(process))
            raise
        if file is None:
            await _end(process)
            raise OSError("bubblewrap made no namespaces")
        return cls(process, file)

    async def close(self) -> None:
        """End all that is in them."""
        if self._is_open:
            self._is_open = False
            os.close(self.file)
            await _end(self._process)


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    process._transport.close()  # type: ignore[attr-defined]
