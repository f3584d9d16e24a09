"""Accounts: what metrics, traces and the log say of the jobs of one process."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from service.metrics import DEATHS, size_label
from service.tracing.spans import trace_id

if TYPE_CHECKING:
    from collections.abc import Generator

    from service.ledger.records import Job, Stage
    from service.metrics import Metrics
    from service.process.child import OnProgress
    from service.tracing.spans import Span, Traces
    from service.work import Answer

LOG = logging.getLogger("bnfold")


class Folding:
    """The span of one attempt, and within it that of its verification."""

    def __init__(self, traces: Traces, span: Span) -> None:
        self._traces, self._span, self._verification = traces, span, ExitStack()
        self._is_verified = False

    def watching(self, on_progress: OnProgress) -> OnProgress:
        """`on_progress`, and that the span of the verification begins with it."""

        def watch(stage: Stage, progress: float) -> None:
            if stage == "verifying" and not self._is_verified:
                self._is_verified = True
                self._verification.enter_context(self._traces.span("verification", self._span.traceparent))
            on_progress(stage, progress)

        return watch

    def answered(self, answer: Answer) -> None:
        """Note the answer of the child; what follows is kept."""
        self._verification.close()
        self._span.note({"bnfold.outcome": answer.slug or "done"})

    def end(self) -> None:
        """End what has not ended."""
        self._verification.close()


class Accounts:
    """Counts and measures jobs."""

    def __init__(self, metrics: Metrics, traces: Traces) -> None:
        self._metrics, self._traces = metrics, traces

    def started(self, job: Job) -> None:
        """Measure how long a job that starts has waited."""
        self._metrics.waits.labels(size_label(job.input.bytes)).observe(job.waited)
        since = time.time() - job.waited
        self._traces.span("queue", job.traceparent, since=since, attributes=_about(job)).end()

    @contextmanager
    def folding(self, job: Job) -> Generator[Folding]:
        """The time of one attempt."""
        seconds = self._metrics.folds.labels(size_label(job.input.bytes)).time()
        with (
            self._metrics.running.track_inprogress(),
            seconds,
            self._traces.span("fold", job.traceparent, attributes=_about(job)) as span,
        ):
            folding = Folding(self._traces, span)
            try:
                yield folding
            finally:
                folding.end()

    def died(self, answer: Answer) -> None:
        """Count a child that has died, if this is the answer of one."""
        if answer.slug in DEATHS:
            self._metrics.kills.labels(answer.slug).inc()

    def ended(self, job: Job, answer: Answer, seconds: float) -> None:
        """Count a job that has ended."""
        outcome = answer.slug or "done"
        self._metrics.outcomes.labels(outcome).inc()
        fields = {"job": job.id, "outcome": outcome, "seconds": round(seconds, 3), "trace": trace_id(job.traceparent)}
        LOG.info("job ended", extra={name: value for name, value in fields.items() if value is not None})

    def cancelled(self) -> None:
        """Count a job that was cancelled."""
        self._metrics.outcomes.labels("cancelled").inc()


def _about(job: Job) -> dict[str, str | int]:
    size = size_label(job.input.bytes)
    return {"bnfold.job": job.id, "bnfold.attempt": job.attempts, "bnfold.bytes": job.input.bytes, "bnfold.size": size}
