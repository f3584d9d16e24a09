"""The queueing model against the service: `python -m benchmarks.capacity.load [--workers 4] [--mean 6] [--jobs 200]`.

Jobs arrive at random (a Poisson process) at a server on loopback. Their folds sleep for a time that is drawn, so that
the figures hold on a busy machine, too: what is tried is who is served when, and what lies between folds. Three mean
waits are compared: what the server measured; the wait in a queue without any loss (first come, first served) with the
times that it measured; and that of the model, which knows no more than the rate, the mean and the variation.
"""

from __future__ import annotations

import argparse
import heapq
import json
import time
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.capacity.costs import serving
from benchmarks.capacity.queueing import Load
from tests.support.service.server import slow, submit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import httpx

USES = (0.5, 0.7, 0.85)  # of the workers
OVERHEAD = 1.5  # seconds that a fold takes beside its sleep, where the machine is busy
LOOK_EVERY = 1.0
HEAD = ("service", "workers", "jobs", "rate", "mean", "variation", "busy", "measured", "without loss", "M/G/c")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--mean", type=float, default=6.0, help="seconds of a fold's sleep")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--constant", action="store_true", help="every fold sleeps for the same time")
    arguments = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |")
    print(f"|{' --- |' * len(HEAD)}")
    for use in USES:
        rng = np.random.default_rng(int(use * 100))
        rate = use * arguments.workers / (arguments.mean + OVERHEAD)
        sleeps = np.full(arguments.jobs, arguments.mean)
        if not arguments.constant:
            sleeps = rng.exponential(arguments.mean, arguments.jobs)
        pauses = rng.exponential(1 / rate, arguments.jobs)
        kind = "constant" if arguments.constant else "exponential"
        print(row(kind, arguments.workers, *observed(arguments.workers, pauses, sleeps)), flush=True)


def observed(
    workers: int, pauses: Sequence[float], sleeps: Sequence[float]
) -> tuple[list[float], list[float], list[float]]:
    """When jobs arrived, how long their folds took, and the mean wait, all in seconds."""
    given = {"workers": workers, "spares": workers, "sandbox": "off", "low_water_bytes": 0}
    with serving("tests.support.service.server", **given) as (client, _, log):
        jobs, due = [], time.monotonic()
        for number, (pause, sleep) in enumerate(zip(pauses, sleeps, strict=True)):
            due += pause
            time.sleep(max(due - time.monotonic(), 0))
            jobs.append(submit(client, slow(round(sleep, 3), seed=number), verify=False))
        while waiting(client):
            time.sleep(LOOK_EVERY)
        took = seconds_of(log)
        created = [client.get(f"/v1/jobs/{job}").json()["created"] for job in jobs]
        arrived = [datetime.fromisoformat(one).timestamp() for one in created]
        return arrived, [took[job] for job in jobs], [wait_seconds(client)]


def waiting(client: httpx.Client) -> bool:
    lines = client.get("/metrics").text.splitlines()
    return any(line.startswith(("bnfold_waiting{", "bnfold_started{")) and not line.endswith(" 0.0") for line in lines)


def wait_seconds(client: httpx.Client) -> float:
    """The mean wait, as the server measured it."""
    lines = client.get("/metrics").text.splitlines()
    total, count = (
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"bnfold_wait_seconds_{part}{{"))
        for part in ("sum", "count")
    )
    return total / count


def seconds_of(log: Path) -> dict[str, float]:
    """How long the fold of each job took, by its id."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return {line["job"]: line["seconds"] for line in lines if line["message"] == "job ended"}


def without_loss(arrived: Sequence[float], took: Sequence[float], workers: int) -> float:
    """The mean wait if a worker that is free begins the job that came first at once."""
    free, waits = [min(arrived)] * workers, []
    for arrival, seconds in sorted(zip(arrived, took, strict=True)):
        start = max(heapq.heappop(free), arrival)
        waits.append(start - arrival)
        heapq.heappush(free, start + seconds)
    return float(np.mean(waits))


def row(kind: str, workers: int, arrived: list[float], took: list[float], waits: list[float]) -> str:
    rate = (len(arrived) - 1) / (max(arrived) - min(arrived))
    load = Load(rate, float(np.mean(took)), float(np.var(took) / np.mean(took) ** 2))
    exact = without_loss(arrived, took, workers)
    found = (f"{load.rate:.3f}/s", f"{load.service:.2f} s", f"{load.variation:.2f}", f"{load.utilization(workers):.0%}")
    means = (f"{waits[0]:.2f} s", f"{exact:.2f} s", f"{load.wait(workers):.2f} s")
    return f"| {' | '.join((kind, str(workers), str(len(arrived)), *found, *means))} |"


if __name__ == "__main__":
    main()
