"""What operators see of a ledger, and the trace that a job carries through it, in SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from service.gauges import count_workers
from service.ledger.records import Occupied
from service.ledger.sql import open_shared
from service.metrics import Metrics
from tests.service.ledger.test_sql import NO_QUOTA, ROOM, job, submit
from tests.service.ledger.test_workers import DEAD, ENGINE, silent, took

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.ledger.interface import SharedLedger

pytest_plugins = ["tests.support.service.cluster"]

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
AGAIN = TRACE.replace("00f067aa0ba902b7", "b7ad6b7169203331")


@pytest.fixture
def ledger(database_url: str) -> Iterator[SharedLedger]:
    opened = open_shared(database_url)
    yield opened
    opened.close()


def test_workers_are_counted_by_state(ledger):
    for name in ("a", "b", "c", "d"):
        ledger.enter(name, ENGINE, 2)
    draining, dead = (one.id for one in ledger.all_workers()[:2])
    ledger.drain(draining)
    silent(ledger, dead)
    metrics = Metrics()
    engine = SimpleNamespace(workers=partial(asyncio.to_thread, ledger.all_workers))
    here = SimpleNamespace(engine=engine, metrics=metrics, settings=SimpleNamespace(stall_seconds=DEAD))
    asyncio.run(count_workers(here))
    counts = {one.labels["state"]: one.value for one in next(iter(metrics.workers.collect())).samples}
    assert counts == {"working": 2, "draining": 1, "silent": 1}


def test_a_parked_job_does_not_wait(ledger):
    made = submit(ledger)
    assert (len(ledger.load().jobs), ledger.load().parked) == (1, 0)
    ledger.park(made.key, made.id)
    assert (ledger.load().jobs, ledger.load().parked) == ((), 1)


def test_a_worker_knows_how_long_its_job_has_waited_and_to_which_trace_it_belongs(ledger):
    worker, since = ledger.enter("one", ENGINE, 1), time.time() - 100
    made = replace(job(), traceparent=TRACE, created=since, updated=since)
    ledger.submit(made, NO_QUOTA, ROOM, webhook="https://example.org/first")
    running = took(ledger, worker)
    assert running.traceparent == TRACE
    assert 100 <= running.waited < 1000
    ledger.give_back("k", running.id, running.run)
    again = took(ledger, worker)
    assert again.waited < 100
    ledger.submit(replace(made, traceparent=AGAIN), NO_QUOTA, ROOM, webhook="https://example.org/second")
    ledger.cancel("k", made.id)
    found = [ledger.next_webhook(Occupied())]
    found.append(ledger.next_webhook(Occupied(frozenset({found[0].id}))))
    assert {one.url.rpartition("/")[2]: one.traceparent for one in found} == {"first": TRACE, "second": AGAIN}
