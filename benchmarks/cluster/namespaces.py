"""Workers in network namespaces of their own: what a second one adds, and what is lost with one."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import httpx

from benchmarks.cluster.cluster import Cluster, spent, wait_for
from benchmarks.service import chain
from tests.support.service.server import INSTANT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.cluster.cluster import Running

CLONE_NEWNET = 0x40000000
HOST, WORKERS = "10.77.0.1", 2
REAL = ("folding", "worker")
WARM = 2  # folds of each worker that do not count: the first one loads
WAIT = 0.5  # seconds of a fold that waits
STALLED = 120.0  # seconds in which a worker that is back must fold again


class Network:
    """A namespace with a bridge, which this process is in meanwhile, and one for each worker with a cable to it.

    Nothing leads from any of them to the machine's own network.
    """

    host = HOST

    def __init__(self, workers: int) -> None:
        self._hub = f"bnfold-{os.getpid()}"
        self._names = [f"{self._hub}-{number}" for number in range(workers)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for name in (self._hub, *self._names):
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "del", name)
                _ip("-n", name, "link", "set", "lo", "up")
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            stack.callback(_enter, home)
            _enter(os.open(f"/var/run/netns/{self._hub}", os.O_RDONLY))
            _ip("link", "add", "bridge", "type", "bridge")
            _ip("address", "add", f"{HOST}/24", "dev", "bridge")
            _ip("link", "set", "bridge", "up")
            for number, name in enumerate(self._names):
                _ip("link", "add", f"cable{number}", "type", "veth", "peer", "name", "cable", "netns", name)
                _ip("link", "set", f"cable{number}", "master", "bridge", "up")
                _ip("-n", name, "address", "add", f"10.77.0.{number + 2}/24", "dev", "cable")
                _ip("-n", name, "link", "set", "cable", "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def inside(self, number: int) -> list[str]:
        """The beginning of a command that is to run in the namespace of a worker."""
        return ["nsenter", f"--net=/var/run/netns/{self._names[number]}"]

    def cut(self, number: int) -> None:
        """Set the link to a worker down."""
        _ip("link", "set", f"cable{number}", "down")

    def heal(self, number: int) -> None:
        """Set the link to a worker up again."""
        _ip("link", "set", f"cable{number}", "up")


class Measurement:
    """A cluster in such a network, with one server, and workers for each run anew."""

    def __init__(self, cluster: Cluster, network: Network, client: httpx.Client) -> None:
        self._cluster, self._network, self._client = cluster, network, client
        self._number = 0

    def rate(self, kind: str, workers: int, jobs: int) -> dict[str, Any]:
        """Folds a second of some workers: the sum of what each does from its first folds to its last one."""
        accepted = self._submitted(kind, jobs)
        running = self._workers(kind, workers)
        before = self._counted(lambda: all(len(one.ended()) >= WARM for one in running))
        after = self._counted(lambda: not self._cluster.open_jobs())
        ends = [[end.moment for end in one.ended()] for one in running]
        self._stop(running)
        rate = sum((len(one) - WARM) / (one[-1] - one[WARM - 1]) for one in ends)
        used = sum(spent(before[1], after[1]).values()) / (after[0] - before[0])
        outcome = self._outcome(accepted)
        return {"kind": kind, "workers": workers, "rate": rate, "cores": used, **outcome}

    def loss(self, kind: str, how: str, jobs: int) -> dict[str, Any]:
        """Two workers, one of which is lost when a third is done: what becomes of the jobs."""
        accepted = self._submitted(kind, jobs)
        running, began = self._workers(kind, WORKERS), time.time()
        wait_for("a third is done", lambda: sum(len(one.ended()) for one in running) >= jobs // 3)
        wait_for("it folds", lambda: self._runs_of(running[0]))
        if how == "killed":
            running[0].kill()
        else:
            self._network.cut(0)
        lost_at, victims = time.time(), self._runs_of(running[0])
        wait_for("all have ended", lambda: not self._cluster.open_jobs())
        ends = {end.job: end.moment for end in running[1].ended()}
        row = {"kind": kind, "how": how, "seconds": max(ends.values()) - began, "with it": len(victims)}
        row |= {"elsewhere": max((ends[job] - lost_at for job in victims if job in ends), default=None)}
        if how != "killed":
            row["back"] = self._back(kind, running[0])
        self._stop(running)
        return row | self._outcome(accepted)

    def _submitted(self, kind: str, jobs: int) -> list[str]:
        found = []
        for _ in range(jobs):
            self._number += 1
            data = chain(8, 1, self._number)
            if kind == "waiting":
                data = f"SLOW{WAIT}\n".encode() + data
            answer = self._client.post("/v1/fold", content=data, headers={"Prefer": "respond-async"})
            found.append(answer.raise_for_status().json()["id"])
        return found

    def _workers(self, kind: str, count: int) -> list[Running]:
        command, variable = REAL, []
        if kind == "waiting":
            command, variable = ("tests.support.service.worker",), ["env", f"{INSTANT.module}=1"]
        places = [[*self._network.inside(number), *variable] for number in range(count)]
        return [self._cluster.worker(command, place) for place in places]

    def _stop(self, running: list[Running]) -> None:
        for one in running:
            if one.process.poll() is None:
                one.process.send_signal(signal.SIGTERM)
        for one in running:
            one.stop()

    def _counted(self, holds: Callable[[], object]) -> tuple[float, dict[str, float]]:
        wait_for("the folds end", holds)
        return time.monotonic(), self._cluster.seconds()

    def _runs_of(self, worker: Running) -> list[str]:
        """The jobs that a worker runs, by the ledger."""
        query = "SELECT jobs.id FROM jobs JOIN workers ON jobs.worker = workers.id WHERE workers.name LIKE %s"
        with self._cluster.connection() as connection:
            return [row[0] for row in connection.execute(query, [f"%:{worker.pid}"]).fetchall()]

    def _back(self, kind: str, worker: Running) -> float:
        """The seconds until a worker that was cut off folds again."""
        known = {end.job for end in worker.ended()}
        self._network.heal(0)
        began = time.monotonic()

        def folds() -> bool:
            if not self._cluster.open_jobs():
                self._submitted(kind, 2)
            return any(end.job not in known and end.moment > 0 for end in worker.ended())

        wait_for("it folds again", folds, worker, STALLED)
        return time.monotonic() - began

    def _outcome(self, accepted: list[str]) -> dict[str, Any]:
        """What the ledger has of the jobs, and whether each result is what it says."""
        query = "SELECT id, status, attempts, interruptions, result_sha256 FROM jobs WHERE id = ANY(%s)"
        with self._cluster.connection() as connection:
            rows = connection.execute(query, [accepted]).fetchall()
        statuses = Counter(row[1] for row in rows)
        whole = sum(self._is_whole(row[0], row[4]) for row in rows if row[1] == "done")
        return {
            "accepted": len(accepted),
            "done": statuses["done"],
            "whole": whole,
            "lost": len(accepted) - whole,
            "attempts": sum(row[2] for row in rows),
            "interruptions": sum(row[3] for row in rows),
        }

    def _is_whole(self, job: str, sha256: str) -> bool:
        answer = self._client.get(f"/v1/jobs/{job}/result")
        return answer.is_success and hashlib.sha256(answer.content).hexdigest() == sha256


def namespaces(jobs: int, rounds: int) -> dict[str, Any]:
    """One worker and two, in turn; then two, of which one is lost."""
    rows = list(_rows(jobs, rounds))
    return {"rows": rows, "lost": sum(row["lost"] for row in rows)}


def _rows(jobs: int, rounds: int) -> Iterator[dict[str, Any]]:
    with Network(WORKERS) as network, Cluster(network.host) as cluster:
        key = cluster.key("measures")
        given = {"base_url": cluster.server().url, "headers": {"Authorization": f"Bearer {key}"}, "trust_env": False}
        with httpx.Client(timeout=60, **given) as client:
            measured = Measurement(cluster, network, client)
            for kind in ("real", "waiting"):
                for _ in range(rounds):
                    yield from (measured.rate(kind, workers, jobs) for workers in (1, WORKERS))
            for kind in ("real", "waiting"):
                yield from (measured.loss(kind, how, jobs) for how in ("killed", "link down"))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _enter(namespace: int) -> None:
    """Let this thread, and what it starts from now on, be in a network namespace; closes its file."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if libc.setns(namespace, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(namespace)
