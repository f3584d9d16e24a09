"""Load at the limit: clients that offer twice what the cluster can do, and what its processes hold meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from benchmarks.cluster.cluster import OPEN, Cluster, spent
from benchmarks.cluster.processes import held
from benchmarks.service import chain

if TYPE_CHECKING:
    from psycopg import Connection

    from benchmarks.cluster.cluster import Running

TIMES = 2.0  # what is offered, in terms of what the cluster can do
FIRST = 100_000  # of the models; those before are of the calibration
CALIBRATION, CLIENTS = 30.0, 12  # seconds and clients of the measurement of what it can do
SAMPLE_SECONDS, FLUSH = 10.0, 5.0
TIMEOUT, DRAIN_SECONDS = 90.0, 300.0
REFUSED = (429, 503)
# A key whose oldest job waits longer gets no more; what was not used for 5 minutes goes, so the disk is bounded.
SETTINGS = {"max_queue_seconds": 10, "ttl_seconds": 300, "sweep_seconds": 10}
KEYS = {"honours-1": True, "honours-2": True, "insists-1": False, "insists-2": False}
QUEUE = """SELECT count(*) FILTER (WHERE status = 'queued'), min(updated) FILTER (WHERE status = 'queued'),
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) FROM jobs"""
ENDED = "SELECT id, status, attempts FROM jobs WHERE updated > %s AND NOT status = ANY(%s)"


@dataclass
class Client:
    """Who sends with one key, and waits as Retry-After says, or does not."""

    key: str
    honours: bool
    silent_until: float = 0.0


@dataclass
class Crowd:
    """What clients sent, and what they were answered."""

    urls: list[str]
    clients: list[Client]
    first: int = 0  # of the numbers of its models
    answers: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # kinds of Retry-After
    accepted: set[str] = field(default_factory=set)
    offered: int = 0
    held_back: int = 0
    requests: int = 0

    def __post_init__(self) -> None:
        self._numbers, self._places = count(self.first), cycle(self.urls)
        self._data, self._tasks = chain(8, 1, 0), set[asyncio.Task[None]]()

    async def offer(self, rate: float, seconds: float) -> None:
        """Send at random times, so many a second, whatever the answers are; then wait for the last of them."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        turns, due = cycle((client, later) for later in (True, False) for client in self.clients), time.monotonic()
        end = due + seconds
        async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False) as http:
            while due < end:
                due += random.expovariate(rate)
                await asyncio.sleep(max(due - time.monotonic(), 0))
                client, later = next(turns)
                self.offered += 1
                if client.honours and time.monotonic() < client.silent_until:
                    self.held_back += 1
                    continue
                task = asyncio.create_task(self._send(http, client, later=later))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.gather(*self._tasks)

    async def keep_busy(self, seconds: float) -> None:
        """Send with some clients, each when it has its answer."""
        end, client = time.monotonic() + seconds, self.clients[0]

        async def work(http: httpx.AsyncClient) -> None:
            while time.monotonic() < end:
                await self._send(http, client, later=False)

        async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as http:
            await asyncio.gather(*(work(http) for _ in range(CLIENTS)))

    async def _send(self, http: httpx.AsyncClient, client: Client, *, later: bool) -> None:
        url, headers = next(self._places), {"Authorization": f"Bearer {client.key}"}
        prefer = {"Prefer": "respond-async"} if later else {}
        try:
            answer = await http.post(f"{url}/v1/fold", content=self._model(), headers=headers | prefer)
            self._note("POST", answer)
            if answer.status_code in REFUSED:
                self._refused(client, answer)
            elif job := answer.headers.get("Bnfold-Job"):
                self.accepted.add(job)
                if answer.status_code == httpx.codes.ACCEPTED:
                    await self._follow(http, f"{url}/v1/jobs/{job}", headers)
        except (httpx.HTTPError, ValueError) as error:
            self.answers[f"{type(error).__name__}: {error}"[:80]] += 1

    async def _follow(self, http: httpx.AsyncClient, job: str, headers: dict[str, str]) -> None:
        """Wait for a job, and fetch its result."""
        status = OPEN[0]
        while status in OPEN:
            answer = await http.get(job, params={"wait": 25, "until": "done"}, headers=headers)
            self._note("GET", answer)
            status = answer.raise_for_status().json()["status"]
        self._note("GET", await http.get(f"{job}/result", headers=headers))

    def _note(self, method: str, answer: httpx.Response) -> None:
        self.requests += 1
        self.answers[f"{method} {answer.status_code}"] += 1

    def _refused(self, client: Client, answer: httpx.Response) -> None:
        text = answer.headers.get("Retry-After", "")
        self.refused["an integer" if text.isdecimal() else f"{answer.status_code} {text!r}"] += 1
        if text.isdecimal():
            client.silent_until = time.monotonic() + int(text)

    def _model(self) -> bytes:
        """A model that no other is equal to: the same but for one weight."""
        at = len(self._data) // 2 & ~3
        return self._data[:at] + np.float32(1e-3 * (next(self._numbers) + 1)).tobytes() + self._data[at + 4 :]


