"""What happens in a cluster: two servers, two workers, PostgreSQL and an S3-compatible store."""

from __future__ import annotations

import hashlib
import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.service.chaos import both
from tests.service.chaos.run import SEEDS, Scenario, Setup
from tests.support.processes import descendants
from tests.support.service import clock
from tests.support.service.cluster import Cluster
from tests.support.service.disk import MountError, empty, fill, small_disk
from tests.support.service.worker import WorkerProcess
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.service.chaos.ground import Ground

SLOTS = 2  # of a worker
DISK = 64 << 20  # bytes
LONG = 4.0  # seconds of a fold, during which something happens to its worker
RUNS = """SELECT jobs.id, run FROM jobs JOIN workers ON workers.id = jobs.worker
    WHERE jobs.status = 'running' AND workers.name LIKE %s"""
DEAD = "this worker was taken for dead"  # in its log
LEFT = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"


class InCluster(Setup):
    """The servers and workers; the first worker is the one that can be cut off."""

    name = "cluster"

    def __init__(self, ground: Ground, folder: Path, seed: int, settings: dict[str, object]) -> None:
        super().__init__(seed)
        self.ground, self.is_damaged, self._noticed = ground, False, dict[WorkerProcess, int]()
        self.cluster = Cluster(folder, ground.ledgers.empty(), ground.store, **settings)
        self.folders = [folder / name / "data" for name in ("server1", "worker0")]  # of one server and one worker

    def start(self) -> None:
        for _ in range(2):
            self.cluster.server()
        apart = self.ground.apart(self.cluster.database)
        self.workers = [
            self.cluster.worker(entering=self.ground.entering, workers=SLOTS, database_url=apart),
            self.cluster.worker(workers=SLOTS),
        ]
        for worker in self.workers:
            worker.wait()

    def urls(self) -> list[str]:
        return [one.url for one in self.cluster.servers if one.process.poll() is None]

    def check(self) -> None:
        """Nothing in the queue, no worker that has ended, and no object that is not what its name says."""
        assert all(worker.process.poll() is None for worker in self.workers)
        with psycopg.connect(self.cluster.database) as connection:
            assert connection.execute(LEFT).fetchone() == (0,)
        for blob in () if self.is_damaged else self.blobs():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.parent.name + blob.name

    def close(self) -> None:
        self.ground.heal()
        self.ground.store.honest()
        self.cluster.close()

    def blobs(self) -> list[Path]:
        """All that are stored."""
        bucket = self.ground.store.folder / self.cluster.blobs.removeprefix("s3://")
        return sorted((bucket / "sha256").glob("*/*"))

    def runs(self, worker: WorkerProcess) -> dict[str, str]:
        """The jobs that run at a worker, as the ledger says, with the names of their attempts."""
        with psycopg.connect(self.cluster.database) as connection:
            return dict(connection.execute(RUNS, [f"%:{worker.process.pid}"]).fetchall())

    def busy(self, worker: WorkerProcess) -> None:
        """Wait until a worker has something to do for some seconds."""
        for number in range(2 * SLOTS):
            self.clients.send(both.lasting(LONG, f"{self.seed} {self.random.random()} {number}"))
        until(lambda: self.runs(worker))

    def given_away(self, worker: WorkerProcess, had: dict[str, str]) -> None:
        """Wait until none of these attempts of a worker counts any more."""
        until(lambda: not had.items() & self.runs(worker).items())

    def notices(self, worker: WorkerProcess) -> None:
        """Wait until a worker knows that its jobs are others', which it has had at the same time."""
        until(lambda: worker.log.read_text().count(DEAD) > self._noticed.get(worker, 0))
        self._noticed[worker] = worker.log.read_text().count(DEAD)


def kills(setup: InCluster) -> None:
    """A server, a worker and a process of a fold are killed at random (`kill -9`); server and worker start again."""
    for _ in range(4 if SEEDS else 1):
        setup.pause()
        if folds := descendants(setup.random.choice(setup.workers).process.pid):
            with suppress(ProcessLookupError):
                os.kill(setup.random.choice(folds), signal.SIGKILL)
        setup.pause()
        worker, server = setup.random.choice(setup.workers), setup.random.choice(setup.cluster.servers)
        worker.kill()
        server.kill()
        worker.start()
        server.start()
        worker.wait()
        setup.clients.settle()  # a job whose process is killed twice from outside is `killed`


