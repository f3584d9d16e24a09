"""The runner: from when on an attempt is ending, and needs nobody to stop it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from service.blobs import StoreError
from service.engine.accounts import Accounts
from service.engine.runner import Runner
from service.ledger.records import Job
from service.metrics import Metrics
from service.settings import Settings
from service.tracing.spans import Traces
from service.work import Answer
from tests.service.ledger.test_sql import MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

JOB = Job("1", "key", "model.onnx", MODEL, False, '{"verify": false}', "bnfold 0", run="a", created=0, updated=0)


@dataclass
class Around:
    """In place of the storage, the blobs and the children: notes which attempts are ending at each of its calls."""

    folder: Path
    fails: bool = False
    accepts: bool = True
    shares_inputs: bool = True
    seen: dict[str, set[str]] = field(default_factory=dict)
    runner: Runner = field(init=False)

    @property
    def blobs(self) -> Around:
        return self

    @asynccontextmanager
    async def child(self) -> AsyncIterator[Around]:
        try:
            yield self
        finally:
            self._note("leaves")

    async def place(self, *_: object, **__: object) -> None:
        self._note("places")

    async def run(self, *_: object) -> Answer:
        self._note("folds")
        return Answer(result="result")

    async def finish(self, *_: object) -> bool:
        self._note("ends")
        if self.fails:
            raise StoreError(5, "it does not answer")
        return self.accepts

    def give_back(self, *_: object) -> None:
        self._note("gives back")

    def _note(self, what: str) -> None:
        self.seen[what] = set(self.runner.ending)


async def story(around: Any, metrics: Metrics) -> Around:
    """One attempt, to its end."""
    accounts = Accounts(metrics, Traces())
    around.runner = Runner(Settings(data=around.folder), around, around, around, accounts, lambda: False)
    with pytest.raises(StoreError) if around.fails else nullcontext():
        assert not await around.runner.run(JOB, lambda *_: None)
    around._note("returned")
    return around


def done(metrics: Metrics) -> float:
    """How many jobs were counted as done."""
    count: float = metrics.outcomes.labels("done").collect()[0].samples[0].value
    return count


@pytest.mark.parametrize("fails", [False, True])
def test_an_attempt_is_ending_from_its_end_in_the_ledger_until_it_returns(tmp_path, fails):
    metrics = Metrics()
    seen = asyncio.run(story(Around(tmp_path, fails), metrics)).seen
    assert (seen["places"], seen["folds"], seen["returned"]) == (set(), set(), set())
    assert (seen["ends"], seen["leaves"]) == ({JOB.run}, {JOB.run})
    assert ("gives back" in seen) == fails
    assert done(metrics) == (not fails)


def test_an_attempt_whose_end_the_ledger_refuses_counts_as_nothing(tmp_path):
    """It was cancelled, or is another worker's, and is counted there."""
    metrics = Metrics()
    asyncio.run(story(Around(tmp_path, accepts=False), metrics))
    assert done(metrics) == 0
