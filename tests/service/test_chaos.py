"""Chaos: the server is killed at random while jobs run; every job that was accepted ends, and nothing is half-written.

CHAOS_KILLS says how often; `make chaos` does it at length.
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
SEED = 20260101
JOBS_PER_KILL = 3


def test_nothing_accepted_is_lost(tmp_path: Path) -> None:
    rng, process, accepted = random.Random(SEED), Process(tmp_path / "data", shutdown_seconds="0", spares="1"), []
    for kill in range(KILLS):
        client = process.start()
        end = time.monotonic() + rng.uniform(0, 1.5)
        for job in range(JOBS_PER_KILL):
            try:
                accepted.append(submit(client, slow(round(rng.uniform(0, 1), 2), seed=kill * JOBS_PER_KILL + job)))
            except httpx.TransportError:
                break
        time.sleep(max(0.0, end - time.monotonic()))
        process.kill()
    client, endings = process.start(), Counter[str]()
    for job in accepted:
        told = ended(client, job)
        endings[told["status"]] += 1
        if told["status"] == "done":
            result = client.get(told["links"]["result"])
            assert hashlib.sha256(result.content).hexdigest() == told["result"]["sha256"]
        else:  # three kills met the same job
            assert (told["status"], told["attempts"]) == ("failed", 3)
    assert len(accepted) == KILLS * JOBS_PER_KILL
    assert process.stop() == 0
    data = tmp_path / "data"
    assert not list((data / "jobs").iterdir())
    assert not list((data / "blobs" / "partial").iterdir())
    for blob in (data / "blobs" / "sha256").glob("*/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.parent.name + blob.name
    with closing(sqlite3.connect(data / FILE)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    print(f"{KILLS} kills, {len(accepted)} jobs accepted: {dict(endings)}; integrity_check: ok")  # noqa: T201  `make chaos` shows it
