"""Workers in the ledger: one has a job at a time, the dead lose theirs, and the queue agrees with the jobs."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.ledger import database
from service.ledger.migrations.versions.v0007_workers import ADDED
from service.ledger.queue import Waiting, queue_name
from service.ledger.records import Output, Room
from service.ledger.sql import open_ledger, open_shared
from tests.service.ledger.test_sql import (
    CRASHED,
    KILLED,
    MODEL,
    NO_QUOTA,
    OUTPUT,
    RESULT,
    ROOM,
    job,
    lone_deaths_are_evidence,
    submit,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.ledger.interface import SharedLedger
    from service.ledger.records import Job
    from tests.support.service.postgres import Postgres

pytest_plugins = ["tests.support.service.cluster"]

ENGINE = "bnfold 0.1.0"
DEAD = 5.0
COLUMNS = """SELECT '"' || column_name || '"' FROM information_schema.columns
    WHERE table_name = 'kept' ORDER BY ordinal_position"""


@pytest.fixture
def ledger(database_url: str) -> Iterator[SharedLedger]:
    opened = open_shared(database_url)
    yield opened
    opened.close()


def rows(ledger: SharedLedger) -> list[tuple[str, str]]:
    """The queue: kinds and states."""
    with ledger._database.read() as connection:
        found = connection.execute(text("SELECT queue_name, status::text FROM procrastinate_jobs ORDER BY id")).all()
        return [(name[1], status) for name, status in found]


def took(ledger: SharedLedger, worker: int, engine: str = ENGINE) -> Job | None:
    """Take the oldest job."""
    waiting = ledger.takeable(engine)
    return ledger.take(worker, min(waiting, key=lambda one: one.number).name) if waiting else None


def silent(ledger: SharedLedger, worker: int, seconds: float = 2 * DEAD) -> None:
    """Let the last sign of life of a worker be so long ago."""
    ago = text("UPDATE procrastinate_workers SET last_heartbeat = now() - make_interval(secs => :s) WHERE id = :w")
    with ledger._database.write() as connection:
        connection.execute(ago, {"s": seconds, "w": worker})


def test_a_job_has_a_row_while_it_is_open(ledger):
    worker, made = ledger.enter("one", ENGINE, 1), submit(ledger)
    assert rows(ledger) == [("s", "todo")]
    assert submit(ledger).id == made.id
    assert rows(ledger) == [("s", "todo")]
    running = took(ledger, worker)
    assert (running.id, running.status, running.worker, running.attempts) == (made.id, "running", worker, 1)
    assert rows(ledger) == [("s", "doing")]
    assert took(ledger, worker) is None
    ledger.give_back("k", made.id, running.run)
    assert rows(ledger) == [("s", "todo")]
    running = took(ledger, worker)
    assert ledger.died("k", made.id, running.run, CRASHED, 3)
    assert rows(ledger) == [("s", "todo")]
    running = took(ledger, worker)
    assert ledger.died("k", made.id, running.run, KILLED, 2)
    assert rows(ledger) == [("a", "todo")]  # alone from now on
    running = took(ledger, worker)
    assert ledger.finish("k", made.id, running.run, OUTPUT, None)
    assert rows(ledger) == []
    ledger.lost([RESULT.sha256])
    assert rows(ledger) == [("a", "todo")]
    assert ledger.cancel("k", made.id)
    assert rows(ledger) == []
    assert ledger.submit(job(), NO_QUOTA, ROOM)[1]
    assert rows(ledger) == [("s", "todo")]


def test_what_is_not_accepted_is_not_queued(ledger):
    """Job and row are one transaction."""
    with pytest.raises(Exception, match="wait already"):
        ledger.submit(job(), NO_QUOTA, Room(0))
    assert rows(ledger) == []


def test_large_uploads_wait_apart(ledger):
    submit(ledger, model=replace(MODEL, bytes=1 << 30))
    assert rows(ledger) == [("l", "todo")]


def test_many_workers_share_the_jobs_and_take_none_twice(ledger):
    for number in range(30):
        submit(ledger, options=f"{number}")
    taken: list[str] = []

    def work() -> None:
        worker = ledger.enter("one", ENGINE, 1)
        while waiting := ledger.takeable(ENGINE):
            if found := ledger.take(worker, waiting[0].name):
                taken.append(found.id)
                ledger.finish("k", found.id, found.run, Output(), CRASHED)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(set(taken)), rows(ledger)) == (30, 30, [])


def test_the_jobs_of_the_dead_are_given_to_others_and_change_nothing(ledger):
    dead, alive = ledger.enter("dead", ENGINE, 1), ledger.enter("alive", ENGINE, 1)
    made = [submit(ledger, options=f"{number}") for number in range(2)]
    stale, other = took(ledger, dead), took(ledger, alive)
    assert ledger.recover(DEAD) == []
    silent(ledger, dead)
    assert len(ledger.recover(DEAD)) == 1
    assert sorted(rows(ledger)) == [("a", "todo"), ("s", "doing")]
    kept = ledger.job("k", stale.id)
    assert (kept.status, kept.interruptions, kept.crashes, kept.kills, kept.is_suspect) == ("queued", 1, 0, 0, True)
    assert not ledger.finish("k", stale.id, stale.run, OUTPUT, None)
    again = took(ledger, alive)
    assert (again.id, again.attempts) == (stale.id, 2)
    assert not ledger.finish("k", stale.id, stale.run, OUTPUT, None)
    assert ledger.finish("k", again.id, again.run, OUTPUT, None)
    assert ledger.finish("k", other.id, other.run, OUTPUT, None)
    assert {ledger.job("k", one.id).status for one in made} == {"done"}
    assert not ledger.beat(dead).is_known
    assert [worker.name for worker in ledger.all_workers()] == ["alive"]


def test_a_worker_learns_what_is_its_own(ledger):
    worker, made = ledger.enter("one", ENGINE, 1), submit(ledger)
    running = took(ledger, worker)
    beat = ledger.beat(worker)
    assert (beat.is_known, beat.draining, beat.runs) == (True, False, {running.run: ("k", made.id)})
    ledger.cancel("k", made.id)
    assert ledger.beat(worker).runs == {}
    assert ledger.drain(worker)
    assert ledger.beat(worker).draining
    ledger.leave(worker)
    assert not ledger.drain(worker)


def test_a_suspect_waits_longer_each_time(ledger):
    made = submit(ledger)
    for deaths in range(1, 4):
        worker = ledger.enter("one", ENGINE, 1)
        with ledger._database.write() as connection:
            connection.execute(text("UPDATE procrastinate_jobs SET scheduled_at = now()"))
        assert took(ledger, worker) is not None
        silent(ledger, worker)
        ledger.recover(DEAD)
        with ledger._database.read() as connection:
            due = text("SELECT EXTRACT(EPOCH FROM scheduled_at - now()) FROM procrastinate_jobs")
            assert connection.execute(due).scalar_one() <= ledger.job("k", made.id).pause
        assert (ledger.takeable(ENGINE) == []) == (deaths > 1)


def test_workers_that_die_again_and_again_while_a_job_runs_alone_are_evidence(ledger):
    workers: list[int] = []
    due = text("UPDATE procrastinate_jobs SET scheduled_at = now() + (args->>'job' <> :job)::int * interval '1 h'")

    def start(made: Job) -> Job:
        workers.append(ledger.enter("one", ENGINE, 1))
        with ledger._database.write() as connection:
            connection.execute(due, {"job": made.id})
        running = took(ledger, workers[-1])
        assert running.id == made.id
        return running

    def die() -> list[Job]:
        for worker in workers:
            silent(ledger, worker)
        return [job for job in ledger.recover(DEAD) if not job.is_open]

    lone_deaths_are_evidence(ledger, start, die)
    assert rows(ledger) == [("a", "todo"), ("s", "todo")]


def test_a_client_that_waits_is_served_first(ledger):
    worker = ledger.enter("one", ENGINE, 1)
    made = [submit(ledger, options=f"{number}") for number in range(3)]
    ledger.hurry(made[2])
    assert [one.urgent for one in ledger.waiting()] == [True]
    assert took(ledger, worker).id == made[2].id
    assert took(ledger, worker).id == made[0].id


def test_a_job_that_somebody_changes_is_left_to_the_next_look(ledger):
    """Neither waits for the other: they lock job and row in different order."""
    worker, made = ledger.enter("one", ENGINE, 1), submit(ledger)
    with ledger._database.write() as connection:
        connection.execute(text("SELECT FROM jobs FOR UPDATE"))
        assert took(ledger, worker) is None
    assert rows(ledger) == [("s", "todo")]
    assert took(ledger, worker).id == made.id


def test_a_row_without_a_job_goes(ledger):
    worker = ledger.enter("one", ENGINE, 1)
    submit(ledger)
    with ledger._database.write() as connection:
        connection.execute(text("DELETE FROM jobs"))
    assert took(ledger, worker) is None
    assert rows(ledger) == []


@pytest.mark.parametrize("status", ["queued", "running"])
def test_open_jobs_that_are_not_queued_are_found(ledger, status):
    """As in a ledger that was restored, or had a server that folded itself."""
    made = submit(ledger)
    with ledger._database.write() as connection:
        connection.execute(text("DELETE FROM procrastinate_jobs"))
        connection.execute(text("UPDATE jobs SET status = :status"), {"status": status})
    assert ledger.reconcile() == 1
    assert ledger.reconcile() == 0
    kept = ledger.job("k", made.id)
    assert (kept.status, kept.interruptions) == ("queued", int(status == "running"))
    assert rows(ledger) == [("a" if status == "running" else "s", "todo")]


def test_a_parked_job_waits_for_an_operator(ledger):
    worker, made = ledger.enter("one", ENGINE, 1), submit(ledger)
    running = took(ledger, worker)
    assert ledger.park("k", made.id)
    assert not ledger.park("k", made.id)
    assert rows(ledger) == []
    assert ledger.beat(worker).runs == {}
    assert not ledger.finish("k", made.id, running.run, OUTPUT, None)
    assert ledger.reconcile() == 0
    assert ledger.unfinished() == []
    assert ledger.retry("k", made.id)
    assert took(ledger, worker).id == made.id


def test_jobs_wait_for_a_worker_of_their_version_while_there_is_one(ledger):
    """A rolling upgrade: results belong to the version that accepted the job."""
    old, new = ledger.enter("old", ENGINE, 1), ledger.enter("new", "bnfold 9", 1)
    submit(ledger)
    assert took(ledger, new, "bnfold 9") is None
    assert took(ledger, old) is not None
    other = submit(ledger, options="1")
    ledger.leave(old)
    assert took(ledger, new, "bnfold 9").id == other.id


def test_messages_of_another_version_are_left_to_who_knows_them(ledger):
    worker = ledger.enter("one", ENGINE, 1)
    made = submit(ledger)
    with ledger._database.write() as connection:
        connection.execute(text("UPDATE procrastinate_jobs SET queue_name = '2' || substr(queue_name, 2)"))
    assert took(ledger, worker) is None
    assert [one.version for one in ledger.waiting()] == ["2"]
    with ledger._database.write() as connection:  # and fields that are not known are ignored
        more = """UPDATE procrastinate_jobs SET queue_name = :name, args = args || '{"more": [1]}'"""
        connection.execute(text(more), {"name": queue_name(made)})
    assert took(ledger, worker).id == made.id


def test_an_older_bnfold_writes_what_a_newer_one_reads(ledger):
    """It knows no column that came later."""
    worker, made = ledger.enter("one", ENGINE, 1), submit(ledger)
    with ledger._database.write() as connection:
        connection.execute(text("CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM jobs"))
        for name in ADDED:
            connection.execute(text(f"ALTER TABLE kept DROP COLUMN {name}"))
        columns = ", ".join(row[0] for row in connection.execute(text(COLUMNS)))
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(text(f"INSERT INTO jobs ({columns}) SELECT * FROM kept"))  # noqa: S608
    assert took(ledger, worker).id == made.id


def test_tables_of_a_newer_procrastinate_stay_what_they_are(ledger, database_url):
    """Else the newer one would migrate them again."""
    asked = text("SELECT obj_description('procrastinate_jobs'::regclass)")
    with ledger._database.write() as connection:
        own = connection.execute(asked).scalar_one()
        connection.execute(text("COMMENT ON TABLE procrastinate_jobs IS '99.00.00_later.sql'"))
    open_shared(database_url).close()
    with ledger._database.write() as connection:
        assert connection.execute(asked).scalar_one() == "99.00.00_later.sql"
        connection.execute(text(f"COMMENT ON TABLE procrastinate_jobs IS '{own}'"))  # other tests have them, too


def test_the_name_of_a_queue_is_read_back(ledger):
    made = replace(job("0123456789abcdef"), kills=1)
    found = Waiting(queue_name(made), urgent=False, number=1)
    assert (found.version, found.kind, found.key) == ("1", "a", made.key)
    assert len("procrastinate_queue_v1#" + queue_name(replace(made, key="f" * 32))) < 64  # a channel of PostgreSQL


def test_a_database_has_one_server_that_folds_itself_or_a_cluster(database_url, tmp_path):
    local, cluster, more = open_ledger(tmp_path, database_url), open_shared(database_url), open_shared(database_url)
    cluster.claim(shared=True)
    more.claim(shared=True)
    with pytest.raises(RuntimeError, match="is used by another server"):
        local.claim(shared=False)
    for one in (local, cluster, more):
        one.close()


def test_a_database_that_does_not_answer_is_not_waited_for(ledger, monkeypatch):
    """As with a network that takes the bytes, and passes nothing on."""
    monkeypatch.setattr(database, "ANSWER_SECONDS", 0.5)
    with pytest.raises(OperationalError), ledger._database.write(0.5) as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    ledger.check()


def test_who_is_killed_in_a_transaction_has_changed_nothing(ledger, postgres: Postgres):
    worker, made = ledger.enter("one", ENGINE, 1), submit(ledger)

    def killed() -> None:
        with ledger._database.write() as connection:
            connection.execute(text("DELETE FROM jobs"))
            own = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with psycopg.connect(postgres.url(), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (own,))

    with pytest.raises(OperationalError):
        killed()
    assert took(ledger, worker).id == made.id


def test_two_servers_recover_a_job_once(database_url):
    servers = [open_shared(database_url) for _ in range(2)]
    worker, made = servers[0].enter("one", ENGINE, 1), submit(servers[0])
    assert took(servers[0], worker) is not None
    silent(servers[0], worker)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda s=server: counts.append(len(s.recover(DEAD)))) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 1
    assert servers[1].job("k", made.id).interruptions == 1
    for server in servers:
        server.close()


def test_servers_share_the_latest_clock(database_url):
    servers = [open_shared(database_url) for _ in range(2)]
    servers[0]._database.clock._stored += 1000
    for server in servers:
        server.recover(DEAD)
    first, second = (server._database.clock.now() for server in servers)
    assert abs(first - second) < 100
    for server in servers:
        server.close()


def test_a_sweep_and_a_submission_exclude_each_other(database_url):
    """What is about to be used is not swept: the sweep waits for who decides by all that the key has."""
    servers = [open_shared(database_url) for _ in range(2)]
    servers[0].cancel("k", submit(servers[0]).id)
    gone: list[list[str]] = []
    with servers[0]._database.write() as connection:
        database.alone(connection, ["key k"])
        thread = threading.Thread(target=lambda: gone.append(servers[1].sweep(-1, 0)))
        thread.start()
        waits = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        until(lambda: connection.execute(waits).scalar_one())
        connection.execute(text("UPDATE holdings SET used = used + 1000"))
        connection.execute(text("UPDATE jobs SET status = 'queued', problem = NULL, detail = NULL"))
    thread.join()
    assert gone == [[]]
    assert servers[0].holding("k", MODEL.sha256) == MODEL
    for server in servers:
        server.close()
