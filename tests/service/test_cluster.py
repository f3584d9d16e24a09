"""A cluster: servers and workers on one PostgreSQL and one S3, as processes that are drained, killed and cut off."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.service.server import Process, ended, held, model_bytes, slow, submit
from tests.support.service.worker import WorkerProcess
from tests.support.waiting import FOREVER, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.support.service.store import Store

pytest_plugins = ["tests.support.service.cluster"]


class Cluster:
    """Servers and workers with one ledger and one store."""

    def __init__(self, folder: Path, database: str, store: Store, **settings: Any) -> None:
        self.folder, self.store, self.database = folder, store, database
        self.blobs = store.url()
        self.settings = {"engine": "cluster", "database_url": database, "blobs_url": self.blobs, "secrets": folder}
        self.settings |= settings
        self.servers: list[Process] = []
        self.workers: list[WorkerProcess] = []

    def server(self, **settings: Any) -> httpx.Client:
        place = self.folder / f"server{len(self.servers)}"
        place.mkdir()
        server = Process(place / "data", **{**self.settings, **settings})
        self.servers.append(server)
        return server.start()

    def worker(self, **settings: Any) -> WorkerProcess:
        place = self.folder / f"worker{len(self.workers)}" / "data"
        made = WorkerProcess(place, **{**self.settings, "workers": 1, **settings})
        self.workers.append(made)
        made.start()
        return made

    def close(self) -> None:
        for one in (*self.servers, *self.workers):
            if one.process.poll() is None:
                one.kill()


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        stack.callback(store.honest)
        made = Cluster(tmp_path, database_url, store)
        stack.callback(made.close)
        yield made


def state(client: httpx.Client, job: str) -> tuple[str, int]:
    told = client.get(f"/v1/jobs/{job}").raise_for_status().json()
    return told["status"], told["attempts"]


def test_a_model_is_folded_by_a_worker_elsewhere(cluster):
    """Synchronous requests, jobs, their progress, results through another server, cancellation, and a drain."""
    first, second = cluster.server(), cluster.server()
    workers = [cluster.worker(shutdown_seconds=0), cluster.worker(shutdown_seconds=0)]
    model = model_bytes()
    folded = first.post("/v1/fold", content=model)
    assert folded.status_code == 200, folded.text
    assert second.post("/v1/fold", content=model).content == folded.content  # folded once
    job = folded.headers["Bnfold-Job"]
    told = second.get(f"/v1/jobs/{job}").json()
    assert (told["attempts"], told["result"]["sha256"]) == (1, hashlib.sha256(folded.content).hexdigest())
    part = second.get(f"/v1/jobs/{job}/result", headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, folded.content[3:10])
    assert second.post("/v1/inspect", content=model).json()["bn_before"] == 1  # by the server itself
    running = submit(first, slow(FOREVER))
    until(lambda: state(second, running) == ("running", 1))
    assert second.delete(f"/v1/jobs/{running}").status_code == 204
    assert ended(first, running)["status"] == "cancelled"
    after = [submit(first, slow(0.01, seed)) for seed in range(1, 4)]  # the slot is free again
    assert [ended(second, job)["status"] for job in after] == ["done"] * 3
    stuck = submit(first, slow(FOREVER, seed=9))
    until(lambda: state(second, stuck) == ("running", 1))
    assert workers[0].stop() == 0
    until(lambda: state(second, stuck)[0] == "running")
    assert workers[1].stop() == 0
    assert state(second, stuck) == ("queued", 0)  # given back: the attempt does not count
    ready = first.get("/readyz")
    assert ready.status_code == 200, ready.text


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_jobs_of_a_worker_that_dies_go_to_another_one(cluster, how):
    """One that only slept finds that its job is given away, and changes nothing."""
    client, gate = cluster.server(), cluster.folder / "gate"
    first = cluster.worker()
    job = submit(client, held(gate))
    until(lambda: state(client, job) == ("running", 1))
    if how == "killed":
        first.kill()
    else:
        first.process.send_signal(19)  # SIGSTOP
    second = cluster.worker()
    until(lambda: state(client, job) == ("running", 2))
    if how == "stopped":
        first.process.send_signal(18)  # SIGCONT
        until(lambda: "was taken for dead" in first.log.read_text())
    gate.touch()
    told = ended(client, job)
    assert (told["status"], told["attempts"]) == ("done", 2)
    assert client.get(told["links"]["result"]).status_code == 200
    assert second.process.poll() is None
