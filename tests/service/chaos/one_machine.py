"""What happens on one machine: `bnfold serve` with SQLite and a folder."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from service.ledger.sql import FILE
from tests.service.chaos import both
from tests.service.chaos.run import SEEDS, Scenario, Setup
from tests.service.test_damage import change, cut, lose
from tests.support import ROOT
from tests.support.processes import of_folds
from tests.support.service import clock
from tests.support.service.disk import MountError, empty, fill, small_disk
from tests.support.service.server import Process
from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCKS = """
import sqlite3, sys
ledger = sqlite3.connect(sys.argv[1], timeout=600, isolation_level=None)
ledger.execute("BEGIN IMMEDIATE")
print(flush=True)
input()
"""
DISK = 64 << 20  # bytes


class OneMachine(Setup):
    """A server, its data folder, and the processes of its folds."""

    name = "one machine"

    def __init__(self, folder: Path, seed: int, settings: dict[str, object]) -> None:
        super().__init__(seed)
        self.data = folder / "data"
        self.is_damaged = False
        self.server = Process(self.data, **{"spares": "1", **settings})

    def start(self) -> None:
        self.server.start()

    def urls(self) -> list[str]:
        return [self.server.url] if self.server.process.poll() is None else []

    def check(self) -> None:
        """No folder of a fold, no part of an upload, no blob that is not what its name says, a sound ledger."""
        assert self.server.stop() == 0
        assert not list((self.data / "jobs").iterdir())
        assert not list((self.data / "blobs" / "partial").iterdir())
        for blob in () if self.is_damaged else self.blobs():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.parent.name + blob.name
        with closing(sqlite3.connect(self.data / FILE)) as ledger:
            assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def close(self) -> None:
        if self.server.process.poll() is None:
            self.server.kill()

    def restart(self) -> None:
        """Kill the server, and start it again."""
        self.server.kill()
        self.server.start()

    def blobs(self) -> list[Path]:
        """All that are stored."""
        return sorted((self.data / "blobs" / "sha256").glob("*/*"))


def kills(setup: OneMachine) -> None:
    """The server is killed at random (`kill -9`) and started again, and so is a process of its folds."""
    for _ in range(2 if SEEDS == 0 else 4):
        setup.pause()
        if folds := of_folds(setup.server.process.pid):
            os.kill(setup.random.choice(folds), signal.SIGKILL)
        setup.pause()
        setup.restart()
        setup.clients.settle()  # a job whose process is killed twice from outside is `killed`


def hang(setup: OneMachine) -> None:
    """Some folds never end: the limit of their wall clock ends them, and they fail with that."""
    both.hangs(setup)


def database(setup: OneMachine) -> None:
    """Another process locks SQLite, for up to 14 seconds; the server gives up after 10."""
    for longest in (1.0, 14.0) if SEEDS else (1.0,):
        setup.pause()
        command = [sys.executable, "-c", LOCKS, str(setup.data / FILE)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline()
            setup.pause(longest / 2, longest)
            other.communicate(b"\n")


def store(setup: OneMachine) -> None:
    """The folder of the blobs is gone for some seconds, as where a disk is not mounted."""
    kept = setup.data / "blobs" / "sha256"
    for _ in range(setup.rounds):
        setup.pause()
        kept.rename(kept.with_name("away"))
        setup.pause()
        kept.with_name("away").rename(kept)


def loses(setup: OneMachine) -> None:
    """The disk loses, cuts and changes blobs: uploads that wait, results, and reports."""
    setup.is_damaged = True  # what nobody asks for any more is not looked at
    for _ in range(setup.rounds):
        setup.pause()
        for spoil in (lose, cut, change):
            if blobs := setup.blobs():
                with suppress(FileNotFoundError):
                    spoil(setup.random.choice(blobs))


def disk(setup: OneMachine) -> None:
    """The disk of the data folder is filled to its last byte, for some seconds."""
    for _ in range(setup.rounds):
        setup.pause()
        fill(setup.data)
        setup.pause(1, 3)
        empty(setup.data)


def clocks(setup: OneMachine) -> None:
    """The clock of the system jumps by an hour, by 8 and by 8,000 days, forth and back; once the server is killed."""
    *jumps, last = both.jumps(setup, [setup.data])
    for folder, seconds in jumps:
        setup.pause()
        clock.jump(folder, seconds)
    setup.restart()
    setup.pause()
    clock.jump(*last)


def uploads(setup: OneMachine) -> None:
    """Some clients trickle their bytes, some break off, some are cut off as too slow."""
    both.slow_uploads(setup)


def twice(setup: OneMachine) -> None:
    """The server is stopped (SIGSTOP) and goes on; a second one, started on the same folder meanwhile, refuses."""
    for _ in range(setup.rounds):
        setup.pause()
        setup.server.process.send_signal(signal.SIGSTOP)
        command = [sys.executable, "-m", "folding", "serve", "--port", "0", "--data", str(setup.data)]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
        setup.server.process.send_signal(signal.SIGCONT)
        assert second.returncode == 2, second.stderr


@contextmanager
def on_a_small_disk(setup: OneMachine) -> Iterator[None]:
    try:
        with small_disk(setup.data, DISK):
            yield
    except MountError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")


SCENARIOS = (
    Scenario(kills, is_real=True),
    Scenario(hang, {"fold_seconds": both.FOLD_SECONDS}),
    Scenario(database),
    Scenario(store, {"sweep_seconds": 1}, may_ask_again=True),
    Scenario(loses, {"sweep_seconds": 1}, may_ask_again=True),
    Scenario(
        disk,
        {"sweep_seconds": 1, "cap_bytes": DISK, "low_water_bytes": both.LOW_WATER},
        may_ask_again=True,  # for a result that had to go: the disk has no room
        before=on_a_small_disk,
    ),
    Scenario(clocks, {"sweep_seconds": 0.2}),
    Scenario(uploads, {"upload_stall_seconds": both.STALL_SECONDS}),
    Scenario(twice),
)
