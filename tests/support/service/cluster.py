"""A plugin of pytest: a real PostgreSQL and a real S3-compatible server, each started once for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from service.ledger.sql import open_shared
from tests.support.service import postgres as servers
from tests.support.service.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

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
