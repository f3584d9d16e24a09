"""A plugin of pytest: a real PostgreSQL and a real S3-compatible server, each started once for all tests."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from service.ledger.sql import open_shared
from tests.support.service import postgres as servers
from tests.support.service.server import Process
from tests.support.service.store import Store
from tests.support.service.worker import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.support.service.postgres import Postgres

TABLES = "keys, jobs, holdings, idempotency, webhooks, workers, procrastinate_jobs, procrastinate_workers"
COLUMNS = """SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    yield from servers.running()


class Ledgers:
    """Empty ledgers, one after the other in the same database: to make a database takes longer than to empty one."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._make()

    def empty(self) -> str:
        """The URL of one."""
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute(f"TRUNCATE {TABLES} CASCADE")
                connection.execute("UPDATE clock SET seconds = extract(epoch FROM now())")
                is_whole = connection.execute(COLUMNS).fetchall() == self._columns
        except psycopg.errors.UndefinedTable:
            is_whole = False
        if not is_whole:  # a test has broken it
            self._make()
        return self._url

    def _make(self) -> None:
        self._url = self._postgres.url(self._postgres.database())
        open_shared(self._url).close()
        with psycopg.connect(self._url) as connection:
            self._columns = connection.execute(COLUMNS).fetchall()


@pytest.fixture(scope="session")
def ledgers(postgres: Postgres) -> Ledgers:
    return Ledgers(postgres)


@pytest.fixture
def database_url(ledgers: Ledgers) -> str:
    """The URL of an empty ledger."""
    return ledgers.empty()


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    with Store() as server:
        yield server


class Cluster:
    """Servers and workers with one ledger and one store."""

    def __init__(self, folder: Path, database: str, store: Store, **settings: Any) -> None:
        self.folder, self.store, self.database = folder, store, database
        self.blobs = store.url()
        self.settings = {"engine": "cluster", "database_url": database, "blobs_url": self.blobs, "secrets": folder}
        self.settings |= settings
        self.servers: list[Process] = []
        self.workers: list[WorkerProcess] = []

    def server(self, *paths: Path, **settings: Any) -> httpx.Client:
        """A new server, of the packages in these folders."""
        place = self.folder / f"server{len(self.servers)}"
        place.mkdir(exist_ok=True)
        server = Process(place / "data", *paths, **{**self.settings, **settings})
        self.servers.append(server)
        return server.start()

    def worker(self, *paths: Path, entering: tuple[str, ...] = (), **settings: Any) -> WorkerProcess:
        """A new worker, of the packages in these folders; `entering` is what its command begins with."""
        place = self.folder / f"worker{len(self.workers)}" / "data"
        made = WorkerProcess(place, *paths, entering=entering, **{**self.settings, "workers": 1, **settings})
        self.workers.append(made)
        made.start()
        return made

    def close(self) -> None:
        for one in (*self.servers, *self.workers):
            if one.process.poll() is None:
                one.kill()


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        stack.callback(store.honest)
        made = Cluster(tmp_path, database_url, store)
        stack.callback(made.close)
        yield made
