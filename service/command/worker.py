"""The command `bnfold worker`: folds the jobs of a cluster, on any machine, until it is asked to end."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from service.command.checks import prepare
from service.command.parsing import add_settings
from service.engine.accounts import Accounts
from service.metrics import Metrics
from service.process.forkserver import Program
from service.state import ENGINE_VERSION, lock, make_children, make_traces, the_blobs
from service.storage import Storage
from service.threads import in_thread

if TYPE_CHECKING:
    import argparse

    from folding.command.parser import Parser
    from service.settings import Settings

DONE = 0
EVERYWHERE = "0.0.0.0"  # noqa: S104  metrics hold no secrets, and other machines ask for them
THREADS = 32  # operations that may wait for the disk or the database at the same time


def add_worker(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command."""
    about = "Fold the jobs of a cluster: BNFOLD_DATABASE_URL and BNFOLD_BLOBS_URL name it. SIGTERM drains the worker."
    worker = commands.add_parser("worker", description=about)
    add_settings(worker, "data", "workers")
    worker.set_defaults(run=lambda settings, _: run(settings, Program()))


def run(settings: Settings, program: Program) -> int:
    """Work until SIGTERM, SIGINT, or an operator drains this worker; the exit code.

    Raises:
        RuntimeError: it is no cluster, the data folder is used, or a package, the ledger or the sandbox is missing.
    """
    if settings.engine != "cluster":
        raise RuntimeError("worker: set BNFOLD_ENGINE=cluster, as for the servers; see docs/cluster.md")
    prepare()
    right = lock(settings.data)
    try:
        asyncio.run(_work(settings, program))
    finally:
        os.close(right)
    return DONE


async def _work(settings: Settings, program: Program) -> None:
    from service.engine.member import Member  # noqa: PLC0415  an extra
    from service.ledger.sql import open_shared  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(THREADS, "bnfold") as threads:
        loop.set_default_executor(threads)
        ledger, metrics, traces = open_shared(settings.database_url), Metrics(), make_traces(settings)
        try:
            ledger.claim(shared=True)
            children, _ = make_children(settings, program, metrics)
            storage = Storage(the_blobs(settings), ledger, metrics.damaged.inc)
            member = Member(settings, ledger, storage, children, Accounts(metrics, traces), ENGINE_VERSION)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, member.end)
            metrics.slots.set(settings.workers)
            if settings.metrics_port:
                start_http_server(settings.metrics_port, EVERYWHERE, metrics.registry)
            print("bnfold works; SIGTERM drains it", flush=True)
            await member.run()
        finally:
            ledger.close()
            await in_thread(traces.close)
