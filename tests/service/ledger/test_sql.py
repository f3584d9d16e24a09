"""The ledger: what it accepted it remembers, and nothing starts more often than it may."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.exc import SQLAlchemyError

from service.blobs.interface import Blob
from service.http.app import THREADS
from service.ledger import database
from service.ledger.records import (
    Damage,
    Failure,
    Idempotency,
    Job,
    Key,
    Load,
    Occupied,
    Open,
    Output,
    Quota,
    Room,
    job_id,
)
from service.ledger.rows import LONE_DEATHS
from service.ledger.schema import metadata
from service.ledger.sql import FILE, open_ledger, open_shared
from service.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.ledger.interface import Ledger

NO_QUOTA = Quota()
ROOM = Room(1000)
ATTEMPTS = 3
LONG = 1e9  # seconds: longer than anything waits
MODEL, RESULT, REPORT, PAGE = (Blob(letter * 64, 10) for letter in "abcd")
OUTPUT = Output(RESULT, "application/octet-stream", REPORT, PAGE)
CRASHED = Failure("crashed", "it died")
KILLED = Failure("killed", "it was killed")


pytest_plugins = ["tests.support.service.cluster"]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in SQLite."""
    opened = open_ledger(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """One of each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("file")
    else:
        opened = open_shared(request.getfixturevalue("database_url"))
        yield opened
        opened.close()


def run_of(ledger: Ledger, made: Job) -> str:
    """The attempt that runs now."""
    return ledger.job(made.key, made.id).run


def job(key: str = "k", options: str = "{}", model: Blob = MODEL) -> Job:
    made = job_id(model.sha256, "model.onnx", options, "bnfold 0.1.0")
    return Job(made, key, "model.onnx", model, False, options, "bnfold 0.1.0", created=time.time(), updated=time.time())


def submit(ledger: Ledger, key: str = "k", options: str = "{}", model: Blob = MODEL) -> Job:
    return ledger.submit(job(key, options, model), NO_QUOTA, ROOM)[0]


def started(ledger: Ledger, made: Job) -> Job:
    running = ledger.start(made.key, made.id)
    assert running is not None
    return running


def pass_time(ledger: Ledger, seconds: float) -> None:
    """Let a server run for so long."""
    ledger._database.clock._stored += seconds


def refused(slug: str, call: object, *args: object) -> None:
    with pytest.raises(Problem) as caught:
        call(*args)  # type: ignore[operator]
    assert caught.value.slug == slug


def test_the_migrations_make_the_tables_that_the_code_knows(ledger):
    def ours(_: object, name: str | None, *__: object) -> bool:
        return "procrastinate" not in str(name)

    with ledger._database.read() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours})
        assert compare_metadata(context, metadata) == []


def test_every_commit_of_postgresql_is_on_the_disk(database_url):
    ledger = open_shared(database_url)
    with ledger._database.write() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    ledger.close()


def test_every_commit_is_on_the_disk(file, tmp_path):
    with file._database.write() as connection:
        settings = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # 2 is FULL
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_job_from_its_acceptance_to_its_end(ledger):
    made = submit(ledger)
    assert ledger.job("k", made.id) == made
    assert ledger.holding("k", MODEL.sha256) == MODEL
    assert (running := started(ledger, made)).attempts == 1
    ledger.progress("k", made.id, run_of(ledger, made), "writing", 0.5)
    seen = ledger.job("k", made.id)
    assert (seen.status, seen.stage, seen.progress) == ("running", "writing", 0.5)
    assert ledger.finish("k", made.id, run_of(ledger, made), OUTPUT, None)
    done = ledger.job("k", made.id)
    assert (done.status, done.stage, done.progress, done.output) == ("done", None, 1.0, OUTPUT)
    assert ledger.holding("k", RESULT.sha256) == RESULT
    assert ledger.submit(job(), NO_QUOTA, ROOM) == (done, False)
    assert ledger.start("k", made.id) is None
    assert running.id == done.id


def test_jobs_and_blobs_belong_to_a_key(ledger):
    made = submit(ledger, "a")
    assert ledger.job("b", made.id) is None
    assert ledger.holding("b", MODEL.sha256) is None
    assert not ledger.cancel("b", made.id)
    assert ledger.job("a", made.id).status == "queued"


def test_the_death_of_a_server_counts_against_no_job(ledger):
    made = submit(ledger)
    for attempt in range(1, LONE_DEATHS + 1):
        assert started(ledger, made).attempts == attempt
        assert ledger.interrupted() == []  # the server was killed, and begins again
        (kept,) = ledger.unfinished()
        assert (kept.id, kept.status, kept.interruptions, kept.is_suspect) == (made.id, "queued", attempt, True)
    started(ledger, made)
    assert ledger.finish("k", made.id, run_of(ledger, made), OUTPUT, None)


def test_servers_that_die_again_and_again_while_a_job_runs_alone_are_evidence(ledger):
    lone_deaths_are_evidence(ledger, partial(started, ledger), ledger.interrupted)


def lone_deaths_are_evidence(ledger: Ledger, start: Callable[[Job], Job], die: Callable[[], list[Job]]) -> None:
    """The contract of servers and workers: `die` ends all of them, and returns the jobs that ended with that."""
    made, other = submit(ledger), submit(ledger, options='{"verify": false}')
    start(other)
    for _ in range(LONE_DEATHS):
        start(made)
        assert die() == []
    ledger.give_back("k", made.id, start(made).run)  # a server that ends as it should is none
    assert die() == []
    start(made)
    assert [one.id for one in die()] == [made.id]
    ended = ledger.job("k", made.id)
    assert (ended.status, ended.failure.slug, ended.attempts) == ("failed", "crashed", LONE_DEATHS + 1)
    assert "5 times in a row" in ended.failure.detail
    assert [one.id for one in ledger.unfinished()] == [other.id]  # it was interrupted once
    again, is_new = ledger.submit(job(), NO_QUOTA, ROOM)  # a new request tries again
    assert (again.id, is_new, again.is_suspect) == (made.id, True, False)


@pytest.mark.parametrize("failure", [CRASHED, KILLED])
def test_deaths_that_were_seen_count_each_kind_for_itself(ledger, failure):
    made, other = submit(ledger), KILLED if failure is CRASHED else CRASHED
    started(ledger, made)
    assert ledger.died("k", made.id, run_of(ledger, made), other, ATTEMPTS)
    for deaths in range(1, ATTEMPTS):
        started(ledger, made)
        assert ledger.died("k", made.id, run_of(ledger, made), failure, ATTEMPTS)
        kept = ledger.job("k", made.id)
        counted = (kept.kills, kept.crashes) if failure is KILLED else (kept.crashes, kept.kills)
        assert (kept.status, counted) == ("queued", (deaths, 1))
    started(ledger, made)
    assert not ledger.died("k", made.id, run_of(ledger, made), failure, ATTEMPTS)
    assert ledger.job("k", made.id).failure == failure
    assert ledger.unfinished() == []
    again, fresh = ledger.submit(job(), NO_QUOTA, ROOM)  # a new request tries again
    assert (fresh, again.status, again.crashes, again.kills) == (True, "queued", 0, 0)


def test_a_death_counts_only_while_the_job_runs(ledger):
    made = submit(ledger)
    started(ledger, made)
    ledger.cancel("k", made.id)
    assert not ledger.died("k", made.id, run_of(ledger, made), CRASHED, ATTEMPTS)
    assert ledger.job("k", made.id).failure.slug == "cancelled"


def test_a_start_that_was_given_back_does_not_count(ledger):
    made = submit(ledger)
    for _ in range(2 * ATTEMPTS):
        started(ledger, made)
        ledger.give_back("k", made.id, run_of(ledger, made))
    assert ledger.job("k", made.id).attempts == 0


@pytest.mark.parametrize(
    ("slug", "again"),
    [("timed-out", True), ("out-of-memory", True), ("invalid-model", False), ("crashed", True), ("killed", True)],
)
def test_only_what_can_end_otherwise_is_tried_again(ledger, slug, again):
    made = submit(ledger)
    started(ledger, made)
    ledger.finish("k", made.id, run_of(ledger, made), Output(), Failure(slug, "so it was"))
    job_, fresh = ledger.submit(job(), NO_QUOTA, ROOM)
    assert (fresh, job_.status, job_.attempts) == ((True, "queued", 0) if again else (False, "failed", 1))


def test_what_is_cancelled_does_not_end_otherwise(ledger):
    made = submit(ledger)
    started(ledger, made)
    assert ledger.cancel("k", made.id)
    assert not ledger.cancel("k", made.id)
    assert not ledger.finish("k", made.id, run_of(ledger, made), OUTPUT, None)
    assert ledger.holding("k", RESULT.sha256) is None
    assert ledger.job("k", made.id).status == "cancelled"
    assert ledger.submit(job(), NO_QUOTA, ROOM)[1]


def test_room_is_bounded(ledger):
    submit(ledger)
    refused("busy", ledger.submit, job(options="1"), NO_QUOTA, Room(1))
    refused("quota-exceeded", ledger.submit, job(options="1"), Quota(open_jobs=1), ROOM)
    refused("quota-exceeded", ledger.submit, job(model=RESULT), Quota(bytes=19), ROOM)
    assert ledger.submit(job("b", "1"), Quota(open_jobs=1, bytes=10), ROOM)[1]


def test_what_is_held_takes_no_more_bytes(ledger):
    quota = Quota(bytes=19)
    made = ledger.submit(job(), quota, ROOM)[0]
    assert ledger.submit(job(options="1"), quota, ROOM)[1]  # the same model
    refused("too-large", ledger.submit, job(options="2"), Quota(bytes=9), ROOM)  # waiting would not help
    assert not ledger.submit(job(), Quota(bytes=9), ROOM)[1]  # the same job is free
    for known in (made, job(options="1")):
        started(ledger, known)
        ledger.finish("k", known.id, run_of(ledger, known), Output(), Failure("invalid-model", "it is none"))
    ledger.release("k", MODEL.sha256)
    other = ledger.submit(job(model=RESULT), quota, ROOM)[0]
    refused("quota-exceeded", ledger.submit, made, quota, ROOM)  # its model was let go of, and would be held again
    assert [h.blob for h in ledger.held()] == [other.input]


def test_a_key_may_wait_for_as_much_as_it_leaves_to_others(ledger):
    queue = 6
    for number in range(3):
        assert ledger.submit(job("a", str(number)), NO_QUOTA, Room(queue))[1]
    refused("quota-exceeded", ledger.submit, job("a", "more"), NO_QUOTA, Room(queue))
    assert ledger.submit(job("b"), NO_QUOTA, Room(queue))[1]
    assert ledger.submit(job("c"), NO_QUOTA, Room(queue))[1]
    for number in range(queue - 5):
        assert ledger.submit(job("", str(number)), NO_QUOTA, Room(queue))[1]  # without keys nobody is to share
    refused("busy", ledger.submit, job("d"), NO_QUOTA, Room(queue))


def test_a_key_whose_jobs_wait_too_long_gets_no_more(ledger):
    """Others do, and what is known is free."""
    room = Room(1000, 60)
    ledger.submit(job("a"), NO_QUOTA, room)
    ledger._database.clock._stored += 90
    with pytest.raises(Problem) as caught:
        ledger.submit(job("a", "1"), NO_QUOTA, room)
    assert (caught.value.slug, caught.value.headers) == ("quota-exceeded", {"Retry-After": "45"})
    assert not ledger.submit(job("a"), NO_QUOTA, room)[1]
    assert ledger.submit(job("b"), NO_QUOTA, room)[1]
    started(ledger, job("a"))
    assert ledger.submit(job("a", "1"), NO_QUOTA, room)[1]


def test_an_idempotency_key_means_one_request(ledger):
    first = Idempotency("mine", "1" * 64)
    for _ in range(2):
        ledger.submit(job(), NO_QUOTA, ROOM, first)
    other = job(options="other")
    refused("idempotency-conflict", ledger.submit, other, NO_QUOTA, ROOM, Idempotency("mine", "2" * 64))
    assert ledger.job("k", other.id) is None
    ledger.submit(job("b"), NO_QUOTA, ROOM, Idempotency("mine", "2" * 64))


def test_what_an_open_job_needs_is_not_let_go_of(ledger):
    made = submit(ledger)
    refused("in-use", ledger.release, "k", MODEL.sha256)
    assert ledger.sweep(unused=-1, cap=0) == []
    started(ledger, made)
    ledger.finish("k", made.id, run_of(ledger, made), OUTPUT, None)
    assert sorted(ledger.sweep(unused=-1, cap=0)) == [b.sha256 for b in (MODEL, RESULT, REPORT, PAGE)]
    assert ledger.job("k", made.id) is None


def test_the_least_recently_used_goes_first(ledger):
    models = [Blob(letter * 64, 10) for letter in "123"]
    for model in models:
        made = submit(ledger, model=model)
        started(ledger, made)
        ledger.finish("k", made.id, run_of(ledger, made), Output(), CRASHED)
        time.sleep(0.01)
    ledger.use("k", [models[0].sha256])
    assert ledger.sweep(unused=LONG, cap=20) == [models[1].sha256]
    assert {h.blob for h in ledger.held()} == {models[0], models[2]}


def test_the_noise_of_one_key_evicts_nothing_of_another(ledger):
    """Each has an equal share of the cap; who holds more loses first, even what it used last."""
    models = [Blob(f"{number:064x}", 10) for number in range(30)]
    for number, model in enumerate(models):
        key = "quiet" if number < 3 else "loud"
        ledger.cancel(key, submit(ledger, key, model=model).id)
    ledger.use("loud", [model.sha256 for model in models[3:]])  # the quiet one used its models least recently
    gone = ledger.sweep(unused=LONG, cap=100)
    assert gone == [model.sha256 for model in models[3:23]]
    assert [ledger.holding("quiet", model.sha256) for model in models[:3]] == models[:3]
    assert ledger.total() == 100
    assert ledger.sweep(unused=LONG, cap=40)
    assert ledger.usage("quiet").bytes == ledger.usage("loud").bytes == 20


def test_a_sweep_lets_others_write_in_between(ledger, monkeypatch):
    monkeypatch.setattr("service.ledger.holdings.AT_ONCE", 2)
    for key in "abcd":
        ledger.cancel(key, submit(ledger, key).id)
    made = submit(ledger, "e", model=RESULT)
    started(ledger, made)
    ledger.finish("e", made.id, run_of(ledger, made), Output(REPORT), None)
    swept = list(iter(lambda: ledger.sweep(unused=-1, cap=0), []))
    assert [len(gone) <= 2 for gone in swept] == [True] * len(swept)
    assert sorted(chain(*swept)) == sorted(blob.sha256 for blob in (MODEL, RESULT, REPORT))
    assert ledger.job("e", made.id) is None
    assert ledger.job("a", job("a").id) is None


def test_a_shared_content_stays_until_nobody_holds_it(ledger):
    for key in "ab":
        ledger.cancel(key, submit(ledger, key).id)
    assert not ledger.release("a", MODEL.sha256)
    assert ledger.holding("a", MODEL.sha256) is None
    assert ledger.release("b", MODEL.sha256)


def test_failures_are_forgotten_in_time(ledger):
    made = submit(ledger)
    ledger.cancel("k", made.id)
    ledger.sweep(unused=1, cap=100)
    assert ledger.job("k", made.id)
    while ledger.sweep(unused=-1, cap=100):
        pass
    assert ledger.job("k", made.id) is None


def test_a_lost_blob_is_reported_to_who_waits_for_it(ledger):
    made = submit(ledger)
    assert ledger.lost([MODEL.sha256]) == Damage(again=0, removed=0, failed=1)
    assert ledger.job("k", made.id).failure.slug == "internal"


@pytest.mark.parametrize(
    ("lost", "expected"), [("result", Damage(1, 0, 0)), ("both", Damage(0, 1, 0)), ("input", Damage(0, 0, 0))]
)
def test_a_lost_result_is_folded_again_if_its_model_is_there(ledger, lost, expected):
    made = submit(ledger)
    started(ledger, made)
    ledger.finish("k", made.id, run_of(ledger, made), OUTPUT, None)
    addresses = {"result": [RESULT.sha256], "both": [MODEL.sha256, RESULT.sha256], "input": [MODEL.sha256]}[lost]
    assert ledger.lost(addresses) == expected
    kept = ledger.job("k", made.id)
    assert (kept and kept.status) == {"result": "queued", "both": None, "input": "done"}[lost]
    assert all(ledger.holding("k", sha256) is None for sha256 in addresses)
    assert ledger.submit(job(), NO_QUOTA, ROOM)[1] == (lost == "both")


def test_keys(ledger):
    key = Key("id", "name", "f" * 64, ("fold", "read"), Quota("1/minute", 2, 3), created=1.0)
    ledger.add_key(key)
    assert ledger.key("id") == key
    assert ledger.revoke_key("id")
    assert not ledger.revoke_key("id")
    assert ledger.key("id") is None
    (kept,) = ledger.all_keys()
    assert replace(kept, revoked=None) == key


def test_a_key_ends_when_its_time_is_over(ledger):
    for id_, expires in (("over", 1.0), ("good", 1e12)):
        ledger.add_key(Key(id_, id_, "f" * 64, (), Quota(), 1.0, expires=expires))
    assert ledger.key("over") is None
    assert not ledger.rotate_key("over", "e" * 64, 2.0)
    assert ledger.rotate_key("good", "e" * 64, 2.0)
    good = ledger.key("good")
    assert (good.hash, good.previous, good.previous_until) == ("e" * 64, "f" * 64, 2.0)
    assert ledger.ended_keys(2.0) == {"over"}
    assert ledger.ended_keys(1e13) == {"over", "good"}


def test_what_there_is_to_do_is_known(ledger):
    assert ledger.load() == Load((), 0, 0, 0, 0.0)
    first, _, large = submit(ledger), submit(ledger, options="1"), submit(ledger, model=Blob("e" * 64, 1 << 30))
    assert set(ledger.load().jobs) == {
        Open("queued", "1MiB", 2, first.created),
        Open("queued", "larger", 1, large.created),
    }
    started(ledger, first)
    ledger.interrupted()
    again = started(ledger, first)
    now = ledger.load()
    assert ({(one.status, one.size, one.count) for one in now.jobs}, now.suspects) == (
        {("queued", "1MiB", 1), ("running", "1MiB", 1), ("queued", "larger", 1)},
        1,
    )
    ledger.finish(first.key, first.id, again.run, OUTPUT, None)
    assert ledger.load().suspects == 0


def test_webhooks_that_are_due_are_known(ledger):
    made = ledger.submit(job(), NO_QUOTA, ROOM, webhook="https://example.org/")[0]
    assert ledger.load().webhooks == 0
    ledger.cancel(made.key, made.id)
    assert ledger.load().webhooks == 1
    assert ledger.load().late > 0
    (webhook,) = (ledger.next_webhook(Occupied()),)
    ledger.failed_webhook(webhook.id, LONG)
    assert (ledger.load().webhooks, ledger.load().late) == (1, 0.0)
    ledger.ended_webhook(webhook.id, delivered=True)
    assert ledger.load().webhooks == 0


def test_many_writers_lose_nothing(ledger):
    def write(part: int) -> None:
        for i in range(10):
            submit(ledger, options=f"{part} {i}")

    threads = [threading.Thread(target=write, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.unfinished()) == 80


def test_a_ledger_that_cannot_be_written_is_found_out(ledger):
    ledger.check()
    with ledger._database.write() as connection:
        connection.exec_driver_sql("DROP TABLE keys")
    with pytest.raises(SQLAlchemyError, match=r"no such table|does not exist"):
        ledger.check()


def test_each_thread_has_a_connection_that_is_kept(file):
    """One that is opened anew reads all that it needs once more, and leaves its memory to the arena of a thread."""
    made: list[object] = []
    event.listen(file._database._engine, "connect", lambda *given: made.append(given))
    together = threading.Barrier(THREADS)

    def read() -> None:
        with file._database.read() as connection:
            together.wait()
            assert connection.execute(text("PRAGMA cache_size")).scalar_one() == -database.CACHE_KIB

    for _ in range(2):
        threads = [threading.Thread(target=read) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == THREADS - 1  # and the one that opened it


def test_a_suspect_waits_longer_each_time():
    assert [replace(job(), interruptions=deaths).pause for deaths in (0, 1, 2, 3, 4, 100)] == [0, 0, 1, 3, 7, 300]


def test_an_attempt_that_was_taken_for_dead_changes_nothing(ledger):
    """Two have the same job: one went on although it was given to another."""
    made = submit(ledger)
    stale = started(ledger, made).run
    ledger.interrupted()
    assert not ledger.finish("k", made.id, stale, OUTPUT, None)  # it waits
    now = started(ledger, made).run
    assert now != stale
    assert not ledger.finish("k", made.id, stale, OUTPUT, None)  # it runs elsewhere
    assert not ledger.died("k", made.id, stale, CRASHED, 1)
    ledger.progress("k", made.id, stale, "writing", 0.5)
    ledger.give_back("k", made.id, stale)
    kept = ledger.job("k", made.id)
    assert (kept.status, kept.run, kept.stage, kept.crashes) == ("running", now, None, 0)
    assert ledger.holding("k", RESULT.sha256) is None
    assert ledger.finish("k", made.id, now, OUTPUT, None)


def test_what_a_key_holds_is_not_removed(ledger):
    removed: list[str] = []
    submit(ledger)
    for sha256 in (MODEL.sha256, RESULT.sha256):
        ledger.discard(sha256, lambda sha256=sha256: removed.append(sha256))
    assert removed == [RESULT.sha256]


def test_what_came_again_is_not_lost(ledger):
    made = submit(ledger)
    assert ledger.lost([MODEL.sha256], lambda _: False) == Damage(0, 0, 0)
    assert ledger.job("k", made.id).status == "queued"
