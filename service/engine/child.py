"""A child: the bounded process of one fold, and the meaning of its exit. It cannot harm the server or other folds.

It is started before there is work, and waits: loading Python's packages takes longer than most folds.

Each death is one problem: the wall clock is `timed-out`, memory is `out-of-memory`, a signal that only others send is
`killed`, everything else is `crashed`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self, get_args

from pydantic import TypeAdapter

from service.engine.sandbox import PACKAGES
from service.engine.watch import descendants, kill, used
from service.ledger.records import Stage
from service.left import opened, remove
from service.problems import KINDS
from service.threads import in_thread
from service.work import (
    ANSWER,
    ARCHIVE,
    ARCHIVE_TYPE,
    BOUNDS,
    IN,
    LIBRARY,
    MODEL_TYPE,
    OUT,
    REQUEST,
    RESULT,
    TEMPORARY,
    UNPACKED,
    Answer,
)

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

    from service.engine.sandbox import Sandbox
    from service.work import Bounds, Request

OnProgress = Callable[[Stage, float], None]

GO = b"\n"  # starts the work; end of file instead means that the process is not needed
TAIL_BYTES = 4096  # kept from the end of a child's error output
READ_BYTES = 65536
ANSWER_BYTES = 1 << 20
POLL_SECONDS = 0.01
# A command, and before it that it ends first where the machine runs out of memory; nobody may undo it in a sandbox.
FIRST_TO_GO = ("/bin/sh", "-c", 'echo 1000 > /proc/self/oom_score_adj; exec "$@"', "sh")
LISTEN_SECONDS = 5  # to read the remaining output of a dead child
RESULTS = {None, RESULT, ARCHIVE}  # what an answer can name; the media type goes into a header
MEDIA = {"", MODEL_TYPE, ARCHIVE_TYPE}
SHELL_OFFSET = 128  # bubblewrap, like a shell, reports a process that signal n ended as 128 + n
# Error messages of C++, Python, the C library and the loader when memory is exhausted.
NO_MEMORY = (b"bad_alloc", b"MemoryError", b"Cannot allocate memory", b"failed to map segment")
NO_ROOM = "folding this model takes more memory than this server gives to one fold; fold it on a larger machine"
OUT_OF_MEMORY = Answer(slug="out-of-memory", detail=NO_ROOM)
TOO_MANY = Answer(slug="crashed", detail="the fold of this model started too many processes; please report the model")
WATCH_SECONDS = 0.2  # between two looks at what a fold uses
FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
KILLED = (
    "something else killed the process that folded this model, also when nothing else ran: an operator, or the system "
    "for lack of memory; send it again later, or fold it on a larger machine"
)


@dataclass(frozen=True)
class Program:
    """What a child runs: a module, and the folders to import it from."""

    module: str = "service.engine.worker"
    paths: tuple[Path, ...] = tuple(dict.fromkeys(package.parent for package in PACKAGES))


@dataclass(frozen=True)
class _Ended:
    status: int
    errors: bytes  # the end of its error output
    in_time: bool
    seconds: float  # the time it was given


class _Clock:
    """The wall clock of a child. It adds time when the verification begins, and passes the progress on."""

    def __init__(self, bounds: Bounds, on_progress: OnProgress) -> None:
        self.seconds, self._more, self._on_progress = bounds.seconds, bounds.verification, on_progress
        self._began = asyncio.get_running_loop().time()
        self.timeout = asyncio.timeout_at(self._began + self.seconds)

    def __call__(self, stage: Stage, progress: float) -> None:
        if stage == "verifying" and self._more and not self.timeout.expired():
            self.seconds, self._more = self.seconds + self._more, 0
            self.timeout.reschedule(self._began + self.seconds)
        self._on_progress(stage, progress)


class Child:
    """A process with a folder of its own, for one fold. The upload is placed in the folder's `in/`."""

    def __init__(self, folder: Path, process: Process, *, shares_inputs: bool) -> None:
        self.folder, self._process, self._is_killed = folder, process, False
        self._excess: Answer | None = None  # what is answered where the whole fold used too much
        self.shares_inputs = shares_inputs  # whether a link is as good as a copy in `in/`, because it cannot be changed

    @classmethod
    async def start(cls, folder: Path, bounds: Bounds, sandbox: Sandbox | None, program: Program) -> Self:
        """Start a child in a new folder; `bounds` are the widest that any request may have."""
        for name in (IN, OUT, TEMPORARY, UNPACKED):
            (folder / name).mkdir(parents=True, mode=0o700)
        (folder / BOUNDS).write_text(json.dumps(asdict(bounds)))
        place, paths, kind = folder, program.paths, "none"
        if sandbox is not None:
            sandbox.prepare(folder)
            place, kind = sandbox.place(folder), sandbox.kind
            paths = (place / LIBRARY,)
        parent = 0 if kind == "bubblewrap" else os.getpid()  # which itself ends the child with the server
        command = [sys.executable, "-P", "-m", program.module, str(place), str(parent), kind]
        first = FIRST_TO_GO if sys.platform == "linux" else ()
        process = await asyncio.create_subprocess_exec(
            *first,
            *(sandbox.command(folder, command) if sandbox else command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            cwd=folder,
            env=_environment(place, paths),
        )
        return cls(folder, process, shares_inputs=sandbox is not None and sandbox.hides_folders)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, and can take a request."""
        return self._process.returncode is None

    async def run(self, request: Request, on_progress: OnProgress) -> Answer:
        """Do the request and return its answer, even if the process dies. Cancelling kills it and what it started."""
        (self.folder / REQUEST).write_text(json.dumps(asdict(request)))
        ended = await self._end(request.bounds, on_progress)
        answer = _answer(self.folder / OUT / ANSWER)
        if self._excess is not None:
            return self._excess
        if ended.in_time and ended.status == 0 and answer is not None:
            return answer
        return _death(ended)

    async def _end(self, bounds: Bounds, on_progress: OnProgress) -> _Ended:
        process = self._process
        assert process.stdin is not None  # noqa: S101  all three pipes were requested
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        clock, in_time = _Clock(bounds, on_progress), True
        watching = asyncio.create_task(self._watch(bounds))
        listening = asyncio.create_task(_listen(process.stdout, clock)), asyncio.create_task(_tail(process.stderr))
        try:
            process.stdin.write(GO)  # also if it has died meanwhile: its exit status shows that
            async with clock.timeout:
                await self._exit()
        except TimeoutError:
            in_time = False
        finally:
            watching.cancel()
            status = await asyncio.shield(self.kill())
        _, unread = await asyncio.wait(listening, timeout=LISTEN_SECONDS)
        for task in unread:
            task.cancel()
        self._close_pipes()
        return _Ended(status, b"" if unread else listening[1].result(), in_time, clock.seconds)

    async def _watch(self, bounds: Bounds) -> None:
        """Look at what the whole fold uses, and end it when that is more than its bounds."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = await in_thread(used, self._process.pid)
            excess = TOO_MANY if now.tasks > bounds.tasks else OUT_OF_MEMORY if now.memory > bounds.memory else None
            if excess is not None:
                self._excess = excess
                await asyncio.shield(self.kill())
                return

    async def kill(self) -> int:
        """Kill the process and all that it started; return its exit status, negative for a signal."""
        if not self._is_killed:
            self._is_killed = True  # only once: later, another process may have its id
            left = descendants(self._process.pid)  # some have left the group
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            kill(left)
        return await self._exit()

    async def close(self) -> None:
        """Kill the process, close its pipes, and remove its folder."""
        await self.kill()
        self._close_pipes()
        await in_thread(remove, self.folder)

    def _close_pipes(self) -> None:
        """Close the pipes, even if an escaped process still holds them. No public method does this."""
        self._process._transport.close()  # type: ignore[attr-defined]

    async def _exit(self) -> int:
        """Its exit status, once it has ended. `Process.wait` also waits for other processes that hold its pipes."""
        while (status := self._process.returncode) is None:
            await asyncio.sleep(POLL_SECONDS)
        return status


def _environment(place: Path, paths: Iterable[Path]) -> dict[str, str]:
    """The environment of the child. It has none of the server's variables, which may hold secrets."""
    temporary = str(place / TEMPORARY)
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": temporary,
        "TMPDIR": temporary,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # see folding.verification.standby
        "MALLOC_ARENA_MAX": "2",
        "ORT_DISABLE_TELEMETRY": "1",
    }