def hang(setup: InCluster) -> None:
    """Some folds never end: the limit of their wall clock ends them, and they fail with that."""
    both.hangs(setup)


def database(setup: InCluster) -> None:
    """PostgreSQL is killed with all its processes, and started again after up to 3 seconds."""
    for _ in range(setup.rounds):
        setup.pause()
        setup.ground.postgres.kill()
        setup.pause(longest=3)
        setup.ground.postgres.start()


def store(setup: InCluster) -> None:
    """The store fails half of its calls, then every call takes 0.3 seconds longer, then it does not answer at all."""
    for _ in range(setup.rounds):
        for fault, value in (("failing", 0.5), ("slow", 0.3), ("silent", True)):
            setup.pause()
            setattr(setup.ground.store, fault, value)
            setup.pause(1, 3)
            setup.ground.store.honest()


def loses(setup: InCluster) -> None:
    """The store loses objects: uploads that wait, results, and reports."""
    setup.is_damaged = True
    for _ in range(3 * setup.rounds):
        setup.pause()
        if blobs := setup.blobs():
            blob = setup.random.choice(blobs)
            with suppress(FileNotFoundError):  # it is removed already
                setup.ground.store.change(setup.cluster.blobs, blob.parent.name + blob.name, lambda _: None)


def disk(setup: InCluster) -> None:
    """The disks of one server and of one worker are filled to their last byte, for some seconds."""
    for _ in range(setup.rounds):
        setup.pause()
        for folder in setup.folders:
            fill(folder)
        setup.pause(1, 3)
        for folder in setup.folders:
            empty(folder)


def clocks(setup: InCluster) -> None:
    """The clocks of one server and one worker jump by an hour, by 8 and by 8,000 days, forth and back."""
    for folder, seconds in both.jumps(setup, setup.folders):
        setup.pause()
        clock.jump(folder, seconds)


def uploads(setup: InCluster) -> None:
    """Some clients trickle their bytes, some break off, some are cut off as too slow."""
    both.slow_uploads(setup)


def twice(setup: InCluster) -> None:
    """A worker is stopped (SIGSTOP) until others have its jobs, and goes on with them then."""
    worker = setup.workers[1]
    for _ in range(setup.rounds):
        setup.busy(worker)
        worker.process.send_signal(signal.SIGSTOP)
        setup.given_away(worker, setup.runs(worker))
        setup.pause()
        worker.process.send_signal(signal.SIGCONT)
        setup.notices(worker)


def partition(setup: InCluster) -> None:
    """Nothing passes between a worker and PostgreSQL until others have its jobs; both believe to be connected."""
    worker = setup.workers[0]
    setup.busy(worker)
    setup.how = setup.ground.cut(setup.seed)
    setup.given_away(worker, setup.runs(worker))
    setup.pause(longest=20 if setup.rounds > 1 else 1)
    setup.ground.heal()
    setup.notices(worker)


@contextmanager
def on_small_disks(setup: InCluster) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            for folder in setup.folders:
                stack.enter_context(small_disk(folder, DISK))
        except MountError as error:
            pytest.skip(f"no small disk can be mounted here: {error}")
        yield


SCENARIOS = (
    Scenario(kills),
    Scenario(hang, {"fold_seconds": both.FOLD_SECONDS}),
    Scenario(database),
    Scenario(store),
    Scenario(loses, {"sweep_seconds": 1}, may_ask_again=True),
    Scenario(disk, {"low_water_bytes": both.LOW_WATER}, before=on_small_disks),
    Scenario(clocks, {"sweep_seconds": 0.2}),
    Scenario(uploads, {"upload_stall_seconds": both.STALL_SECONDS}),
    Scenario(twice),
    Scenario(partition),
)
