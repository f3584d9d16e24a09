"""Listening: PostgreSQL's notifications about jobs. One that is lost costs time, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import psycopg

from service.changes import Address
from service.ledger.database import DIALED
from service.ledger.queue import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger("bnfold")
QUIET_SECONDS = 5.0  # without a notification, after which the connection is tried
AGAIN_SECONDS = 1.0


async def listen(url: str, on_change: Callable[[str, Address], None], on_gap: Callable[[], None]) -> None:
    """Call `on_change` for each notification, and `on_gap` when some may have been missed; never returns."""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True, **DIALED) as connection:
                await connection.execute(f"LISTEN {CHANNEL}".encode())
                on_gap()
                await _listen(connection, on_change)
        except (psycopg.Error, OSError) as error:
            LOG.warning("notifications cannot be received now; it is tried again: %s", str(error).partition("\n")[0])
        await asyncio.sleep(AGAIN_SECONDS)


async def _listen(connection: psycopg.AsyncConnection, on_change: Callable[[str, Address], None]) -> None:
    while True:
        async for found in connection.notifies(timeout=QUIET_SECONDS):
            what, _, address = found.payload.partition(" ")
            key, _, job = address.rpartition("/")
            on_change(what, Address(key, job))
        async with asyncio.timeout(QUIET_SECONDS):  # a TimeoutError is an OSError
            await connection.execute("SELECT 1")
