"""Recovery: what became of the jobs of workers that died is counted and reported, by whoever looked."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from types import SimpleNamespace

from service.engine.accounts import Accounts
from service.engine.recovery import recover
from service.ledger.records import Failure
from service.metrics import Metrics
from service.tracing.spans import Traces
from tests.service.ledger.test_sql import job


def test_what_became_of_the_jobs_of_the_dead_is_counted(caplog):
    again, condemned = job(), replace(job(), status="failed", failure=Failure("crashed", "it died"))
    metrics = Metrics()

    def found(_: float) -> list[object]:
        return [again, condemned]

    async def look() -> None:
        ledger = SimpleNamespace(recover=found, check=lambda: None)
        settings = SimpleNamespace(stall_seconds=0.0, heartbeat_seconds=0.01)
        looking = asyncio.create_task(recover(ledger, settings, Accounts(metrics, Traces())))
        while not metrics.registry.get_sample_value("bnfold_outcomes_total", {"outcome": "crashed"}):
            await asyncio.sleep(0.01)
        looking.cancel()

    with caplog.at_level(logging.INFO, "bnfold"):
        asyncio.run(asyncio.wait_for(look(), 60))
    (ended, *_) = [one for one in caplog.records if one.msg == "job ended"]
    (queued, *_) = [one for one in caplog.records if "queued again" in one.msg]
    assert (ended.outcome, queued.count) == ("crashed", 1)
