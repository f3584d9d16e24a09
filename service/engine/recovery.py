"""Recovery: jobs of workers that died are queued again. All servers and workers look; one of them does it.

A job whose workers die again and again, while it runs alone, ends as crashed, as with a server that folds itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from service.threads import in_thread
from service.work import Answer

if TYPE_CHECKING:
    from service.engine.accounts import Accounts
    from service.ledger.interface import SharedLedger
    from service.ledger.records import Job
    from service.settings import Settings

LOG = logging.getLogger("bnfold")


async def recover(ledger: SharedLedger, settings: Settings, accounts: Accounts) -> None:
    """Look for dead workers as often as they give signs of life; never returns.

    While the database could not be reached, no worker could give one: so each has its time again after that.
    """
    reached: float | None = None
    while True:
        try:
            if reached is not None and time.monotonic() - reached >= settings.stall_seconds:
                if found := await in_thread(ledger.recover, settings.stall_seconds):
                    _report(found, accounts)
            else:
                await in_thread(ledger.check)
                reached = time.monotonic() if reached is None else reached
        except (OSError, SQLAlchemyError):
            reached = None
        await asyncio.sleep(settings.heartbeat_seconds * random.uniform(0.8, 1.2))  # noqa: S311  no secret


def _report(found: list[Job], accounts: Accounts) -> None:
    for job in found:
        if not job.is_open:
            accounts.ended(job, Answer(slug="crashed"), 0.0)
    if count := sum(job.is_open for job in found):
        LOG.warning("jobs of workers that died are queued again", extra={"count": count})
