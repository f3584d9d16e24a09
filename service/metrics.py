"""Metrics for Prometheus: durations and outcomes of folds, refused requests, the queue."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MIB = 1 << 20
SIZES = ((MIB, "1MiB"), (16 * MIB, "16MiB"), (256 * MIB, "256MiB"), (1 << 62, "larger"))
SECONDS = (0.25, 0.5, 1, 2, 5, 10, 25, 60, 120, 300, 600, 1200)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}  # not the process's registry: each server counts separately
        self.folds = Histogram(
            "bnfold_fold_seconds",
            "From the start of a fold to its end",
            ["size"],
            buckets=SECONDS,
            **own,
        )
        self.outcomes = Counter("bnfold_outcomes", "Jobs that ended, by how", ["outcome"], **own)
        self.refusals = Counter("bnfold_refusals", "Requests that were refused, by problem", ["type"], **own)
        self.kills = Counter("bnfold_child_deaths", "Children that died, by problem", ["reason"], **own)
        self.webhooks = Counter(
            "bnfold_webhook_attempts", "Attempts to deliver a webhook, by outcome", ["outcome"], **own
        )
        self.uploaded = Counter("bnfold_uploaded_bytes", "Bytes of models that arrived", **own)
        self.requests = Histogram(
            "bnfold_request_seconds",
            "Requests, from their head to the end of the answer",
            ["method", "status"],
            buckets=(0.005, 0.02, *SECONDS),
            **own,
        )
        self.sandbox = Gauge("bnfold_sandbox", "1 for the sandbox that folds run in", ["kind"], **own)
        self.running = Gauge("bnfold_running", "Folds that run now", **own)
        self.waiting = Gauge("bnfold_waiting", "Jobs that wait", **own)
        self.oldest = Gauge("bnfold_oldest_waiting_seconds", "Age of the job that waits longest", **own)


def size_label(size: int) -> str:
    """The size class of a model of `size` bytes, named after its upper bound."""
    return next(label for bound, label in SIZES if size <= bound)
