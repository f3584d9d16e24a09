"""The clock of the ledger: it advances only while a server runs, whatever happens to the clock of the system.

Ages are differences of its times: how long a blob was not used, when a webhook is due. It began with the system's
time, and the ledger stores it. So neither a jump of the system's clock nor the time in which no server ran makes
anything older. Of several servers each has a clock, and the latest of them counts. What people read, and what goes on
the wire, is the time of the system.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from service.ledger.schema import clock

if TYPE_CHECKING:
    from sqlalchemy import Connection

OPTION = "clock"  # of an engine, and so of its connections
STEP = 0.5  # seconds: what is stored is never older while servers write it, and they do not all write it


class Clock:
    """Seconds since the clock began, continued from those that are stored."""

    def __init__(self, stored: float) -> None:
        self._stored, self._since = stored, time.monotonic()

    def now(self) -> float:
        """The time in seconds."""
        return self._stored + time.monotonic() - self._since

    def catch_up(self, stored: float) -> None:
        """Go on from a time that another server stored, if it is later: this one may have slept meanwhile."""
        self._stored += max(stored - self.now(), 0.0)


def read(connection: Connection) -> Clock:
    """The clock, as it was stored last."""
    return Clock(connection.execute(select(clock.c.seconds)).scalar_one())


def write(connection: Connection) -> None:
    """Store the time, from which the next server continues, and go on from that of others."""
    stored = connection.execute(select(clock.c.seconds)).scalar_one()
    current: Clock = connection.get_execution_options()[OPTION]
    current.catch_up(stored)
    if current.now() - stored >= STEP:
        connection.execute(update(clock).where(clock.c.seconds < current.now()).values(seconds=current.now()))


def now(connection: Connection) -> float:
    """The time in seconds."""
    current: Clock = connection.get_execution_options()[OPTION]
    return current.now()
