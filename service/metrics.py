"""Metrics for Prometheus. docs/monitoring.md says what each of them means, and which alerts are made of them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from service.problems import KINDS

MIB = 1 << 20
SIZES = ((MIB, "1MiB"), (16 * MIB, "16MiB"), (256 * MIB, "256MiB"), (1 << 62, "larger"))
DEATHS = frozenset({"timed-out", "out-of-memory", "crashed", "killed"})  # problems of a process that died
# Of an attempt to deliver a webhook. Failed is tried again; gone and exhausted are not.
Delivery = Literal["delivered", "failed", "gone", "exhausted"]
SECONDS = (0.25, 0.5, 1, 2, 5, 10, 25, 60, 120, 300, 600, 1200)


class Metrics:
    """The metrics of one process: of a server, or of a worker elsewhere."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry}  # not the process's registry: each server counts separately
        ProcessCollector(**own)  # memory, open files, processor seconds of this process
        Info("bnfold_build", "The version that runs", **own).info({"version": version("bnfold")})
        self.folds = Histogram(
            "bnfold_fold_seconds",
            "From the start of a fold to its end",
            ["size"],
            buckets=SECONDS,
            **own,
        )
        self.waits = Histogram(
            "bnfold_wait_seconds",
            "From the moment a job is accepted, or queued again, to its start",
            ["size"],
            buckets=SECONDS,
            **own,
        )
        self.outcomes = Counter("bnfold_outcomes", "Jobs that ended, by how", ["outcome"], **own)
        self.refusals = Counter("bnfold_refusals", "Requests that were refused, by problem", ["type"], **own)
        self.kills = Counter("bnfold_child_deaths", "Children that died, by problem", ["reason"], **own)
        self.damaged = Counter("bnfold_damaged_blobs", "Blobs that the disk lost or damaged", **own)
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
        self.running = Gauge("bnfold_running", "Folds that run in this process now", **own)
        self.slots = Gauge("bnfold_slots", "Folds that may run in this process at the same time", **own)
        self.children = Gauge("bnfold_children", "Processes for folds and inspections, by state", ["state"], **own)
        self.uploads = Gauge("bnfold_uploads", "Uploads that arrive now", **own)
        self.checks = Gauge("bnfold_check", "1 where a check of /readyz passes, else 0", ["check"], **own)
        self.waiting = Gauge("bnfold_waiting", "Jobs that wait, in the whole ledger", ["size"], **own)
        self.oldest = Gauge(
            "bnfold_oldest_waiting_seconds", "Age of the job that waits longest, in the whole ledger", ["size"], **own
        )
        self.started = Gauge("bnfold_started", "Jobs that run, in the whole ledger", ["size"], **own)
        self.suspects = Gauge("bnfold_suspects", "Open jobs that ran when something was killed", **own)
        self.parked = Gauge("bnfold_parked", "Open jobs that an operator keeps from the workers", **own)
        self.workers = Gauge("bnfold_workers", "Workers of the cluster, by state", ["state"], **own)
        self.events = Gauge("bnfold_webhooks_due", "Webhooks whose job has ended, and that are not delivered", **own)
        self.late = Gauge("bnfold_webhooks_late_seconds", "For how long the next attempt is overdue", **own)
        self.held = Gauge("bnfold_held_bytes", "Bytes of all blobs that keys hold", **own)
        self.cap = Gauge("bnfold_cap_bytes", "Bytes above which what is least used goes", **own)
        self.free = Gauge("bnfold_free_bytes", "Free space on the disk of the data folder", **own)
        self.low_water = Gauge("bnfold_low_water_bytes", "Free space below which nothing is accepted", **own)
        self._begin()

    def _begin(self) -> None:
        """Let all series begin at 0: of one that begins at 1, `increase` does not see the first event."""
        for slug in KINDS:
            self.refusals.labels(slug)
        for outcome in ("done", *KINDS):
            self.outcomes.labels(outcome)
        for reason in DEATHS:
            self.kills.labels(reason)
        for outcome in get_args(Delivery):
            self.webhooks.labels(outcome)


def size_label(size: int) -> str:
    """The size class of a model of `size` bytes, named after its upper bound."""
    return next(label for bound, label in SIZES if size <= bound)
