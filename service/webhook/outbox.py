"""Webhooks: what the outbox of the ledger holds is sent to its receivers, signed, until they take it.

Nothing is remembered here that the ledger does not know: what a server did not deliver the next one does. A receiver
that is slow or dead keeps nobody waiting: attempts are bounded in time, and in number for all, for each key, and
for each receiver of a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook as Signer

from service.ledger.records import Occupied
from service.secret import webhook_secret
from service.threads import in_thread
from service.webhook.receivers import FAILURES

if TYPE_CHECKING:
    from pathlib import Path

    from service.ledger.interface import Ledger
    from service.ledger.records import Webhook
    from service.metrics import Metrics
    from service.webhook.receivers import Receivers, Reply

LOG = logging.getLogger("bnfold")
HOUR = 60 * 60.0
# Seconds between attempts, as the specification of Standard Webhooks recommends: three days in all.
DELAYS = (5.0, 300.0, 1800.0, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
JITTER = 0.2  # of a delay, at most: receivers that come back are not asked by all at once
AT_ONCE, OF_KEY, OF_RECEIVER = 16, 8, 2  # attempts at the same time: in all, of one key, to one receiver of a key
LOOK_EVERY = 1.0  # seconds between two looks at the ledger, which others write too
SUCCESS, GONE = 2, 410  # the class 2xx; the receiver wants nothing more
REASON_LENGTH = 200  # of what a log says

Outcome = Literal["delivered", "failed", "gone", "exhausted"]  # failed: it is tried again; 410 Gone: it is not


class Webhooks:
    """The deliveries of one server."""

    def __init__(self, data: Path, ledger: Ledger, receivers: Receivers, metrics: Metrics) -> None:
        self._data, self._ledger, self._receivers, self._metrics = data, ledger, receivers, metrics
        self._sending: dict[asyncio.Task[None], Webhook] = {}
        self._broken: frozenset[str] = frozenset()  # by a mistake of ours: it would happen again at once
        self._room = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def checked(self, url: str | None) -> str | None:
        """A URL that may be asked for; see `Receivers.checked`, which raises as this does."""
        return None if url is None else self._receivers.checked(url)

    def start(self) -> None:
        """Deliver what an earlier server left, then what comes."""
        self._loop = asyncio.create_task(self._deliver())

    async def stop(self, seconds: float) -> None:
        """Let attempts end for so long; what they did not deliver stays in the ledger, for the next server."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        if self._sending:
            await asyncio.wait(list(self._sending), timeout=seconds)
        tasks = list(self._sending)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._receivers.close()

    async def _deliver(self) -> None:
        while True:
            self._room.clear()
            try:
                while len(self._sending) < AT_ONCE and (found := await self._next()):
                    task = asyncio.create_task(self._send(found))
                    self._sending[task] = found
                    task.add_done_callback(self._ended)
            except (OSError, SQLAlchemyError) as error:
                LOG.warning("webhooks could not be read; it is tried again", exc_info=error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._room.wait()

    async def _next(self) -> Webhook | None:
        sending = self._sending.values()
        of_key = Counter(webhook.key for webhook in sending)
        of_receiver = Counter((webhook.key, webhook.receiver) for webhook in sending)
        occupied = Occupied(
            frozenset(webhook.id for webhook in sending) | self._broken,
            frozenset(key for key, count in of_key.items() if count >= OF_KEY),
            frozenset(receiver for receiver, count in of_receiver.items() if count >= OF_RECEIVER),
        )
        return await in_thread(self._ledger.next_webhook, time.time(), occupied)

    async def _send(self, webhook: Webhook) -> None:
        """One attempt, and what the ledger is told of it."""
        began, reply, reason = time.monotonic(), None, None
        try:
            secret = await in_thread(webhook_secret, self._data, webhook.key)
            reply = await self._receivers.post(webhook.url, _signed(webhook, secret), webhook.body.encode())
        except FAILURES as error:
            reason = (str(error) or type(error).__name__)[:REASON_LENGTH]
        outcome, seconds = _outcome(webhook, reply), round(time.monotonic() - began, 3)
        self._metrics.webhooks.labels(outcome).inc()
        told = {"receiver": webhook.receiver, "count": webhook.attempts + 1, "status": reply and reply.status}
        named = {"job": webhook.job, "key": webhook.key, "outcome": outcome, "seconds": seconds, "reason": reason}
        LOG.info("webhook", extra=told | named)
        await self._remember(webhook, outcome, reply)

    async def _remember(self, webhook: Webhook, outcome: Outcome, reply: Reply | None) -> None:
        """Write the outcome, as soon as the ledger can be written: until then nothing is sent twice."""
        while True:
            try:
                if outcome == "failed":
                    due = time.time() + _delay(webhook, reply)
                    return await in_thread(self._ledger.failed_webhook, webhook.id, due)
                return await in_thread(self._ledger.ended_webhook, webhook.id, delivered=outcome == "delivered")
            except (OSError, SQLAlchemyError) as error:
                LOG.warning("the outcome of a webhook could not be written; it is tried again", exc_info=error)
            await asyncio.sleep(LOOK_EVERY)

    def _ended(self, task: asyncio.Task[None]) -> None:
        webhook = self._sending.pop(task)
        if not task.cancelled() and (error := task.exception()):
            self._broken |= {webhook.id}
            LOG.error("a webhook is left to the next server", exc_info=error, extra={"job": webhook.job})
        self._room.set()


def _signed(webhook: Webhook, secret: str) -> dict[str, str]:
    """The headers of one attempt: the time is its own, the id is that of all."""
    now = datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"bnfold/{version('bnfold')}",
        "webhook-id": webhook.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Signer(secret).sign(webhook.id, now, webhook.body),
    }


def _outcome(webhook: Webhook, reply: Reply | None) -> Outcome:
    if reply is not None and reply.status // 100 == SUCCESS:
        return "delivered"
    if reply is not None and reply.status == GONE:
        return "gone"
    return "failed" if webhook.attempts < len(DELAYS) else "exhausted"


def _delay(webhook: Webhook, reply: Reply | None) -> float:
    """Seconds to the next attempt: those of the schedule, or more where the receiver asks for more."""
    asked = reply.wait if reply is not None and reply.wait is not None else 0.0
    return max(DELAYS[webhook.attempts], asked) * random.uniform(1, 1 + JITTER)  # noqa: S311  no secret
