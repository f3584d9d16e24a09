"""Metrics, for Prometheus: how long folds take, how they end, what is refused, what waits."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MIB = 1 << 20
SIZES = ((MIB, "1MiB"), (16 * MIB, "16MiB"), (256 * MIB, "256MiB"), (1 << 62, "larger"))
SECONDS = (0.25, 0.5, 1, 2, 5, 10, 25, 60, 120, 300, 600, 1200)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here: dict[str, Any] = {"registry": self.registry}  # not the one of the process: a second server counts alone
        self.folds = Histogram(
            "bnfold_fold_seconds",
            "From the start of a fold to its end",
            ["size"],
            buckets=SECONDS,
            **here,
        )
        self.outcomes = Counter("bnfold_outcomes", "Jobs that ended, by how", ["outcome"], **here)
        self.refusals = Counter("bnfold_refusals", "Requests that were refused, by problem", ["type"], **here)
        self.kills = Counter("bnfold_child_deaths", "Children that died, by problem", ["reason"], **here)
        self.webhooks = Counter(
            "bnfold_webhook_attempts", "Attempts to deliver a webhook, by outcome", ["outcome"], **here
        )
        self.uploaded = Counter("bnfold_uploaded_bytes", "Bytes of models that arrived", **here)
        self.requests = Histogram(
            "bnfold_request_seconds",
            "Requests, from their head to the end of the answer",
            ["method", "status"],
            buckets=(0.005, 0.02, *SECONDS),
            **here,
        )
        self.running = Gauge("bnfold_running", "Folds that run now", **here)
        self.waiting = Gauge("bnfold_waiting", "Jobs that wait", **here)
        self.oldest = Gauge("bnfold_oldest_waiting_seconds", "Age of the job that waits longest", **here)


def size_label(size: int) -> str:
    """The class of a model's size: at most so many bytes."""
    return next(label for bound, label in SIZES if size <= bound)
