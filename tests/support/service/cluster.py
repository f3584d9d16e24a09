"""A plugin of pytest: a real PostgreSQL and a real S3-compatible server, each started once for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from service.ledger.sql import open_shared
from tests.support.service import postgres as servers
from tests.support.service.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.service.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    yield from servers.running()


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """The name of a database with all tables."""
    name = postgres.database()
    open_shared(postgres.url(name)).close()
    return name


@pytest.fixture
def database_url(postgres: Postgres, template: str) -> str:
    """The URL of a new ledger."""
    return postgres.url(postgres.database(template))


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    with Store() as server:
        yield server
