"""A pool of processes for the models of a fleet; a process that dies costs the one model that it worked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    Json = dict[str, Any]

GRACE = 10.0  # seconds for a process to clean up before it is killed
DIED = 2  # the exit code of a model whose process died: bad input, as far as anybody can say


class Pool:
    """`jobs` processes at most; a context manager that ends them, those that still work with SIGTERM.

    Each is served by a thread that lives as long as it does: the kernel kills a process when that thread ends.
    """

    def __init__(self, tasks: Sequence[Json], jobs: int) -> None:
        self._tasks: SimpleQueue[tuple[int, Json]] = SimpleQueue()
        self._answers: SimpleQueue[tuple[int, Json]] = SimpleQueue()
        self._workers: dict[int, _Worker] = {}  # by slot
        self._lock, self._is_ending, self._left = Lock(), False, len(tasks)
        for task in enumerate(tasks):
            self._tasks.put(task)
        self._threads = [Thread(target=self._serve, args=(slot,)) for slot in range(min(jobs, len(tasks)))]

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # an interruption, too: threads that run would do all of the tasks
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._is_ending = True
            for worker in self._workers.values():
                worker.interrupt()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def answers(self) -> Iterator[tuple[int, Json]]:
        """The answer to each task, with its number, as they end."""
        for _ in range(self._left):
            yield self._answers.get()

    def _serve(self, slot: int) -> None:
        while (found := self._next(slot)) is not None:
            number, task, worker = found
            answer = worker.ask(task)
            if answer is None:
                answer = {"code": DIED, "error": f"{task['source']}: {worker.end()}"}
                self._drop(slot)
            self._answers.put((number, answer))
        self._drop(slot)

    def _next(self, slot: int) -> tuple[int, Json, _Worker] | None:
        """The next task and a process for it; None when there is nothing left to do."""
        with self._lock, suppress(Empty):
            if not self._is_ending:
                number, task = self._tasks.get_nowait()
                if slot not in self._workers:
                    self._workers[slot] = _Worker()
                return number, task, self._workers[slot]
        return None

    def _drop(self, slot: int) -> None:
        with self._lock:
            worker = self._workers.pop(slot, None)
        if worker is not None:
            worker.end()


class _Worker:
    """One process; Ctrl-C does not reach it, since it has a session of its own."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
            "OPENBLAS_NUM_THREADS": "1",  # NumPy's BLAS is never called
        }
        self._process = subprocess.Popen(
            # -P: modules of the current folder cannot be imported
            [sys.executable, "-P", "-m", "folding.command.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            text=True,
            encoding="utf-8",
        )

    def ask(self, task: Json) -> Json | None:
        """The answer to a task; None if the process died of it."""
        assert self._process.stdin is not None  # noqa: S101  the pipes were requested
        assert self._process.stdout is not None  # noqa: S101
        with suppress(BrokenPipeError, ValueError):  # it has died; a line that is cut short is no answer
            self._process.stdin.write(json.dumps(task) + "\n")
            self._process.stdin.flush()
            answer: Json = json.loads(self._process.stdout.readline())
            return answer
        return None

    def interrupt(self) -> None:
        """Ask it to clean up and end."""
        self._process.terminate()

    def end(self) -> str:
        """Wait for its end, not too long; what it died of, as the end of a sentence."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return f"the process that worked at it died ({_reason(status)}); the others are not concerned"


def _reason(status: int) -> str:
    if status >= 0:
        return f"exit code {status}"
    with suppress(ValueError):
        name = signal.Signals(-status).name
        return f"{name}; is there enough memory?" if name == "SIGKILL" else name
    return f"signal {-status}"
