"""Chaos in a cluster: whatever dies, fails, sleeps or is cut off, every job that was accepted ends as it should.

CHAOS_SEEDS says how many times, with other moments each time; `make chaos` does it at length.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.processes import descendants
from tests.support.service.network import Network
from tests.support.service.worker import INSTANT
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.service.cluster import Cluster
    from tests.support.service.postgres import Postgres

pytest_plugins = ["tests.support.service.cluster"]

SEEDS = int(os.environ.get("CHAOS_SEEDS", "1"))
JOBS = 16  # in a run
ASLEEP = 8.0  # seconds: others have its jobs meanwhile
QUIET = 0.05  # between two uploads


class Chaos:
    """Two servers, two workers, clients that do not give up, and what comes over them."""

    def __init__(self, cluster: Cluster, postgres: Postgres, network: Network, seed: int) -> None:
        self.cluster, self.postgres, self.network, self.random = cluster, postgres, network, random.Random(seed)
        self.seed, self.accepted, self.unavailable = seed, dict[str, bytes](), 0
        for _ in range(2):
            cluster.server()
        near = cluster.database.replace(f":{postgres.port}/", f":{network.port}/")
        self.workers = [cluster.worker(workers=2, database_url=near), cluster.worker(workers=2)]

    def any_server(self) -> httpx.Client:
        """One that runs: only the other one is killed."""
        return self.random.choice([one for one in self.cluster.servers if one.process.poll() is None])._client

    def submit(self) -> None:
        """Send models, each until it is accepted: what is refused for now is sent again."""
        for number in range(JOBS):
            model = f"SLOW{self.random.uniform(0, 1):.2f}\n{self.seed} {number}".encode()
            while True:
                try:
                    answer = self.any_server().post("/v1/fold", content=model, headers={"Prefer": "respond-async"})
                except (httpx.TransportError, RuntimeError):  # it is killed, and its client closed
                    time.sleep(QUIET)
                    continue
                if answer.status_code == 202:
                    break
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) > 0
                self.unavailable += 1
                time.sleep(4 * QUIET)
            self.accepted[answer.json()["id"]] = model
            time.sleep(QUIET)

    def end(self, job: str) -> dict[str, Any]:
        """The job when it has ended."""
        told: dict[str, Any] = {}

        def has_ended() -> bool:
            answer = self.any_server().get(f"/v1/jobs/{job}", params={"wait": 5, "until": "done"})
            if answer.status_code == 503:
                return False
            told.update(answer.raise_for_status().json())
            return told["status"] not in {"queued", "running"}

        until(has_ended)
        return told

    def pause(self, longest: float = 1.5) -> None:
        time.sleep(self.random.uniform(0.2, longest))


def kills(chaos: Chaos) -> None:
    """Servers, workers, and one process of a fold, at random."""
    chaos.pause()
    if folds := descendants(chaos.workers[1].process.pid):
        os.kill(chaos.random.choice(folds), signal.SIGKILL)
    for _ in range(1 if SEEDS == 1 else 2):
        chaos.pause()
        worker = chaos.random.choice(chaos.workers)
        worker.kill()
        server = chaos.cluster.servers[1]
        server.kill()
        worker.start()
        server.start()


def database(chaos: Chaos) -> None:
    """PostgreSQL is killed, and comes again."""
    chaos.pause()
    chaos.postgres.kill()
    chaos.pause()
    chaos.postgres.start()


def store(chaos: Chaos) -> None:
    """The store fails half of its calls, is slow, and loses what nobody asks for any more."""
    chaos.cluster.store.failing = 0.5
    chaos.pause(3)
    chaos.cluster.store.honest()
    chaos.cluster.store.slow = 0.3
    chaos.pause(3)
    chaos.cluster.store.honest()


def sleeper(chaos: Chaos) -> None:
    """A worker sleeps until others have its jobs, and goes on with them then: two have the same."""
    chaos.pause()
    worker = chaos.workers[0]
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep(ASLEEP)
    worker.process.send_signal(signal.SIGCONT)


def partition(chaos: Chaos) -> None:
    """Nothing passes between a worker and the database, and both believe to be connected."""
    chaos.pause()
    chaos.network.cut()
    time.sleep(ASLEEP)
    chaos.network.heal()


FAULTS: tuple[Callable[[Chaos], None], ...] = (kills, database, store, sleeper, partition)
RUNS = [(fault,) for fault in FAULTS] if SEEDS > 1 else [FAULTS]  # each for itself, or one after the other


@pytest.fixture
def network(postgres: Postgres) -> Iterator[Network]:
    with Network(postgres.port) as made:
        yield made


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("faults", RUNS, ids=lambda faults: "-".join(fault.__name__ for fault in faults))
def test_nothing_accepted_is_lost_in_a_cluster(cluster, postgres, network, monkeypatch, faults, seed):
    monkeypatch.setenv(INSTANT.module, "1")
    chaos = Chaos(cluster, postgres, network, seed)
    clients = threading.Thread(target=chaos.submit)
    clients.start()
    for fault in faults:
        fault(chaos)
    healed = time.monotonic()
    clients.join(PATIENCE)
    endings, served, different, lost = Counter[str](), dict[str, str](), 0, 0
    for job, model in chaos.accepted.items():
        told = chaos.end(job)
        endings[told["status"] if told["status"] == "done" else told["problem"]["type"].rpartition("/")[2]] += 1
        if told["status"] != "done":
            continue
        for client in (server._client for server in cluster.servers):
            answer = client.get(f"/v1/jobs/{job}/result")
            lost += answer.status_code != 200 or answer.content != model
            digest = hashlib.sha256(answer.content).hexdigest()
            different += served.setdefault(job, digest) != digest
    seconds = time.monotonic() - healed
    names = "+".join(fault.__name__ for fault in faults)
    print(  # noqa: T201  `make chaos` shows it
        f"{names} seed {seed}: {len(chaos.accepted)} accepted, {endings['done']} done, {dict(endings)}, {lost} lost, "
        f"{different} served twice with different bytes, {chaos.unavailable} times 503, all ended {seconds:.1f} s after"
    )
    assert len(chaos.accepted) == JOBS
    assert endings == {"done": JOBS}
    assert (lost, different) == (0, 0)


def test_what_the_store_lost_is_folded_again_or_asked_for_again(cluster, monkeypatch):
    """As on one machine: a result is folded again, a model is to be sent again."""
    monkeypatch.setenv(INSTANT.module, "1")
    client = cluster.server()
    worker = cluster.worker()
    model = b"SLOW0\na model"
    sha256 = hashlib.sha256(model).hexdigest()  # of the model, which is its own result
    folded = client.post("/v1/fold", content=model)
    assert folded.content == model
    job = folded.headers["Bnfold-Job"]
    report = client.get(f"/v1/jobs/{job}/report").content
    cluster.store.change(cluster.blobs, hashlib.sha256(report).hexdigest(), lambda _: None)
    assert client.get(f"/v1/jobs/{job}/report").json()["bn_before"] == 1
    assert client.get(f"/v1/jobs/{job}").json()["attempts"] == 2
    worker.kill()
    other = b"SLOW0\nanother model"
    waits = client.post("/v1/fold", content=other, headers={"Prefer": "respond-async"}).json()["id"]
    cluster.store.change(cluster.blobs, hashlib.sha256(other).hexdigest(), lambda _: None)
    cluster.worker()
    until(lambda: client.get(f"/v1/jobs/{waits}").json()["status"] == "failed")
    told = client.get(f"/v1/jobs/{waits}").json()
    assert told["problem"]["type"].endswith("/internal")
    assert "send it again" in told["problem"]["detail"]
    assert client.post("/v1/fold", content=other).content == other
    assert sha256 != hashlib.sha256(other).hexdigest()
