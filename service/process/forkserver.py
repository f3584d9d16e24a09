"""The fork server: starts the template process, and lets it fork those of folds; see `service.process.template`.

Python's own (`multiprocessing.forkserver`) hands its environment on, which may hold secrets, and knows no namespaces.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.process.sandbox import PACKAGES
from service.threads import in_thread

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

STATUS_BYTES = 16
TRIES = 2  # of a fork: the template may have died since the last one
VARIABLES = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OPENBLAS_NUM_THREADS": "1",  # see folding.verification.standby
    "MALLOC_ARENA_MAX": "2",
    "ORT_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True)
class Program:
    """What folds run: a module, and the folders to import it from."""

    module: str = "service.process.worker"
    paths: tuple[Path, ...] = tuple(dict.fromkeys(package.parent for package in PACKAGES))


class Forked:
    """A process of a fold. `pid` is that of its keeper, whose group it is in, unless it leaves it."""

    def __init__(self, pid: int, stdin: int, reading: dict[str, asyncio.StreamReader], pipes: list[Any]) -> None:
        self.pid, self._stdin, self._pipes = pid, stdin, pipes
        self.stdout, self.stderr = reading["stdout"], reading["stderr"]
        self._status = asyncio.ensure_future(reading["status"].read(STATUS_BYTES))

    @property
    def has_ended(self) -> bool:
        """Whether its end is known."""
        return self._status.done()

    async def wait(self) -> int:
        """Its exit status once it has ended, negative for a signal."""
        text = await asyncio.shield(self._status)
        return int(text) if text else -signal.SIGKILL  # the keeper could not write it

    def go(self, byte: bytes) -> None:
        """Write to its standard input; a process that has died does not mind."""
        with suppress(BrokenPipeError):
            os.write(self._stdin, byte)

    def close(self) -> None:
        """Close its pipes, even if a process that escaped still holds them."""
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1


class ForkServer:
    """The template process, which is started with the first fold, and again after its death."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._process: Process | None = None
        self._calls: socket.socket | None = None
        self._lock = asyncio.Lock()

    async def fork(self, place: Path, walls: str, variables: dict[str, str], namespaces: int | None = None) -> Forked:
        """A process of a fold: it calls the program's `main(place, walls)`, in the namespaces of a process.

        `variables` are added to its environment; `namespaces` is a file that stands for the process (`os.pidfd_open`).

        Raises:
            OSError: the template cannot be started or cannot fork.
        """
        request = {"place": str(place), "walls": walls, "environment": VARIABLES | variables}
        with ExitStack() as stack:
            ends = {name: _pipe(stack) for name in ("stdin", "stdout", "stderr", "status")}
            theirs = [ends["stdin"][0], *(ends[name][1] for name in ("stdout", "stderr", "status"))]
            pid = await self._called(
                json.dumps(request).encode(), [*theirs, *([] if namespaces is None else [namespaces])]
            )
            reading, pipes = {}, []
            for name in ("stdout", "stderr", "status"):
                reading[name], pipe = await _reader(os.dup(ends[name][0]))
                pipes.append(pipe)
            return Forked(pid, os.dup(ends["stdin"][1]), reading, pipes)

    async def close(self) -> None:
        """End the template; processes that it forked end with it."""
        if self._calls is not None:
            self._calls.close()
            self._calls = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def _called(self, message: bytes, files: list[int]) -> int:
        """The process id of the keeper that the template forks for a message."""
        async with self._lock:
            for _ in range(TRIES):
                if self._process is None or self._process.returncode is not None:
                    await self.close()
                    await self._start()
                assert self._calls is not None  # noqa: S101  it was started
                answer = await in_thread(_call, self._calls, message, files)
                if answer:
                    return int(answer)
                await self.close()
        raise OSError("the process that folds are forked from died")

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._calls = ours
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "service.process.template", self._program.module, str(os.getpid()),
                stdin=theirs.fileno(),
                start_new_session=True,
                env=VARIABLES | {"PYTHONPATH": os.pathsep.join(map(str, self._program.paths))},
            )  # fmt: skip


def _call(calls: socket.socket, message: bytes, files: list[int]) -> bytes:
    """The answer to a message; empty if the template has died."""
    try:
        socket.send_fds(calls, [message], files)
        return calls.recv(STATUS_BYTES)
    except OSError:
        return b""


def _pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed with `stack`."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


async def _reader(end: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(end, "rb", buffering=0))
    return reader, pipe
