"""What one fold costs: processor seconds, memory, bytes. `python -m benchmarks.capacity.costs [SIZE ...]`.

It starts a server of its own on loopback, in a temporary folder, with one worker and without a sandbox: of what runs in
bubblewrap, nobody is told the processor time. Folds run one after another. Processor seconds do not depend on what else
the machine does; seconds of the wall clock do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
import numpy as np

from benchmarks.service import chain, processor_seconds
from service.process.watch import used

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

MIB = 1 << 20
SETTLE = 4.0  # seconds in which a spare process loads what it needs
LOOK_EVERY = 0.05  # seconds between two looks at the memory of a fold
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
    memory: float  # bytes that are theirs alone, at most, beside those of a process that waits
    written: float  # bytes that the server and the fold wrote, counted at the system call
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
    """The costs of all but the first, which finds nothing loaded."""
    patient = dict.fromkeys(("sync_seconds", "fold_seconds", "upload_stall_seconds", "client_seconds"), TIMEOUT)
    with serving(workers=1, sandbox="off", spares=1, **patient) as (client, pid, _):
        options = {"verify": verify, "verify_timeout": 300}
        costs = [one(client, pid, data, options) for data in models]
    return costs[1:]


def one(client: httpx.Client, pid: int, data: bytes, options: dict[str, object]) -> Cost:
    settle(client)
    before, wrote = processor_seconds(pid), written(pid)
    seconds = fold_seconds(client)
    most, done = 0, threading.Event()

    def look() -> None:
        nonlocal most
        idle = used(pid).memory
        while not done.wait(LOOK_EVERY):
            most = max(most, used(pid).memory - idle)

    looking = threading.Thread(target=look)
    looking.start()
    answer = client.post("/v1/fold", content=data, params=options)
    done.set()
    looking.join()
    if answer.status_code != 200:
        raise RuntimeError(answer.text)
    settle(client)
    after = processor_seconds(pid)
    took = fold_seconds(client) - seconds
    return Cost(after[0] - before[0], after[1] - before[1], most, written(pid) - wrote, len(answer.content), took)


def settle(client: httpx.Client) -> None:
    """Wait until no process works, and the spare one has loaded what it needs."""
    while 'bnfold_children{state="working"} 0.0' not in client.get("/metrics").text:
        time.sleep(LOOK_EVERY)
    time.sleep(SETTLE)


def fold_seconds(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("bnfold_fold_seconds_sum"))


def written(pid: int) -> int:
    """The bytes that a process and its ended children gave to `write` and the like."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["wchar"])


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
