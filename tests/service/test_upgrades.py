"""Two versions of bnfold in one cluster: an old API with a new worker, the reverse, and a rolling upgrade.

The next version is installed by pip: it has another number, a migration, and a field more in the messages of the queue.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from service.state import ENGINE_VERSION
from tests.support import ROOT
from tests.support.service.server import ended, held, model_bytes, submit
from tests.support.service.versions import NEXT, THIS, install
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.support.service.cluster import Cluster

pytest_plugins = ["tests.support.service.cluster"]

DONE = ("done", 1)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the next version is installed."""
    assert f"bnfold {THIS}" == ENGINE_VERSION
    return install(tmp_path_factory.mktemp("next"))


def version(client: httpx.Client) -> str:
    found: str = client.get("/version").json()["bnfold"]
    return found


def folded(client: httpx.Client, job: str) -> tuple[str, int, str]:
    """How a job has ended, after how many attempts, and the version that folded it."""
    found = ended(client, job)
    report = client.get(f"/v1/jobs/{job}/report", headers={"Accept": "application/json"}).json()
    return found["status"], found["attempts"], report["version"]


@pytest.mark.parametrize(("api", "worker"), [(THIS, NEXT), (NEXT, THIS)])
def test_a_worker_of_another_version_folds_what_nobody_else_does(cluster, later, api, worker):
    of = {THIS: (), NEXT: (later,)}
    cluster.worker(*of[worker]).wait()
    client = cluster.server(*of[api])
    assert version(client) == api
    assert folded(client, submit(client, model_bytes())) == (*DONE, worker)
    other = cluster.worker(*of[api])
    other.wait()
    until(lambda: len(client.get("/status").json()["workers"]) == 2)
    jobs = [submit(client, model_bytes(seed)) for seed in range(1, 7)]
    assert [folded(client, job) for job in jobs] == [(*DONE, api)] * 6  # now there is one of its own
    assert other.stop() == 0
    assert folded(client, submit(client, model_bytes(7))) == (*DONE, worker)


def test_a_result_belongs_to_the_version_that_accepted_the_model(cluster, later):
    for paths in ((), (later,)):
        cluster.worker(*paths)
    old, new = cluster.server(), cluster.server(later)
    until(lambda: len(new.get("/status").json()["workers"]) == 2)
    model = model_bytes()
    first, second = submit(old, model), submit(new, model)
    assert first != second
    for client in (old, new):
        assert folded(client, first) == (*DONE, THIS)
        assert folded(client, second) == (*DONE, NEXT)
    assert submit(old, model) == first
    assert submit(new, model) == second
    assert folded(new, first) == (*DONE, THIS)


class Clients:
    """One thread that sends a model after the other to the servers that are there, until it is stopped."""

    def __init__(self, *servers: httpx.Client) -> None:
        self.servers, self.jobs, self.errors = list(servers), [], []
        self._over, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def replace(self, *servers: httpx.Client) -> None:
        """Send to these from now on, as a load balancer does before it lets a server end."""
        with self._lock:
            self.servers[:] = servers

    def more(self, count: int = 4) -> None:
        """Wait until so many more were accepted."""
        least = len(self.jobs) + count
        until(lambda: len(self.jobs) >= least or self.errors)

    def stop(self) -> list[str]:
        self._over.set()
        self._thread.join(PATIENCE)
        assert not self.errors
        return self.jobs

    def _send(self) -> None:
        try:
            while not self._over.wait(0.1):
                with self._lock:
                    server = self.servers[len(self.jobs) % len(self.servers)]
                    self.jobs.append(submit(server, model_bytes(len(self.jobs))))
        except BaseException as error:  # noqa: BLE001  the test raises it
            self.errors.append(error)


def test_a_rolling_upgrade_loses_nothing(cluster: Cluster, later: Path, tmp_path: Path) -> None:
    """API and workers are replaced one after the other while models come; one that runs is finished where it runs."""
    cluster.settings["shutdown_seconds"] = PATIENCE
    servers = [cluster.server(), cluster.server()]
    for _ in range(2):
        cluster.worker()
    gate = tmp_path / "gate"
    long = submit(servers[0], held(gate))
    clients = Clients(*servers)
    clients.more()
    until(lambda: servers[0].get(f"/v1/jobs/{long}").json()["status"] == "running")
    new = [cluster.server(later)]  # which migrates the tables
    clients.replace(*new)
    cluster.servers[1].kill()  # and old ones, which know nothing of it, start again
    again = cluster.servers[1].start()
    cluster.workers[1].kill()
    cluster.workers[1].start()
    clients.replace(again, *new)
    assert cluster.servers[0].stop() == 0
    clients.more()
    new.append(cluster.server(later))
    clients.replace(*new)
    assert cluster.servers[1].stop() == 0
    cluster.worker(later).wait()
    clients.more()
    for worker in cluster.workers[:2]:
        worker.process.terminate()
    gate.touch()  # whoever has it finishes it
    assert [worker.process.wait(PATIENCE) for worker in cluster.workers[:2]] == [0, 0]
    clients.more()
    jobs = clients.stop()
    found = [folded(new[0], job) for job in jobs]
    assert {one[0] for one in found} == {"done"}
    assert all(attempts <= 2 for _, attempts, _ in found)  # one, but for what the worker that was killed had
    assert {one[2] for one in found[-4:]} == {NEXT}
    assert THIS in {one[2] for one in found}
    assert len(set(jobs)) == len(jobs)
    assert folded(new[1], long)[::2] == ("done", THIS)


def command(cluster: Cluster, *argv: str, later: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of an operator, with this version or the next."""
    paths = os.pathsep.join(str(path) for path in (later, ROOT) if path is not None)
    variables = {"PYTHONPATH": paths, "BNFOLD_ENGINE": "cluster", "BNFOLD_DATABASE_URL": cluster.database}
    variables["BNFOLD_BLOBS_URL"] = cluster.blobs
    given = [sys.executable, "-m", "folding", *argv, "--data", str(cluster.folder / "operator")]
    return subprocess.run(
        given, check=False, capture_output=True, text=True, cwd=cluster.folder, env=os.environ | variables
    )


def test_a_version_with_tables_of_its_own_is_refused_until_they_go_back(cluster, tmp_path):
    """And what it was asked for before, and after, is still there."""
    other = install(tmp_path, breaks=True)
    cluster.worker()
    client = cluster.server()
    job = submit(client, model_bytes())
    assert folded(client, job) == (*DONE, THIS)
    for one in (*cluster.servers, *cluster.workers):
        assert one.stop() == 0
    client = cluster.server(other)
    cluster.worker(other)
    later_job = submit(client, model_bytes())
    assert folded(client, later_job) == (*DONE, NEXT)
    refused = command(cluster, "admin", "queue")
    assert refused.returncode == 2
    assert "was written by a newer bnfold; upgrade bnfold, or let that one go back" in refused.stderr
    for one in (cluster.servers[1], cluster.workers[1]):
        assert one.stop() == 0
    back = command(cluster, "downgrade", later=other)
    assert back.returncode == 0, back.stderr
    client = cluster.server()
    assert (version(client), folded(client, job), folded(client, later_job)) == (THIS, (*DONE, THIS), (*DONE, NEXT))
    cluster.worker()
    assert folded(client, submit(client, model_bytes(1))) == (*DONE, THIS)
