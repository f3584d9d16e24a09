"""A child: the bounded process of one fold, and the meaning of its exit. It cannot harm the server or other folds.

It is forked from a process that has loaded everything (`forkserver`), and waits in its sandbox until there is work.

Each death is one problem: the wall clock is `timed-out`, memory is `out-of-memory`, a signal that only others send is
`killed`, everything else is `crashed`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self, get_args

from pydantic import TypeAdapter

from service.ledger.records import Stage
from service.left import opened, remove
from service.problems import KINDS
from service.process.namespaces import Namespaces
from service.process.watch import descendants, kill, used
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
    from pathlib import Path

    from service.process.forkserver import Forked, ForkServer
    from service.process.sandbox import Sandbox
    from service.work import Bounds, Request

OnProgress = Callable[[Stage, float], None]

GO = b"\n"  # starts the work; end of file instead means that the process is not needed
TAIL_BYTES = 4096  # kept from the end of a child's error output
READ_BYTES = 65536
ANSWER_BYTES = 1 << 20
LISTEN_SECONDS = 5  # to read the remaining output of a dead child
RESULTS = {None, RESULT, ARCHIVE}  # what an answer can name; the media type goes into a header
MEDIA = {"", MODEL_TYPE, ARCHIVE_TYPE}
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

    def __init__(self, folder: Path, process: Forked, namespaces: Namespaces | None) -> None:
        self.folder, self._process, self._namespaces, self._is_killed = folder, process, namespaces, False
        self._excess: Answer | None = None  # what is answered where the whole fold used too much

    @classmethod
    async def start(cls, folder: Path, bounds: Bounds, sandbox: Sandbox | None, forks: ForkServer) -> Self:
        """Start a child in a new folder; `bounds` are the widest that any request may have."""
        for name in (IN, OUT, TEMPORARY, UNPACKED):
            (folder / name).mkdir(parents=True, mode=0o700)
        (folder / BOUNDS).write_text(json.dumps(asdict(bounds)))
        place, variables, namespaces = folder, {}, None
        if sandbox is not None:
            sandbox.prepare(folder)
            place = sandbox.place(folder)
            variables = {"PYTHONPATH": str(place / LIBRARY)}
            if command := sandbox.command(folder):
                namespaces = await Namespaces.make(command)
        temporary = str(place / TEMPORARY)
        variables |= {"HOME": temporary, "TMPDIR": temporary}
        kind = "none" if sandbox is None else sandbox.kind
        try:
            process = await forks.fork(place, kind, variables, None if namespaces is None else namespaces.file)
        except BaseException:
            if namespaces is not None:
                await asyncio.shield(namespaces.close())
            raise
        return cls(folder, process, namespaces)

    @property
    def shares_inputs(self) -> bool:
        """Whether a link is as good as a copy in `in/`, because the process sees it on a read-only mount only."""
        return self._namespaces is not None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, and can take a request."""
        return not self._process.has_ended

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
        clock, in_time = _Clock(bounds, on_progress), True
        watching = asyncio.create_task(self._watch(bounds))
        listening = asyncio.create_task(_listen(process.stdout, clock)), asyncio.create_task(_tail(process.stderr))
        try:
            process.go(GO)
            async with clock.timeout:
                await process.wait()
        except TimeoutError:
            in_time = False
        finally:
            watching.cancel()
            status = await asyncio.shield(self.kill())
        _, unread = await asyncio.wait(listening, timeout=LISTEN_SECONDS)
        for task in unread:
            task.cancel()
        process.close()
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
            for end in (os.kill, os.killpg):  # first that it starts nothing more; it may not lead its group yet
                with suppress(ProcessLookupError):
                    end(self._process.pid, signal.SIGKILL)
            kill(left)
            if self._namespaces is not None:
                await self._namespaces.close()
        return await self._process.wait()

    async def close(self) -> None:
        """Kill the process, close its pipes, and remove its folder."""
        await self.kill()
        self._process.close()
        await in_thread(remove, self.folder)


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
    return -status if -status in set(signal.Signals) else 0
