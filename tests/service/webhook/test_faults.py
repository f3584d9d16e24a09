"""Webhooks when things go wrong under them: a ledger that fails, a mistake of ours, receivers that take all room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import OperationalError

from service.ledger.records import Webhook
from service.ledger.webhooks import PENDING_OF_JOB
from service.webhook.outbox import DELAYS, HOUR, JITTER, OF_KEY, _delay
from service.webhook.receivers import Receivers, Reply
from tests.service.webhook.test_outbox import anywhere, receiver, rows
from tests.support.service.receiver import Receiver
from tests.support.service.server import Running, ended, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["receiver"]  # a fixture

FULL = OperationalError("UPDATE", {}, Exception("disk I/O error"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.webhook.outbox.LOOK_EVERY", 0.05)


def failing(function: Callable[..., Any], times: int, error: Exception = FULL) -> Callable[..., Any]:
    left = [error] * times

    def first_fails(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return function(*args, **kwargs)

    return first_fails


@pytest.mark.parametrize("name", ["next_webhook", "ended_webhook"])
def test_a_ledger_that_fails_is_asked_again_and_nothing_is_sent_twice(tmp_path, receiver, monkeypatch, name):
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        ledger = running.app.state.service.ledger
        monkeypatch.setattr(ledger, name, failing(getattr(ledger, name), 2))
        submit(running.client, model_bytes(), webhook=receiver.url)
        until(lambda: [row[0] for row in rows(tmp_path / "data")] == ["delivered"])
    assert len(receiver.received) == 1


def test_a_secret_that_cannot_be_read_is_a_failed_attempt(tmp_path, receiver):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").write_bytes(b"short")
    with Running(tmp_path / "data", receivers=anywhere()) as running:
        submit(running.client, model_bytes(), webhook=receiver.url)
        until(lambda: [row[:2] for row in rows(tmp_path / "data")] == [("due", 1)])
    assert receiver.received == []


def test_a_mistake_of_ours_is_made_once_and_left_to_the_next_server(tmp_path, receiver, monkeypatch, caplog):
    to, calls = anywhere(), []

    async def mistaken(*_: object) -> Reply:
        calls.append(_)
        raise KeyError("a mistake")

    with Receiver() as other, Running(tmp_path / "data", receivers=to) as running:
        monkeypatch.setattr(to, "post", mistaken)
        submit(running.client, model_bytes(1), webhook=receiver.url)
        until(lambda: "left to the next server" in caplog.text)
        monkeypatch.undo()
        monkeypatch.setattr("service.webhook.outbox.LOOK_EVERY", 0.05)
        submit(running.client, model_bytes(2), webhook=other.url)
        other.wait()  # it goes on with the others
    assert len(calls) == 1
    with Running(tmp_path / "data", receivers=anywhere()):
        receiver.wait()


def test_one_key_does_not_take_all_the_room(tmp_path, receiver):
    async def look_up(*_: object) -> list[str]:
        return ["127.0.0.1"]

    receiver.released.clear()
    with Running(tmp_path / "data", receivers=Receivers(bool, look_up)) as running:
        for part in range(PENDING_OF_JOB):
            job = submit(running.client, model_bytes(), webhook=f"http://r{part}.example.com:{receiver.port}/")
        ended(running.client, job)
        receiver.wait(OF_KEY)
        assert len(running.app.state.service.webhooks._sending) == OF_KEY
        receiver.released.set()
        receiver.wait(PENDING_OF_JOB)


@pytest.mark.parametrize(
    ("attempts", "reply", "least"),
    [(0, None, 5.0), (1, Reply(500), 300.0), (8, Reply(503, 1.0), 24 * HOUR), (0, Reply(429, 60.0), 60.0)],
)
def test_the_time_to_the_next_attempt(attempts, reply, least):
    webhook = Webhook("msg_1", "", "job", "https://a/", "a", "{}", attempts)
    found = [_delay(webhook, reply) for _ in range(20)]
    assert all(least <= delay <= least * (1 + JITTER) for delay in found)
    assert len(set(found)) > 1
    assert sum(DELAYS) == 75 * HOUR + 35 * 60 + 5  # as the table of the specification ends
