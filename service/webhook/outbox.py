"""Webhooks: sends the signed events in the ledger's outbox, until the receivers accept them.

All durable state is in the ledger: the next server delivers what this one did not. A slow or dead receiver does not
delay the others: the time of an attempt is limited, and so is the number of attempts at a time, in total, per key, and
per receiver of a key.
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
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook as Signer

from service.ledger.events import event_under
from service.ledger.records import Occupied
from service.secret import webhook_secret
from service.threads import in_thread
from service.webhook.receivers import FAILURES

if TYPE_CHECKING:
    from pathlib import Path

    from service.ledger.interface import Ledger
    from service.ledger.records import Webhook
    from service.metrics import Delivery, Metrics
    from service.tracing.spans import Attributes, Traces
    from service.webhook.receivers import Receivers, Reply

LOG = logging.getLogger("bnfold")
HOUR = 60 * 60.0
# Seconds between attempts, as the specification of Standard Webhooks recommends: three days in total.
DELAYS = (5.0, 300.0, 1800.0, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
JITTER = 0.2  # the largest random share added to a delay, so that attempts do not come all at once
AT_ONCE, OF_KEY, OF_RECEIVER = 16, 8, 2  # attempts at a time: in total, per key, per receiver of a key
LOOK_EVERY = 1.0  # seconds between two polls of the ledger, which requests and jobs write too
SUCCESS, GONE = 2, 410  # the status class 2xx; 410: the receiver wants no more requests
REASON_LENGTH = 200  # characters of a reason in the log


class Webhooks:
    """Delivers the webhooks of one server."""

    def __init__(
        self, data: Path, root: str, ledger: Ledger, receivers: Receivers, metrics: Metrics, traces: Traces
    ) -> None:
        self._data, self._root, self._ledger, self._receivers = data, root, ledger, receivers
        self._metrics, self._traces = metrics, traces
        self._sending: dict[asyncio.Task[None], Webhook] = {}
        self._broken: frozenset[str] = frozenset()  # ids that met a bug of this server, and would again
        self._room = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def checked(self, url: str | None) -> str | None:
        """The URL, if webhooks may be sent to it; None for None. Raises the errors of `Receivers.checked`."""
        return None if url is None else self._receivers.checked(url)

    def start(self) -> None:
        """Start to deliver: first what an earlier server left, then new webhooks."""
        self._loop = asyncio.create_task(self._deliver())

    async def stop(self, seconds: float) -> None:
        """Wait up to `seconds` for running attempts, then cancel them; the ledger keeps them for the next server."""
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
        return await in_thread(self._ledger.next_webhook, occupied)

    async def _send(self, webhook: Webhook) -> None:
        """Make one attempt, and record its outcome in the ledger."""
        began, reply, reason = time.monotonic(), None, None
        count: Attributes = {"bnfold.attempt": webhook.attempts + 1}
        with self._traces.span("webhook", webhook.traceparent, "client", attributes=count) as span:
            try:
                secret = await in_thread(webhook_secret, self._data, webhook.key)
                body = event_under(webhook.body, self._root)
                headers = _signed(webhook.id, body, secret, span.traceparent)
                reply = await self._receivers.post(webhook.url, headers, body.encode())
            except FAILURES as error:
                reason = (str(error) or type(error).__name__)[:REASON_LENGTH]
            outcome, seconds = _outcome(webhook, reply), round(time.monotonic() - began, 3)
            span.note({"bnfold.outcome": outcome, "http.response.status_code": None if reply is None else reply.status})
            span.end(None if outcome == "delivered" else outcome)
        self._metrics.webhooks.labels(outcome).inc()
        attempt = {"receiver": webhook.receiver, "count": webhook.attempts + 1, "status": reply and reply.status}
        named = {"job": webhook.job, "key": webhook.key, "outcome": outcome, "seconds": seconds, "reason": reason}
        LOG.info("webhook", extra=attempt | named)
        await self._remember(webhook, outcome, reply)

    async def _remember(self, webhook: Webhook, outcome: Delivery, reply: Reply | None) -> None:
        """Record the outcome, and retry until the ledger can be written; until then the webhook is not sent again."""
        while True:
            try:
                if outcome == "failed":
                    return await in_thread(self._ledger.failed_webhook, webhook.id, _delay(webhook, reply))
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


def _signed(id_: str, body: str, secret: str, traceparent: str | None) -> dict[str, str]:
    """The headers of one attempt: each has its own timestamp, all have the same id."""
    now = datetime.now(UTC)
    context = {} if traceparent is None else {"traceparent": traceparent}
    return context | {
        "Content-Type": "application/json",
        "User-Agent": f"bnfold/{version('bnfold')}",
        "webhook-id": id_,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Signer(secret).sign(id_, now, body),
    }


def _outcome(webhook: Webhook, reply: Reply | None) -> Delivery:
    if reply is not None and reply.status // 100 == SUCCESS:
        return "delivered"
    if reply is not None and reply.status == GONE:
        return "gone"
    return "failed" if webhook.attempts < len(DELAYS) else "exhausted"


def _delay(webhook: Webhook, reply: Reply | None) -> float:
    """Seconds until the next attempt: those of the schedule, or more if the receiver asks for more."""
    asked = reply.wait if reply is not None and reply.wait is not None else 0.0
    return max(DELAYS[webhook.attempts], asked) * random.uniform(1, 1 + JITTER)  # noqa: S311  no secret
