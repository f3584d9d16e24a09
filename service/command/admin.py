"""The command `bnfold admin`: what waits in a cluster and who works, and an operator's hand in it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from service.command.parsing import add_settings
from service.ledger.sql import open_shared

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from folding.command.parser import Parser
    from service.ledger.interface import SharedLedger
    from service.settings import Settings

    Act = Callable[[SharedLedger, argparse.Namespace], Iterable[str]]

DONE = 0


def add_admin(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command."""
    about = "The jobs and the workers of a cluster, whose database BNFOLD_DATABASE_URL names."
    actions = commands.add_parser("admin", description=about).add_subparsers(required=True, metavar="ACTION")
    job = ("job", "KEY/JOB, as `queue` and `workers` show it")
    for name, act, about, argument in (
        ("queue", _queue, "the jobs that wait, run or are parked, oldest first", None),
        ("workers", _workers, "the workers, and what they fold", None),
        ("keys", _keys, "the open jobs of each key", None),
        ("retry", _retry, "let a job go on that is parked, has failed or was cancelled", job),
        ("park", _park, "keep an open job from the workers, until `retry`", job),
        (
            "drain",
            _drain,
            "let a worker finish what it folds, and end",
            ("worker", "its number, as `workers` shows it"),
        ),
    ):
        parser = actions.add_parser(name, help=about)
        if argument is not None:
            parser.add_argument(argument[0], help=argument[1])
        add_settings(parser, "data")
        parser.set_defaults(run=_run(act))


def _run(act: Act) -> Callable[[Settings, argparse.Namespace], int]:
    def run(settings: Settings, arguments: argparse.Namespace) -> int:
        if not settings.database_url:
            raise RuntimeError("admin: set BNFOLD_DATABASE_URL to the database of the cluster")
        with closing(open_shared(settings.database_url)) as ledger:
            for line in act(ledger, arguments):
                print(line)  # noqa: T201  a command prints
        return DONE

    return run


def _queue(ledger: SharedLedger, _: argparse.Namespace) -> Iterable[str]:
    now = time.time()
    for job in ledger.open_jobs():
        state = "parked" if job.parked else job.status
        worker = f"worker {job.worker}" if job.worker is not None else ""
        deaths = f"{job.crashes} crashes, {job.kills} kills, {job.interruptions} interruptions" if job.attempts else ""
        figures = f"{now - job.updated:7.0f} s  {job.input.bytes:>12,} bytes  {worker}  {deaths}"
        yield f"{job.key}/{job.id}  {state:<7}  {figures}".rstrip()
    for one in ledger.waiting():
        if not one.is_known:
            yield f"messages of version {one.version} wait for workers of another bnfold: upgrade the workers"


def _workers(ledger: SharedLedger, _: argparse.Namespace) -> Iterable[str]:
    for one in ledger.all_workers():
        state = "gone" if one.age is None else "draining" if one.draining else "works"
        seen = "" if one.age is None else f"seen {one.age:.1f} s ago"
        yield f"{one.id}  {state:<8}  {one.name}  {one.engine}  {len(one.jobs)} of {one.slots}  {seen}".rstrip()
        yield from (f"    {job}" for job in one.jobs)


def _keys(ledger: SharedLedger, _: argparse.Namespace) -> Iterable[str]:
    names, now = {key.id: key.name for key in ledger.all_keys()}, time.time()
    for one in ledger.standings():
        oldest = "" if one.since is None else f"the oldest waits {now - one.since:.0f} s"
        counts = f"{one.waiting} wait, {one.running} run, {one.parked} parked"
        yield f"{one.key or '-'}  {names.get(one.key, '')!a}  {counts}  {oldest}".rstrip()


def _retry(ledger: SharedLedger, arguments: argparse.Namespace) -> Iterable[str]:
    if not ledger.retry(*_address(arguments.job)):
        raise RuntimeError(
            f"admin: {arguments.job!a} is no job that is parked, has failed or was cancelled, with its upload"
        )
    return [f"{arguments.job} is queued again"]


def _park(ledger: SharedLedger, arguments: argparse.Namespace) -> Iterable[str]:
    if not ledger.park(*_address(arguments.job)):
        raise RuntimeError(f"admin: {arguments.job!a} is no open job, or is parked already; see `bnfold admin queue`")
    return [f"{arguments.job} is parked; `bnfold admin retry` lets it go on"]


def _drain(ledger: SharedLedger, arguments: argparse.Namespace) -> Iterable[str]:
    if not arguments.worker.isdecimal() or not ledger.drain(int(arguments.worker)):
        raise RuntimeError(f"admin: there is no worker {arguments.worker!a}; see `bnfold admin workers`")
    return [f"worker {arguments.worker} takes no more jobs, and ends when those that it has are done"]


def _address(text: str) -> tuple[str, str]:
    key, _, job = text.rpartition("/")
    return key, job
