"""Chaos: the server is killed at random while jobs run; every job that was accepted is done, and nothing half-written.

CHAOS_KILLS says how often, CHAOS_SEED which moments; `make chaos` does it at length.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import httpx

from service.ledger.sql import FILE
from tests.support.service.server import Process, ended, slow, submit

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("CHAOS_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "20260101"))
JOBS_PER_KILL = 4


def test_nothing_accepted_is_lost(tmp_path: Path) -> None:
    rng, process, accepted = random.Random(SEED), Process(tmp_path / "data", shutdown_seconds="0", spares="1"), []
    for kill in range(KILLS):
        client = process.start()
        end = time.monotonic() + rng.uniform(0, 1.5)
        for job in range(JOBS_PER_KILL):
            try:
                model = slow(round(rng.uniform(0, 1), 2), seed=kill * JOBS_PER_KILL + job)
                accepted.append(submit(client, model, verify=False))
            except httpx.TransportError:
                break
        time.sleep(max(0.0, end - time.monotonic()))
        process.kill()
    client, endings, most = process.start(), Counter[str](), 0
    for job in accepted:
        told = ended(client, job)
        endings[told["status"]] += 1
        most = max(most, told["attempts"])
        assert told["status"] == "done", told
        result = client.get(told["links"]["result"])
        assert hashlib.sha256(result.content).hexdigest() == told["result"]["sha256"]
    assert len(accepted) == KILLS * JOBS_PER_KILL
    assert process.stop() == 0
    data = tmp_path / "data"
    assert not list((data / "jobs").iterdir())
    assert not list((data / "blobs" / "partial").iterdir())
    for blob in (data / "blobs" / "sha256").glob("*/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.parent.name + blob.name
    with closing(sqlite3.connect(data / FILE)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    print(f"{KILLS} kills, {len(accepted)} jobs accepted: {dict(endings)}, attempts up to {most}; integrity_check: ok")  # noqa: T201  `make chaos` shows it
