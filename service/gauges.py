"""Gauges: what is so at the moment in which somebody asks for the metrics."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from service.metrics import SIZES
from service.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Gauge

    from service.ledger.records import Open
    from service.state import Service


async def observe(here: Service, checks: Mapping[str, bool]) -> None:
    """Set the gauges of a server. `checks` are those of /readyz.

    Raises:
        SQLAlchemyError: the ledger cannot be read.
    """
    metrics, settings = here.metrics, here.settings
    load = await in_thread(here.ledger.load)
    held = await in_thread(here.ledger.total)
    disk = await in_thread(shutil.disk_usage, settings.data)
    queued, running = ([one for one in load.jobs if one.status == status] for status in ("queued", "running"))
    _count(metrics.waiting, queued)
    _count(metrics.started, running)
    now, oldest = time.time(), {one.size: one.oldest for one in queued}
    for _, size in SIZES:
        metrics.oldest.labels(size).set(max(now - oldest.get(size, now), 0))
    for name, passes in checks.items():
        metrics.checks.labels(name).set(passes)
    if settings.engine == "cluster":
        await count_workers(here)
    plain = {
        metrics.suspects: load.suspects,
        metrics.parked: load.parked,
        metrics.events: load.webhooks,
        metrics.late: load.late,
        metrics.held: held,
        metrics.cap: settings.cap,
        metrics.free: disk.free,
        metrics.low_water: settings.low_water_bytes,
        metrics.uploads: here.reservations.count,
    }
    for gauge, value in plain.items():
        gauge.set(value)


async def count_workers(here: Service) -> None:
    """Set the gauge of the workers; one that gave no sign of life for `stall_seconds` is silent."""
    stalled = here.settings.stall_seconds
    counts = dict.fromkeys(("working", "draining", "silent"), 0)
    for one in await here.engine.workers():
        silent = one.age is None or one.age >= stalled
        counts["silent" if silent else "draining" if one.draining else "working"] += 1
    for state, count in counts.items():
        here.metrics.workers.labels(state).set(count)


def _count(gauge: Gauge, jobs: Iterable[Open]) -> None:
    """Set a gauge for every size class, also for those without jobs: an absent series is no zero."""
    counts = {one.size: one.count for one in jobs}
    for _, size in SIZES:
        gauge.labels(size).set(counts.get(size, 0))
