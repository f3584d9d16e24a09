"""State: the parts of a running server, made once and used by every request."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from folding.errors import how_to_install
from service.auth.guests import Guests
from service.auth.rates import Rates
from service.auth.tokens import Tokens
from service.blobs import BLOBS, DirectoryBlobs, remote_blobs
from service.changes import Changes
from service.engine.accounts import Accounts
from service.engine.interface import Engine
from service.engine.local import LocalEngine
from service.engine.runner import VERIFICATION_GRACE
from service.ledger.sql import open_ledger, open_shared
from service.metrics import Metrics
from service.partials import Partials
from service.process.children import Children
from service.process.forkserver import Program
from service.process.sandbox import KINDS, find_sandbox
from service.process.walls import Kind
from service.reservations import Reservations
from service.settings import Settings
from service.storage import Storage
from service.tracing.spans import Traces
from service.webhook.outbox import Webhooks
from service.webhook.receivers import Receivers

if TYPE_CHECKING:
    from pathlib import Path

    from service.blobs import BlobStore
    from service.ledger.interface import Ledger
    from service.process.sandbox import Sandbox

# Names in the data folder: FOLDERS has a folder for every child, PARTIALS what arrives in pieces, REMOTE what is on its
# way to and from an object store.
FOLDERS, PARTIALS, LOCK, REMOTE = "jobs", "uploads", "lock", "remote"
ENGINE_VERSION = f"bnfold {version('bnfold')}"  # part of the content address of every job


@dataclass
class Service:
    """Everything that a request uses."""

    settings: Settings
    ledger: Ledger
    storage: Storage
    reservations: Reservations
    partials: Partials
    engine: Engine
    webhooks: Webhooks
    guests: Guests
    tokens: Tokens | None
    changes: Changes
    metrics: Metrics
    traces: Traces
    rates: Rates
    engine_version: str
    sandbox: Kind  # that folds run in


def lock(data: Path) -> int:
    """Lock a data folder; the lock lasts until the returned file descriptor is closed or this process ends.

    Raises:
        RuntimeError: another server holds the lock.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise RuntimeError(f"{data} is used by another server; give this one a folder of its own") from None
    return fd


def make_traces(settings: Settings) -> Traces:
    """What makes the spans: nothing is loaded, and nothing recorded, unless the setting says so.

    Raises:
        RuntimeError: what it needs is not installed.
    """
    if not settings.tracing:
        return Traces()
    try:
        from service.tracing.telemetry import Telemetry  # noqa: PLC0415  only where it is asked for
    except ImportError:
        raise RuntimeError(f"BNFOLD_TRACING is true: {how_to_install('tracing')}") from None
    return Telemetry()


def the_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings, opened. Raises the errors of `service.ledger.sql.open_ledger`."""
    if settings.engine == "cluster":
        return open_shared(settings.database_url)
    return open_ledger(settings.data, settings.database_url)


def the_blobs(settings: Settings) -> BlobStore:
    """The blob store of these settings. Raises the errors of `service.blobs.remote_blobs`."""
    if not settings.blobs_url:
        return DirectoryBlobs(settings.data / BLOBS, settings.low_water_bytes)
    return remote_blobs(settings.blobs_url, settings.data / REMOTE, settings.low_water_bytes, settings.cache_bytes)


def make_children(settings: Settings, program: Program, metrics: Metrics) -> tuple[Children, Sandbox | None]:
    """The children of a server or a worker, and the sandbox that they are in."""
    sandbox = find_sandbox(settings.sandbox, settings.data)
    for kind in KINDS:
        metrics.sandbox.labels(kind).set(kind == ("none" if sandbox is None else sandbox.kind))
    bounds = settings.bounds(settings.verify_seconds + VERIFICATION_GRACE)
    children = Children(settings.data / FOLDERS, bounds, sandbox, program, settings.spares)
    metrics.children.labels("working").set_function(lambda: children.counts["working"])
    metrics.children.labels("waiting").set_function(lambda: children.counts["waiting"])
    return children, sandbox


def make_service(settings: Settings, program: Program, receivers: Receivers) -> Service:
    """Make the parts and connect them. The engine and the delivery of webhooks are not started yet."""
    ledger, changes, metrics = the_ledger(settings), Changes(), Metrics()
    ledger.claim(shared=settings.engine == "cluster")
    storage = Storage(the_blobs(settings), ledger, metrics.damaged.inc)
    children, sandbox = make_children(settings, program, metrics)
    kind: type[Engine] = LocalEngine
    if settings.engine == "cluster":
        from service.engine.cluster import ClusterEngine  # noqa: PLC0415  an extra

        kind = ClusterEngine
    metrics.slots.set(settings.workers if kind is LocalEngine else 0)
    traces = make_traces(settings)
    engine = kind(settings, ledger, storage, children, changes, Accounts(metrics, traces))
    reservations = Reservations(settings.max_uploads)
    partials = Partials(settings.data / PARTIALS, storage, ledger, reservations, settings.resume_seconds)
    return Service(
        settings=settings,
        ledger=ledger,
        storage=storage,
        reservations=reservations,
        partials=partials,
        engine=engine,
        webhooks=Webhooks(settings.secret_folder, settings.root_path, ledger, receivers, metrics, traces),
        tokens=Tokens(settings.oidc_issuer, settings.oidc_audience) if settings.oidc_issuer else None,
        guests=Guests(settings.data, ledger, storage, engine.stop_jobs, partials.remove_of),
        changes=changes,
        metrics=metrics,
        traces=traces,
        rates=Rates(),
        engine_version=ENGINE_VERSION,
        sandbox="none" if sandbox is None else sandbox.kind,
    )


def here(request: Request) -> Service:
    """The service that handles a request."""
    service: Service = request.app.state.service
    return service


Here = Annotated[Service, Depends(here)]
