"""The ground of clusters: PostgreSQL, an S3-compatible store, and a network in which one worker can be cut off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tests.support.service.cluster import Ledgers
from tests.support.service.namespaces import HERE, NamespaceError, Networks
from tests.support.service.network import Network
from tests.support.service.postgres import LOCAL, Postgres
from tests.support.service.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ground(ABC):
    """What the clusters of these tests stand on, one after the other.

    The one that can be cut off is a worker whose command begins with `entering`, and whose database is `apart(URL)`.
    """

    entering: tuple[str, ...] = ()

    def __init__(self, postgres: Postgres, store: Store) -> None:
        self.postgres, self.store, self.ledgers = postgres, store, Ledgers(postgres)

    @abstractmethod
    def apart(self, database: str) -> str:
        """The URL of a database for that worker."""

    @abstractmethod
    def cut(self, seed: int) -> str:
        """Cut that worker off from PostgreSQL, and from nothing else; return how, which the seed decides."""

    @abstractmethod
    def heal(self) -> None:
        """Let all pass again."""


class InNamespaces(Ground):
    """The worker is in a network namespace of its own."""

    def __init__(self, postgres: Postgres, store: Store, networks: Networks) -> None:
        super().__init__(postgres, store)
        self._networks, self.entering = networks, networks.entering

    def apart(self, database: str) -> str:
        return database

    def cut(self, seed: int) -> str:
        if seed % 2:
            self._networks.cut("drop")
            return "network namespaces, packets dropped"
        self._networks.cut("down")
        return "network namespaces, link down"

    def heal(self) -> None:
        self._networks.heal()


class BehindAProxy(Ground):
    """The worker reaches PostgreSQL through a proxy, where no network namespace can be made."""

    def __init__(self, postgres: Postgres, store: Store, network: Network) -> None:
        super().__init__(postgres, store)
        self._network = network

    def apart(self, database: str) -> str:
        return database.replace(f"@{LOCAL}:{self.postgres.port}/", f"@{LOCAL}:{self._network.port}/")

    def cut(self, _: int) -> str:
        self._network.cut()
        return "a proxy that takes bytes and passes nothing on"

    def heal(self) -> None:
        self._network.heal()


@contextmanager
def ground() -> Iterator[Ground]:
    """The ground, in network namespaces if they can be made."""
    with ExitStack() as stack:
        try:
            networks = stack.enter_context(Networks())
        except NamespaceError:
            networks = None
        postgres = Postgres(HERE if networks else LOCAL)
        stack.callback(postgres.close)
        store = stack.enter_context(Store())
        if networks is None:
            yield BehindAProxy(postgres, store, stack.enter_context(Network(postgres.port)))
        else:  # the store is reached by another way, which stays
            stack.enter_context(Network(store.port, networks.listener(store.port)))
            yield InNamespaces(postgres, store, networks)
