"""Deaths: the process of a fold dies, of itself or because something kills it, and what that means for its job."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from service.engine import runner
from service.ledger.rows import LONE_DEATHS
from service.ledger.sql import FILE
from tests.service.engine.test_local import slug
from tests.support.processes import of_folds
from tests.support.service.server import Process, Running, ended, held, model_bytes, submit
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


KEEPER_AND_WORKER = 2  # the processes of a fold that there are always, without a sandbox


@pytest.fixture
def running(tmp_path, monkeypatch) -> Iterator[Running]:
    monkeypatch.setattr(runner, "END_SECONDS", 0.0)
    with Running(tmp_path / "data") as server:
        yield server


def state(running: Running, job: str) -> tuple[str, int]:
    document = running.client.get(f"/v1/jobs/{job}").raise_for_status().json()
    return document["status"], document["attempts"]


def kill(running: Running, job: str, attempt: int, number: signal.Signals) -> None:
    """Kill the process of a fold and its keeper, once it runs for the n-th time."""
    until(lambda: state(running, job) == ("running", attempt))
    until(lambda: len(of_folds(os.getpid())) >= KEEPER_AND_WORKER)
    for pid in reversed(of_folds(os.getpid())):
        with suppress(ProcessLookupError):  # one that ended on its own meanwhile
            os.kill(pid, number)


def test_a_process_that_crashes_is_tried_three_times_and_again_when_asked(running):
    job = submit(running.client, b"ABORT")
    document = ended(running.client, job)
    assert (slug(document), document["attempts"]) == ("crashed", 3)
    assert submit(running.client, b"ABORT") == job  # a new request
    assert ended(running.client, job)["attempts"] == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_something_else_killed_is_tried_once_more(running, tmp_path, number):
    job = submit(running.client, held(tmp_path / "gate"))
    kill(running, job, 1, number)
    until(lambda: state(running, job) == ("running", 2))
    (tmp_path / "gate").touch()
    document = ended(running.client, job)
    assert (document["status"], document["attempts"]) == ("done", 2)


def test_it_runs_alone_then(running, tmp_path):
    gates = [tmp_path / name for name in "abc"]
    first = submit(running.client, held(gates[0], 0))
    kill(running, first, 1, signal.SIGKILL)
    until(lambda: state(running, first) == ("running", 2))
    second = submit(running.client, held(gates[1], 1))
    assert state(running, second) == ("queued", 0)  # there are two slots
    kill(running, first, 2, signal.SIGKILL)
    document = ended(running.client, first)
    assert (slug(document), document["attempts"]) == ("killed", 2)
    assert "also when nothing else ran" in document["problem"]["detail"]
    until(lambda: state(running, second) == ("running", 1))
    assert submit(running.client, held(gates[0], 0)) == first  # a new request: no suspect any more
    until(lambda: state(running, first) == ("running", 1))
    for gate in gates:
        gate.touch()
    assert [ended(running.client, job)["status"] for job in (first, second)] == ["done", "done"]


def test_what_is_cancelled_while_it_waits_makes_room(running, tmp_path):
    gate = tmp_path / "gate"
    jobs = [submit(running.client, held(gate, seed)) for seed in range(3)]
    until(lambda: [state(running, job)[0] for job in jobs] == ["running", "running", "queued"])
    running.client.delete(f"/v1/jobs/{jobs[2]}")
    assert len(running.app.state.service.engine._waiting) == 0
    assert submit(running.client, held(gate, 2)) == jobs[2]
    gate.touch()
    assert [ended(running.client, job)["status"] for job in jobs] == ["done"] * 3
    assert running.client.post("/v1/fold", content=model_bytes()).status_code == 200


def test_a_job_that_takes_its_server_with_it_again_and_again_ends(tmp_path):
    """After as many deaths in a row while nothing else ran; a new request tries again."""
    process, gate = Process(tmp_path / "data"), tmp_path / "gate"
    client = process.start()
    job = submit(client, held(gate))
    until(lambda: client.get(f"/v1/jobs/{job}").json()["status"] == "running")
    process.kill()
    with closing(sqlite3.connect(tmp_path / "data" / FILE)) as ledger, ledger:  # the deaths before this one
        ledger.execute("UPDATE jobs SET interruptions = ?", (LONE_DEATHS,))
    client = process.start()
    document = ended(client, job)
    assert (document["status"], slug(document)) == ("failed", "crashed")
    assert "the server died 5 times in a row" in document["problem"]["detail"]
    assert '"outcome": "crashed"' in (tmp_path / "log").read_text()
    gate.touch()
    assert submit(client, held(gate)) == job
    assert ended(client, job)["status"] == "done"
    assert process.stop() == 0