async def _listen(stream: asyncio.StreamReader, on_progress: OnProgress) -> None:
    """Report the progress that the child writes; lines that are not valid are ignored."""
    rest = b""
    while block := await stream.read(READ_BYTES):
        *lines, rest = (rest + block)[-TAIL_BYTES:].split(b"\n")
        if lines:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                line = json.loads(lines[-1])
                if line["stage"] in get_args(Stage) and 0 <= line["progress"] <= 1:
                    on_progress(line["stage"], line["progress"])


async def _tail(stream: asyncio.StreamReader) -> bytes:
    tail = b""
    while block := await stream.read(READ_BYTES):
        tail = (tail + block)[-TAIL_BYTES:]
    return tail


def _answer(path: Path) -> Answer | None:
    """The answer that the child left; None if it is not valid. A hostile model may have made it write anything."""
    try:
        with opened(path) as file:
            answer = TypeAdapter(Answer).validate_json(file.read(ANSWER_BYTES))
    except (OSError, ValueError):
        return None
    is_known = answer.result in RESULTS and answer.media in MEDIA and (answer.slug is None or answer.slug in KINDS)
    return answer if is_known else None


def _death(ended: _Ended) -> Answer:
    if not ended.in_time or _signal(ended.status) == signal.SIGXCPU:
        detail = f"it was not done after {ended.seconds:g} seconds, the most that this server gives to one fold"
        return Answer(slug="timed-out", detail=detail)
    number = _signal(ended.status)
    if any(word in ended.errors for word in NO_MEMORY):
        return OUT_OF_MEMORY
    if number in FROM_OUTSIDE:
        return Answer(slug="killed", detail=KILLED)
    how = f"signal {signal.Signals(number).name}" if number else f"exit status {ended.status}"
    return Answer(slug="crashed", detail=f"the process that folded this model died ({how}); please report the model")


def _signal(status: int) -> int:
    """The signal that ended a process; 0 if none did."""
    number = -status if status < 0 else status - SHELL_OFFSET
    return number if number in set(signal.Signals) else 0
