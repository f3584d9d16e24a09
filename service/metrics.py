"""Metrics, for Prometheus: how long folds take, how they end, what is refused, what waits."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MIB = 1 << 20
SIZES = ((MIB, "1MiB"), (16 * MIB, "16MiB"), (256 * MIB, "256MiB"), (1 << 62, "larger"))
SECONDS = (0.25, 0.5, 1, 2, 5, 10, 25, 60, 120, 300, 600, 1200)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.folds = Histogram(
            "bnfold_fold_seconds",
            "From the start of a fold to its end",
            ["size"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.outcomes = Counter("bnfold_outcomes", "Jobs that ended, by how", ["outcome"], registry=self.registry)
        self.refusals = Counter(
            "bnfold_refusals", "Requests that were refused, by problem", ["type"], registry=self.registry
        )
        self.kills = Counter(
            "bnfold_child_deaths", "Children that died, by problem", ["reason"], registry=self.registry
        )
        self.uploaded = Counter("bnfold_uploaded_bytes", "Bytes of models that arrived", registry=self.registry)
        self.requests = Histogram(
            "bnfold_request_seconds",
            "Requests, from their head to the end of the answer",
            ["method", "status"],
            buckets=(0.005, 0.02, *SECONDS),
            registry=self.registry,
        )
        self.running = Gauge("bnfold_running", "Folds that run now", registry=self.registry)
        self.waiting = Gauge("bnfold_waiting", "Jobs that wait", registry=self.registry)
        self.oldest = Gauge(
            "bnfold_oldest_waiting_seconds", "Age of the job that waits longest", registry=self.registry
        )


def size_label(size: int) -> str:
    """The class of a model's size: at most so many bytes."""
    return next(label for bound, label in SIZES if size <= bound)
