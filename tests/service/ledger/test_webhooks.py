"""The outbox in the ledger: what was accepted is due when its job ends, whatever ends it, and belongs to its key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

from service.ledger.records import Idempotency, Key, Occupied, Output, Quota, Webhook
from service.ledger.schema import webhooks
from service.ledger.sql import open_shared
from service.ledger.webhooks import PENDING_OF_JOB, TAKEN_SECONDS
from tests.service.ledger.test_sql import (
    ATTEMPTS,
    CRASHED,
    LONG,
    MODEL,
    NO_QUOTA,
    OUTPUT,
    ROOM,
    file,
    job,
    ledger,
    pass_time,
    refused,
    run_of,
    started,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.ledger.interface import Ledger
    from service.ledger.records import Job

__all__ = ["file", "ledger"]  # fixtures

pytest_plugins = ["tests.support.service.cluster"]

URL = "https://hooks.example.com/a"
FREE = Occupied()
OPEN = '{"of": "a job that has not ended"}'


def ask(ledger: Ledger, key: str = "k", options: str = "{}", url: str = URL, request: Idempotency | None = None) -> Job:
    return ledger.submit(job(key, options), NO_QUOTA, ROOM, request, url)[0]


def due(ledger: Ledger, occupied: Occupied = FREE) -> list[Webhook]:
    """All that is due, now or later, the longest first."""
    found: list[Webhook] = []
    pass_time(ledger, LONG)
    while True:
        ids = frozenset(webhook.id for webhook in found) | occupied.ids
        webhook = ledger.next_webhook(Occupied(ids, occupied.keys, occupied.receivers))
        if webhook is None:
            break
        found.append(webhook)
    pass_time(ledger, -LONG)
    if ledger._database.is_shared:  # whoever had them is dead
        ids = [webhook.id for webhook in found]
        with ledger._database.write() as connection:
            connection.execute(update(webhooks).where(webhooks.c.id.in_(ids)).values(due=webhooks.c.due - LONG))
    return found


def crash(ledger: Ledger, made: Job) -> None:
    for deaths in range(ATTEMPTS):
        started(ledger, made)
        assert ledger.died(made.key, made.id, run_of(ledger, made), CRASHED, ATTEMPTS) == (deaths < ATTEMPTS - 1)
    assert ledger.start(made.key, made.id) is None


def finish(ledger: Ledger, made: Job) -> None:
    started(ledger, made)
    ledger.finish(made.key, made.id, run_of(ledger, made), OUTPUT, None)


def fail(ledger: Ledger, made: Job) -> None:
    started(ledger, made)
    ledger.finish(made.key, made.id, run_of(ledger, made), Output(), CRASHED)


@pytest.mark.parametrize(
    ("ends", "status"),
    [(finish, "done"), (fail, "failed"), (crash, "failed"),
     (lambda ledger, made: ledger.cancel(made.key, made.id), "cancelled"),
     (lambda ledger, _: ledger.lost([MODEL.sha256]), "failed")],
    ids=["done", "failed", "crashed", "cancelled", "lost"],
)  # fmt: skip
def test_whatever_ends_a_job_makes_its_webhooks_due(ledger, ends: Callable[[Ledger, Job], None], status):
    made, other = ask(ledger), ask(ledger, "other")
    assert due(ledger) == []
    ends(ledger, made)
    (webhook,) = [webhook for webhook in due(ledger) if webhook.key == "k"]
    event = json.loads(webhook.body)
    assert (event["type"], event["data"]["id"], event["data"]["status"]) == (f"job.{status}", made.id, status)
    assert (webhook.job, webhook.url, webhook.receiver, webhook.attempts) == (made.id, URL, "hooks.example.com", 0)
    assert ledger.job("other", other.id) is not None


def test_an_end_is_reported_once_to_a_url_that_waits(ledger):
    for url in (URL, URL, f"{URL}/other"):
        made = ask(ledger, url=url)
    finish(ledger, made)
    assert sorted(webhook.url for webhook in due(ledger)) == [URL, f"{URL}/other"]


def test_a_job_that_ends_again_is_reported_again(ledger):
    request = Idempotency("mine", "1" * 64)
    made = ask(ledger, request=request)
    ledger.cancel("k", made.id)
    ask(ledger, request=request)  # runs again
    finish(ledger, made)
    assert sorted(json.loads(webhook.body)["type"] for webhook in due(ledger)) == ["job.cancelled", "job.done"]
    ask(ledger, request=request)  # reports nothing new
    assert len(due(ledger)) == 2
    ask(ledger)  # somebody wants to know again
    assert len(due(ledger)) == 3


def test_what_is_reported_outlives_its_job(ledger):
    finish(ledger, ask(ledger))
    assert ledger.sweep(unused=-1, cap=0)
    (webhook,) = due(ledger)
    ledger.ended_webhook(webhook.id, delivered=True)
    assert due(ledger) == []


def test_attempts_are_counted_and_have_their_time(ledger):
    finish(ledger, ask(ledger))
    (first,) = due(ledger)
    ledger.failed_webhook(first.id, 1000)
    assert ledger.next_webhook(FREE) is None
    (second,) = due(ledger)
    assert (second.id, second.body, second.attempts) == (first.id, first.body, 1)


def test_what_is_occupied_is_passed_over(ledger):
    for key, url in (("a", URL), ("a", "https://other.example.com/"), ("b", URL)):
        finish(ledger, ask(ledger, key, json.dumps(url), url))
    assert [webhook.key for webhook in due(ledger, Occupied(keys=frozenset({"a"})))] == ["b"]
    rest = due(ledger, Occupied(receivers=frozenset({("a", "hooks.example.com")})))
    assert [(webhook.key, webhook.receiver) for webhook in rest] == [
        ("a", "other.example.com"),
        ("b", "hooks.example.com"),
    ]


def test_the_number_that_is_pending_is_bounded(ledger, monkeypatch):
    monkeypatch.setattr("service.ledger.webhooks.PENDING_OF_KEY", PENDING_OF_JOB + 2)
    for part in range(PENDING_OF_JOB):
        ask(ledger, url=f"{URL}/{part}")
    refused("quota-exceeded", ask, ledger, "k", "{}", f"{URL}/more")
    for part in range(2):
        ask(ledger, options=f"{part}")
    refused("quota-exceeded", ask, ledger, "k", OPEN)
    assert ledger.job("k", job("k", OPEN).id) is None  # nothing of the request remains
    ask(ledger, "other", OPEN)


def test_an_error_of_the_database_does_not_show_the_url(ledger):
    with ledger._database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE webhooks DROP COLUMN receiver")
    with pytest.raises(SQLAlchemyError) as caught:
        ask(ledger)
    assert "receiver" in str(caught.value)
    assert URL not in str(caught.value)


def test_a_key_that_is_revoked_hears_nothing_more(ledger):
    for key in "ab":
        ledger.add_key(Key(key, key, "f" * 64, (), Quota(), 1.0))
        finish(ledger, ask(ledger, key))
        ask(ledger, key, OPEN)
    ledger.revoke_key("a")
    ledger.cancel("a", job("a", OPEN).id)
    assert [webhook.key for webhook in due(ledger)] == ["b"]
    ledger.failed_webhook("unknown", 0)


def test_a_revoked_key_stays_quiet_after_an_attempt_that_was_on_its_way(ledger):
    ledger.add_key(Key("k", "k", "f" * 64, (), Quota(), 1.0))
    finish(ledger, ask(ledger))
    (webhook,) = due(ledger)
    ledger.revoke_key("k")
    ledger.failed_webhook(webhook.id, 0)
    assert due(ledger) == []


def test_a_key_that_has_expired_hears_nothing_more(ledger):
    ledger.add_key(Key("k", "k", "f" * 64, (), Quota(), 1.0, expires=1e12))
    finish(ledger, ask(ledger))
    asked = ask(ledger, options=OPEN)
    assert ledger.end_jobs(1e11) == []
    assert ledger.end_jobs(1e13) == [("k", asked.id)]
    assert due(ledger) == []


def test_what_is_pending_is_not_swept(ledger):
    made = ask(ledger)
    ledger.sweep(unused=-1, cap=0)
    finish(ledger, made)
    ledger.sweep(unused=-1, cap=0)
    assert len(due(ledger)) == 1


def test_one_of_several_servers_delivers_a_webhook(database_url):
    """Another one does when the first is dead."""
    servers = [open_shared(database_url) for _ in range(2)]
    made = ask(servers[0])
    finish(servers[0], made)
    first = servers[0].next_webhook(FREE)
    assert first is not None
    assert servers[1].next_webhook(FREE) is None
    pass_time(servers[1], TAKEN_SECONDS + 1)
    assert servers[1].next_webhook(FREE) == first
    servers[1].ended_webhook(first.id, delivered=True)
    pass_time(servers[0], LONG)
    assert servers[0].next_webhook(FREE) is None
    for server in servers:
        server.close()
