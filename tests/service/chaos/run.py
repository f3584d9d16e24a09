"""A run of chaos: clients send, something happens, it is over; then every job has to end, as it deserves."""

from __future__ import annotations

import os
import random
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tests.service.chaos.clients import Clients
from tests.service.chaos.models import instant
from tests.service.chaos.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tests.service.chaos.models import Model

SEEDS = int(os.environ.get("CHAOS_SEEDS", "0"))  # 0: a slice, all that can happen one after the other


class Setup(ABC):
    """Servers, and what belongs to them; a set-up of its own for each run."""

    name: str
    how = ""  # what happens is made, where there are several ways

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, random.Random(seed)
        self.clients: Clients
        self.make: Callable[[random.Random, str], Model] = instant

    @abstractmethod
    def start(self) -> None:
        """Start all of it."""

    @abstractmethod
    def urls(self) -> list[str]:
        """Where its running servers listen."""

    @abstractmethod
    def check(self) -> None:
        """Whether nothing is left behind, when all jobs have ended."""

    @abstractmethod
    def close(self) -> None:
        """End all of it."""

    def pause(self, shortest: float = 0.2, longest: float = 1.5) -> None:
        """Wait at random."""
        time.sleep(self.random.uniform(shortest, longest))

    @property
    def rounds(self) -> int:
        """How many times something happens."""
        return 3 if SEEDS else 1


S = TypeVar("S", bound=Setup)


@dataclass(frozen=True)
class Scenario(Generic[S]):
    """Something that happens to a set-up; its docstring says what. `before` is what it needs before servers start."""

    happens: Callable[[S], None]
    settings: dict[str, Any] = field(default_factory=dict)  # of servers and workers
    may_ask_again: bool = False  # the service may answer that a model has to be sent again
    before: Callable[[S], AbstractContextManager[None]] | None = None
    is_real: bool = False  # models and their folds are real ones, where it happens alone

    @property
    def name(self) -> str:
        return self.happens.__name__

    @property
    def what(self) -> str:
        return " ".join((self.happens.__doc__ or "").split())


def runs(scenarios: Sequence[Scenario[S]]) -> list[tuple[Scenario[S], ...]]:
    """Each for itself, or in the slice one after the other."""
    return [(one,) for one in scenarios] if SEEDS else [tuple(scenarios)]


def seeds() -> range:
    """The seeds of each."""
    return range(SEEDS or 1)


def name_of(scenarios: Sequence[Scenario[S]]) -> str:
    """The name of a run."""
    return "+".join(one.name for one in scenarios)


@contextmanager
def running(setup: S, scenarios: Sequence[Scenario[S]], record: Record) -> Iterator[None]:
    """The set-up while it runs, with clients that send."""
    may_ask_again = any(one.may_ask_again for one in scenarios)
    with ExitStack() as stack:
        for before in filter(None, (one.before for one in scenarios)):
            stack.enter_context(before(setup))
        stack.callback(setup.close)
        setup.start()
        setup.clients = Clients(setup.urls, record, setup.make, may_ask_again=may_ask_again)
        stack.callback(setup.clients.close)
        yield


def run(setup: S, scenarios: Sequence[Scenario[S]]) -> None:
    """Let it happen while clients send; nothing may be lost, condemned or different then."""
    what = " ".join(one.what for one in scenarios)
    record = Record(setup.name, name_of(scenarios), setup.seed, what)
    try:
        with running(setup, scenarios, record):
            setup.clients.start()
            for scenario in scenarios:
                scenario.happens(setup)
            healed = time.monotonic()
            setup.clients.end()
            setup.clients.follow()
            record.recovery = round(time.monotonic() - healed, 1)
            setup.clients.compare()
            record.how = setup.how
            surprises = setup.clients.surprises
            setup.check()
    except Exception as error:
        record.error = f"{type(error).__name__}: {error}"[:500]
        record.write()
        raise
    record.write()
    assert not surprises, surprises
    assert (record.lost, record.condemned, record.different) == (0, 0, 0)
    assert record.accepted == record.done + record.failed
