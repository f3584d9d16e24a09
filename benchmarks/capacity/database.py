"""What one fold costs PostgreSQL and the object store: `python -m benchmarks.capacity.database [--folds 20]`.

It starts both on loopback, with the servers that the tests use, one API and one worker, and counts transactions, bytes
of the write-ahead log and requests to the store: at rest, and for each fold. Counts do not depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from benchmarks.capacity.costs import serving
from benchmarks.service import chain
from tests.support.service.postgres import Postgres
from tests.support.service.store import Store

if TYPE_CHECKING:
    from collections.abc import Generator

REST = 30.0  # seconds in which nothing is asked for
FLUSH = 3.0  # seconds after which a session of PostgreSQL has reported what it did
COUNTED = (
    "SELECT xact_commit, tup_inserted + tup_updated + tup_deleted, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0'), "
    "numbackends FROM pg_stat_database WHERE datname = current_database()"
)


class Seen(NamedTuple):
    """Counts since the start, and connections now."""

    transactions: int
    rows: int
    log: int  # bytes of the write-ahead log
    connections: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=20)
    folds = parser.parse_args().folds
    postgres = Postgres()
    try:
        with Store() as store:
            os.environ.update(store.environment)
            measure(postgres, store, folds)
    finally:
        postgres.close()


def measure(postgres: Postgres, store: Store, folds: int) -> None:
    url = postgres.url(postgres.database())
    shared = {"engine": "cluster", "database_url": url, "blobs_url": store.url(), "sandbox": "off"}
    models = [chain(8, 1, number) for number in range(folds + 1)]
    with tempfile.TemporaryDirectory() as secrets:
        shared["secrets"] = secrets
        with serving(**shared, sync_seconds=600) as (client, _, _):
            print(f"at rest, an API: {at_rest(url)}")
            with working(shared):
                client.post("/v1/fold", content=models[0]).raise_for_status()
                print(f"at rest, an API and a worker: {at_rest(url)}")
                before, requests, began = seen(url), len(store.requests), time.monotonic()
                for data in models[1:]:
                    client.post("/v1/fold", content=data).raise_for_status()
                took, after = time.monotonic() - began, seen(url)
                asked = Counter(method for method, _ in store.requests[requests:])
    each = [(b - a) / folds for a, b in zip(before, after, strict=True)][:3]
    print(f"{folds} folds in {took:.0f} s, what happens at rest included; of each:")
    print(f"  {each[0]:.1f} transactions, {each[1]:.1f} rows written, {each[2] / 1024:.1f} KiB of the write-ahead log")
    print(f"  requests to the store: {', '.join(f'{count / folds:.1f} {name}' for name, count in asked.items())}")


def at_rest(url: str) -> str:
    before = seen(url)
    time.sleep(REST)
    after = seen(url)
    rate = (after.transactions - before.transactions) / (REST + FLUSH)
    log = (after.log - before.log) / (REST + FLUSH)
    return f"{rate:.1f} transactions a second, {log / 1024:.1f} KiB/s of log, {after.connections - 1} connections"


def seen(url: str) -> Seen:
    time.sleep(FLUSH)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(COUNTED).fetchone()
        assert row is not None  # noqa: S101  the database exists
        return Seen(*map(int, row))


@contextmanager
def working(shared: dict[str, object]) -> Generator[None]:
    """A worker, which folds one at a time."""
    variables = {f"BNFOLD_{name.upper()}": str(value) for name, value in shared.items()}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "folding", "worker", "--data", f"{folder}/data", "--workers", "1"]
        log = Path(folder) / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as worker,
        ):
            try:
                assert worker.stdout is not None  # noqa: S101  it was asked for
                if not worker.stdout.readline():
                    raise RuntimeError(log.read_text())
                yield
            finally:
                worker.terminate()


if __name__ == "__main__":
    main()