class Watch:
    """Looks again and again at processes, at the queue, and at how jobs ended."""

    def __init__(self, connection: Connection, crowd: Crowd, processes: dict[str, list[Running]]) -> None:
        self._connection, self._crowd, self._processes = connection, crowd, processes
        self._began, self._seen = time.monotonic(), time.time() - FLUSH
        self.samples: list[dict[str, Any]] = []
        self.ended: dict[str, tuple[str, int]] = {}  # the status and the attempts of a job

    async def run(self) -> None:
        """Look until this is cancelled."""
        for number in count():
            await asyncio.sleep(max(self._began + number * SAMPLE_SECONDS - time.monotonic(), 0))
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Look once."""
        now = time.time()
        for job, status, attempts in self._connection.execute(ENDED, [self._seen - FLUSH, list(OPEN)]).fetchall():
            self.ended[job] = (status, attempts)
        self._seen = now
        row = self._connection.execute(QUEUE).fetchone()
        assert row is not None  # noqa: S101  it counts
        sample = {
            "seconds": time.monotonic() - self._began,
            "offered": self._crowd.offered,
            "requests": self._crowd.requests,
            "answers": dict(self._crowd.answers),
            "done": sum(self.ended[job][0] == "done" for job in self._crowd.accepted & self.ended.keys()),
            "queue": row[0],
            "oldest": 0.0 if row[1] is None else now - row[1],
            "connections": row[2] - 1,
        }
        self.samples.append(sample | {"held": held(self._processes)})


def sustained(seconds: float) -> dict[str, Any]:
    """Offer twice what two workers can do, for so long."""
    with Cluster(**SETTINGS) as cluster:
        clients = [Client(cluster.key(name), honours) for name, honours in KEYS.items()]
        processes = {"server": [cluster.server() for _ in range(2)], "worker": [cluster.worker() for _ in range(2)]}
        urls = [server.url for server in processes["server"]]
        with cluster.connection() as connection:
            able = _able(Crowd(urls, clients))
            crowd = Crowd(urls, clients, first=FIRST)
            watch, before, own = Watch(connection, crowd, processes), cluster.seconds(), time.process_time()
            asyncio.run(_offered(crowd, watch, TIMES * able, seconds))
            used = spent(before, cluster.seconds()) | {"clients": time.process_time() - own}
            end = time.monotonic() + DRAIN_SECONDS
            while cluster.open_jobs() and time.monotonic() < end:
                time.sleep(1)
            watch.look()
    ends = Counter(watch.ended.get(job, ("missing", 0))[0] for job in crowd.accepted)
    return {
        "able": able,
        "rate": TIMES * able,
        "samples": watch.samples[:-1],  # the last look is after the load
        "offered": crowd.offered,
        "held back": crowd.held_back,
        "answers": dict(crowd.answers),
        "refused": dict(crowd.refused),
        "ends": dict(ends),
        "attempts": sum(watch.ended[job][1] for job in crowd.accepted if job in watch.ended),
        "processor": used,
        "lost": len(crowd.accepted) - ends["done"],
    }


def _able(crowd: Crowd) -> float:
    """The folds a second that clients get who wait for each."""
    asyncio.run(crowd.keep_busy(CALIBRATION / 3))  # what has to be loaded is loaded then
    began, before = time.monotonic(), crowd.answers["POST 200"]
    asyncio.run(crowd.keep_busy(CALIBRATION))
    return (crowd.answers["POST 200"] - before) / (time.monotonic() - began)


async def _offered(crowd: Crowd, watch: Watch, rate: float, seconds: float) -> None:
    looking = asyncio.create_task(watch.run())
    await crowd.offer(rate, seconds)
    looking.cancel()
    await asyncio.wait([looking])
