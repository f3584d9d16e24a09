"""The ledger is locked, read-only, full or broken: 503 and Retry-After; at the start one sentence, no traceback."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from service.ledger import database
from service.ledger.sql import FILE
from tests.service.engine.test_local import slug
from tests.support import ROOT
from tests.support.service.server import FAULTY, Running, model_bytes, submit
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["FAULTY"]


@contextmanager
def locked(running: Running) -> Iterator[None]:
    other = sqlite3.connect(running.settings.data / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def read_only(running: Running) -> Iterator[None]:
    with pragma(running, "query_only=ON", "query_only=OFF"):
        yield


@contextmanager
def full(running: Running) -> Iterator[None]:
    """No page more than there are now."""
    with pragma(running, "max_page_count=1", "max_page_count=1000000"):
        yield


@contextmanager
def pragma(running: Running, on: str, off: str) -> Iterator[None]:
    engine = running.app.state.service.ledger._database._engine
    current = on

    def begin(connection: object) -> None:
        connection.exec_driver_sql(f"PRAGMA {current}")  # type: ignore[attr-defined]

    event.listen(engine, "begin", begin)
    try:
        yield
    finally:
        current = off


MANY = 40  # requests: some of them find room in the pages that there are


@pytest.mark.parametrize("fault", [locked, read_only, full])
def test_a_ledger_that_cannot_be_written_is_503_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Running], AbstractContextManager[None]]
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    with Running(tmp_path / "data", sweep_seconds=0.2, workers=1) as running:
        before = submit(running.client, model_bytes(seed=1000))
        until(lambda: running.client.get(f"/v1/jobs/{before}").json()["status"] == "done")
        with fault(running):
            answers = [
                running.client.post("/v1/fold", content=b"x%d" % seed, headers={"Prefer": "respond-async"})
                for seed in range(MANY)
            ]
            refused = [answer for answer in answers if answer.status_code != 202]
            assert refused
            for answer in refused:
                assert (answer.status_code, slug({"problem": answer.json()})) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) > 0
            assert running.client.get("/livez").status_code == 200
            assert running.client.get(f"/v1/jobs/{before}").status_code == 200
            assert running.client.get("/readyz").status_code in ({200, 503} if fault is full else {503})
        until(lambda: running.client.post("/v1/fold", content=model_bytes()).status_code == 200)  # 0.2 s is short
        for answer in answers:
            if answer.status_code == 202:
                job = answer.json()["id"]
                until(lambda job=job: running.client.get(f"/v1/jobs/{job}").json()["status"] == "failed")


def broken(path: Path) -> None:
    """The middle of the file is something else."""
    data = bytearray(path.read_bytes())
    data[4096:-4096] = b"\xaa" * len(data[4096:-4096])
    path.write_bytes(data)


def test_a_ledger_that_breaks_is_503(tmp_path):
    with Running(tmp_path / "data") as running:
        for seed in range(20):
            submit(running.client, model_bytes(seed))
        job = submit(running.client, model_bytes(99))
        until(lambda: running.client.get(f"/v1/jobs/{job}").json()["status"] == "done")
        ledger = running.app.state.service.ledger
        with ledger._database.write() as connection:
            connection.exec_driver_sql("DROP TABLE idempotency")
            connection.exec_driver_sql("ALTER TABLE holdings RENAME TO gone")
        answer = running.client.post("/v1/fold", content=model_bytes())
        assert (answer.status_code, slug({"problem": answer.json()})) == (503, "unavailable")
        with ledger._database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE gone RENAME TO holdings")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (broken, "ledger.sqlite3 "),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "ledger.sqlite3 "),
    ],
    ids=["broken", "cut"],
)
def test_a_server_does_not_start_with_a_broken_ledger(tmp_path, spoil, says):
    data = tmp_path / "data"
    with Running(data) as running:
        for seed in range(30):
            running.client.post("/v1/fold", content=b"x%d" % seed)
    spoil(data / FILE)
    command = [sys.executable, "-m", "folding", "serve", "--port", "0", "--data", str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr
    assert "restore the file" in done.stderr


def test_a_start_that_fails_late_is_one_sentence(tmp_path):
    """The ledger is in order when it is looked at, and another error comes then."""
    data = tmp_path / "data"
    (data / "blobs" / "sha256").mkdir(parents=True)
    (data / "blobs" / "partial").write_text("no folder")
    command = [sys.executable, "-m", "folding", "serve", "--port", "0", "--data", str(data)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "the server cannot start: " in done.stderr
