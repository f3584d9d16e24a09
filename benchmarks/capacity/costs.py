"""What one fold costs: processor seconds, memory, bytes. `python -m benchmarks.capacity.costs [SIZE ...]`.

It starts a server of its own on loopback, in a temporary folder, with one worker and without a sandbox. Folds run one
after another. A control group counts the processor time of all that the server starts, so this needs root on Linux.
Processor seconds depend little on what else the machine does; seconds of the wall clock do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import httpx
import numpy as np

from benchmarks.load.server import running
from benchmarks.service import chain
from service.process.watch import descendants
from tests.support.service.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from benchmarks.load.server import Server

MIB = 1 << 20
SETTLE = 2.0  # seconds in which a spare process begins, and what ended is accounted for
LOOK_EVERY = 0.02  # seconds between two looks at the processes of a fold
TIMEOUT = 900.0
# By name: channels, layers, folds. A layer has a 3 x 3 convolution of all channels and its normalization.
SIZES = {
    "3 kB": (8, 1, 12),
    "1 MB": (96, 3, 12),
    "10 MB": (224, 6, 12),
    "100 MB": (512, 11, 6),
    "1 GB": (1024, 26, 3),
}
HEAD = ("model", "bytes", "folds", "processor: server", "processor: fold", "memory", "written", "sent", "wall clock")


class Cost(NamedTuple):
    """What one fold took."""

    server: float  # processor seconds of the server
    fold: float  # of the processes of the fold
    memory: float  # bytes at most, of all processes, beside those that they have at rest; shared ones count once
    written: float  # bytes that the server and the fold wrote, counted at the system call until the last look
    sent: float  # bytes of the result
    seconds: float  # wall clock, from the start of the fold to its end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=list(SIZES), metavar="SIZE", help="the names of sizes")
    parser.add_argument("--no-verify", action="store_true", help="fold without verification")
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |")
    print(f"|{' --- |' * len(HEAD)}")
    for name in arguments.sizes:
        channels, layers, count = SIZES[name]
        models = (chain(channels, layers, number) for number in range(count + 1))  # one at a time in memory
        costs = measured(models, verify=not arguments.no_verify)
        print(row(name, len(chain(channels, layers, 0)), costs), flush=True)


def measured(models: Iterable[bytes], *, verify: bool) -> list[Cost]:
    """The costs of all but the first, which finds nothing loaded.

    Raises:
        RuntimeError: this user may make no control group, or a fold was refused.
    """
    waits = ("sync_seconds", "fold_seconds", "upload_stall_seconds", "client_seconds")
    given = dict.fromkeys(waits, str(TIMEOUT)) | {"workers": "1", "spares": "1", "sandbox": "off"}
    options = {"verify": verify, "verify_timeout": 300}
    with (
        running(free_port(), **given) as server,
        httpx.Client(base_url=server.url, timeout=TIMEOUT) as client,
    ):
        if server.group is None:
            raise RuntimeError("no control group can be made here, so the time of a fold cannot be counted")
        return [one(client, server, data, options) for data in models][1:]


class Looking:
    """What the processes of a server hold at most, and what they wrote, looked at again and again."""

    def __init__(self, server: Server) -> None:
        self.memory, self._server = 0, server
        self._wrote: dict[int, int] = {}
        self._idle = self._held()
        self._before = sum(self._wrote.values())
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def written(self) -> int:
        """The bytes written since the first look."""
        return sum(self._wrote.values()) - self._before

    def _look(self) -> None:
        while not self._done.wait(LOOK_EVERY):
            self.memory = max(self.memory, self._held() - self._idle)

    def _held(self) -> int:
        for pid in (self._server.pid, *descendants(self._server.pid)):
            with suppress(OSError):
                fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
                self._wrote[pid] = int(fields["wchar"])
        return self._server.memory() + self._server.children_memory()


def one(client: httpx.Client, server: Server, data: bytes, options: dict[str, object]) -> Cost:
    settle(client)
    own, before, seconds = server.own_seconds(), server.seconds(), fold_seconds(client)
    with Looking(server) as looking:
        answer = client.post(
            "/v1/fold", content=blocks(data), params=options, headers={"Content-Length": str(len(data))}
        )
    if answer.status_code != 200:
        raise RuntimeError(answer.text)
    settle(client)
    mine, total = server.own_seconds() - own, server.seconds() - before
    took = fold_seconds(client) - seconds
    return Cost(mine, total - mine, looking.memory, looking.written, len(answer.content), took)


def blocks(data: bytes) -> Generator[memoryview[int]]:
    """The data in pieces: httpx copies all that is left of a body whenever the socket has taken some of it."""
    for start in range(0, len(data), MIB):
        yield memoryview(data)[start : start + MIB]


def settle(client: httpx.Client) -> None:
    """Wait until no process works, and the spare one is there."""
    while 'bnfold_children{state="working"} 0.0' not in client.get("/metrics").text:
        time.sleep(LOOK_EVERY)
    time.sleep(SETTLE)


def fold_seconds(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("bnfold_fold_seconds_sum"))


def row(name: str, size: int, costs: list[Cost]) -> str:
    server, fold, memory, wrote, sent, _ = np.mean(costs, axis=0)
    wall = np.array([cost.seconds for cost in costs])
    spread = float(np.var(wall) / np.mean(wall) ** 2)
    took = (f"{server:.2f} s", f"{fold:.2f} s", f"{memory / MIB:.0f} MiB")
    moved = (f"{wrote / 1e6:.3g} MB", f"{sent / 1e6:.3g} MB")
    parts = (name, f"{size:,}", str(len(costs)), *took, *moved, f"{np.mean(wall):.2f} s, variation {spread:.2f}")
    return f"| {' | '.join(parts)} |"


@contextmanager
def serving(module: str = "folding", **settings: object) -> Generator[tuple[httpx.Client, int, Path]]:
    """A server on loopback: a client of it, its process, and its log."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {f"BNFOLD_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", module, *(["serve"] if module == "folding" else [])]
        log = Path(folder) / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [*command, "--port", "0", "--data", f"{folder}/data"],
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as server,
        ):
            try:
                assert server.stdout is not None  # noqa: S101  it was asked for
                url = next(word for word in server.stdout.readline().split() if word.startswith("http"))
                with httpx.Client(base_url=url, timeout=TIMEOUT) as client:
                    yield client, server.pid, log
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
