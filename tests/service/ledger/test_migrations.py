"""The migrations: a ledger of every version so far opens with all that it had, and goes back by one version."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from service.ledger import migrations
from service.ledger.records import Quota
from service.ledger.sql import FILE, open_ledger, step_back

if TYPE_CHECKING:
    from pathlib import Path

MODEL, RESULT = "a" * 64, "b" * 64
KEY = "INSERT INTO keys (id, name, hash, scopes, quota, created) VALUES ('k', 'mine', ?, 'fold', ?, ?)"
DAY = 24 * 60 * 60.0


def versions() -> list[str]:
    """All versions, the first released one first."""
    with create_engine("sqlite://").connect() as connection:
        script = ScriptDirectory.from_config(migrations._config(connection))
    return [made.revision for made in reversed(list(script.walk_revisions()))]


def made_by(version: str, data: Path) -> None:
    """A ledger as that version wrote it: a key, two jobs, what they hold, and a request."""
    data.mkdir()
    engine = create_engine(f"sqlite:///{data / FILE}")
    with engine.begin() as connection:
        command.upgrade(migrations._config(connection), version)
    engine.dispose()
    now = time.time()
    job = ("k", "model.onnx", MODEL, 10, 0, "{}", "bnfold 0.1.0", now, now)
    names = "key, name, input_sha256, input_bytes, archive, options, engine, created, updated"
    with closing(sqlite3.connect(data / FILE)) as connection:
        connection.execute(KEY, ("f" * 64, '{"bytes": 9}', now))
        given = f"INSERT INTO jobs ({names}, id, status, progress, attempts, result_sha256, result_bytes, media)"
        values = f"VALUES ({', '.join('?' * len(job))}, ?, ?, 0, 2, ?, ?, '')"
        connection.execute(f"{given} {values}", (*job, "1" * 64, "done", RESULT, 5))
        connection.execute(f"{given} {values}", (*job, "2" * 64, "running", None, None))
        for sha256, size in ((MODEL, 10), (RESULT, 5)):
            connection.execute("INSERT INTO holdings VALUES ('k', ?, ?, ?)", (sha256, size, now))
        connection.execute("INSERT INTO idempotency VALUES ('k', 'token', ?, ?)", ("c" * 64, now))
        connection.commit()


def content(data: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows that every version has."""
    with closing(sqlite3.connect(data / FILE)) as connection:
        jobs = connection.execute("SELECT key, id, status, attempts, result_sha256, created FROM jobs ORDER BY id")
        keys = connection.execute("SELECT id, name, hash FROM keys")
        holdings = connection.execute("SELECT key, sha256, bytes FROM holdings ORDER BY sha256")
        requests = connection.execute("SELECT key, token, fingerprint FROM idempotency")
        return {"jobs": list(jobs), "keys": list(keys), "holdings": list(holdings), "idempotency": list(requests)}


def version(data: Path) -> str:
    with closing(sqlite3.connect(data / FILE)) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found)


@pytest.mark.parametrize("old", versions())
def test_a_ledger_of_every_version_is_read(tmp_path, old):
    data = tmp_path / "data"
    made_by(old, data)
    before = content(data)
    ledger = open_ledger(data)
    try:
        assert content(data) == before
        assert ledger.key("k").quota == Quota(bytes=9)
        assert [(job.id, job.attempts, job.is_suspect) for job in ledger.unfinished()] == [("2" * 64, 2, False)]
        assert list(iter(lambda: ledger.sweep(DAY, 100), [])) == []  # nothing became older
        assert ledger.job("k", "1" * 64).output.result.sha256 == RESULT
        assert ledger.start("k", "2" * 64).attempts == 3
    finally:
        ledger.close()
    assert version(data) == versions()[-1]


@pytest.mark.parametrize("old", versions()[1:])
def test_every_version_goes_back_to_the_one_before(tmp_path, old):
    data, before = tmp_path / "data", versions()[versions().index(old) - 1]
    made_by(old, data)
    kept = content(data)
    assert step_back(data) == before
    assert content(data) == kept
    ledger = open_ledger(data)  # and forth again
    assert ledger.job("k", "1" * 64) is not None
    ledger.close()
    assert content(data) == kept


def test_what_the_version_before_does_not_know_is_taken_out(tmp_path):
    """Times go back to those of the system's clock, from which the clock of the ledger was away."""
    open_ledger(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("UPDATE clock SET seconds = seconds - ?", (8 * DAY,))  # no server ran for so long
        quota = json.dumps({"rate": None, "open_jobs": 1, "bytes": 2, "weight": 3})
        connection.execute(KEY, ("f" * 64, quota, 1))
        connection.execute("INSERT INTO holdings VALUES ('k', ?, 1, ?)", (MODEL, time.time() - 8 * DAY))
        connection.commit()
    while step_back(tmp_path) != "0003":
        pass
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        (kept,) = connection.execute("SELECT quota FROM keys").fetchone()
        assert json.loads(kept) == {"rate": None, "open_jobs": 1, "bytes": 2}
        (used,) = connection.execute("SELECT used FROM holdings").fetchone()
        assert abs(used - time.time()) < DAY


def of_a_newer(data: Path, newer: str) -> None:
    """A ledger of this version, with what a newer one has added to it."""
    made_by(versions()[-1], data)
    with closing(sqlite3.connect(data / FILE)) as connection:
        connection.execute("ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT 'none'")
        connection.execute("UPDATE alembic_version SET version_num = ?", (newer,))
        connection.commit()


def test_a_ledger_that_a_newer_one_only_added_to_is_used_as_it_is(tmp_path, caplog):
    data = tmp_path / "data"
    of_a_newer(data, "0099")
    kept = content(data)
    ledger = open_ledger(data)
    assert content(data) == kept
    assert ledger.start("k", "2" * 64).attempts == 3
    ledger.close()
    assert version(data) == "0099"
    assert "migrated by a newer bnfold, to 0099" in caplog.text


@pytest.mark.parametrize("newer", ["0101", "v9999"])
def test_a_ledger_of_another_generation_is_refused_as_it_is(tmp_path, newer):
    data = tmp_path / "data"
    of_a_newer(data, newer)
    kept = content(data)
    with pytest.raises(RuntimeError, match="was written by a newer bnfold"):
        open_ledger(data)
    assert (version(data), content(data)) == (newer, kept)


def test_the_first_version_goes_no_further_back(tmp_path):
    made_by(versions()[0], tmp_path / "data")
    with pytest.raises(RuntimeError, match="there is no version before 0001"):
        step_back(tmp_path / "data")
