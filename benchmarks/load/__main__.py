"""Load on the service: what a small fold costs, who waits for whom, many clients, and what is held afterwards.

python -m benchmarks.load                      # all of it, a quarter of an hour; writes benchmarks/results/load.md
python -m benchmarks.load --only fairness      # cost, fairness or load; the other parts of the page stay
python -m benchmarks.load --before CHECKOUT    # cost: in turn with another version of the code
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.load.clients import folded
from benchmarks.load.fairness import fairness
from benchmarks.load.server import ROOT, running
from benchmarks.load.table import page
from benchmarks.service import chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.load.server import Server

PORT = 8981
PAGE, KEPT = ROOT / "benchmarks/results/load.md", ROOT / "benchmarks/results/load.json"
PARTS = ("cost", "fairness", "load")
SMALL = (8, 1)  # channels and layers: 3 kB
LARGE = (512, 11)  # 104 MB
ROUNDS, FOLDS, CLIENTS = 3, 20, 4  # of the measurement of the cost, for each version
# Clients, requests, and how many different models these are: the others are answered from what is kept.
MANY = ((64, 128, 128), (256, 256, 256), (64, 1616, 64))
LARGE_CLIENTS = 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--before", type=Path, help="a checkout whose cost is measured in turn with this one's")
    given = parser.parse_args()
    known = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    parts = {"cost": partial(cost, given.before), "fairness": waiting, "load": load}
    for name in [given.only] if given.only else PARTS:
        known[name] = {"load average": os.getloadavg()[0], "rows": parts[name]()}
        KEPT.write_text(json.dumps(known, indent=1) + "\n")
        PAGE.write_text(page(known))
        print(page({name: known[name]}))
    return int(any(row.get("errors") for part in known.values() for row in part["rows"]))


def small(number: int) -> bytes:
    """A model of 3 kB; every number gives another one."""
    return chain(*SMALL, number)


def cost(before: Path | None) -> list[dict[str, object]]:
    """Processor time and throughput of small folds, in turn by this code and by another version."""
    versions = {"this": ROOT} | ({} if before is None else {"before": before.absolute()})
    rows: list[dict[str, object]] = []
    for number in range(ROUNDS):
        for place, (name, source) in enumerate(versions.items()):
            with running(PORT + place, source) as server:
                folded(server.url, _models(small, 10_000, 4), CLIENTS)  # those who wait are ready then
                server.settle()
                seconds, own = server.seconds(), server.own_seconds()
                outcome = folded(server.url, _models(small, number * FOLDS, FOLDS), CLIENTS)
                server.settle()
                rows.append(
                    {
                        "version": name,
                        "cpu": (server.seconds() - seconds) / FOLDS,
                        "server": (server.own_seconds() - own) / FOLDS,
                        "rate": FOLDS / outcome.wall,
                        "verified": outcome.verified,
                        "errors": outcome.errors,
                    }
                )
    return rows


def waiting() -> list[dict[str, object]]:
    """What a small fold waits behind jobs of another key."""
    return [row._asdict() for row in fairness(PORT, small)]


def load() -> list[dict[str, object]]:
    """Many clients at the same time, one crowd after another, on one server."""
    rows = []
    with running(PORT, low_water_bytes="0") as server:
        folded(server.url, _models(small, 10_000, 4), CLIENTS)
        rows.append(_held(server, "before"))
        first = 0
        for clients, requests, different in MANY:
            models = [partial(small, first + number % different) for number in range(requests)]
            rows.append(_crowd(server, f"{clients} clients, 3 kB", models, clients))
            first += different
        server.settle()
        rows.append(_held(server, f"after {sum(requests for _, requests, _ in MANY):,} requests"))
        rows.append(_crowd(server, f"{LARGE_CLIENTS} clients, 104 MB", _large(), LARGE_CLIENTS))
        server.settle()
        rows.append(_held(server, "at the end"))
    return rows


def _crowd(server: Server, name: str, models: list[Callable[[], bytes]], clients: int) -> dict[str, object]:
    seconds, watch = server.seconds(), server.watched()
    with watch:
        outcome = folded(server.url, models, clients)
    return {
        "name": name,
        "requests": len(models),
        "rate": len(models) / outcome.wall,
        "p50": outcome.quantile(0.5),
        "p99": outcome.quantile(0.99),
        "cpu": (server.seconds() - seconds) / len(models),
        "wall": outcome.wall,
        "responses": dict(outcome.responses),
        "errors": outcome.errors,
        "verified": outcome.verified,
        **watch.most,
    }


def _held(server: Server, name: str) -> dict[str, object]:
    return {"name": name, **server.held()}


def _models(make: Callable[[int], bytes], first: int, count: int) -> list[Callable[[], bytes]]:
    return [partial(make, first + number) for number in range(count)]


def _large() -> list[Callable[[], bytes]]:
    """Large models, each the same but for its first number: they are made while the clients run."""
    data = chain(*LARGE, 0)
    at = len(data) - len(data) // 3

    def changed(number: int) -> bytes:
        value = np.float32(1e-3 * (number + 1)).tobytes()
        start = at - at % 4
        return data[:start] + value + data[start + 4 :]

    return _models(changed, 0, LARGE_CLIENTS)


if __name__ == "__main__":
    sys.exit(main())
