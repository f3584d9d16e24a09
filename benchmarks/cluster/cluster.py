"""A cluster of its own for a measurement: PostgreSQL, a store, servers and workers, and the processor time of each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg

from benchmarks.load.server import ROOT, group_seconds, new_group
from service.process.watch import descendants
from tests.support.service.postgres import LOCAL, Postgres
from tests.support.service.store import Store
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from psycopg import Connection

ENDING_SECONDS = 30.0  # for a process to end when it was asked to
OPEN = ("queued", "running")
# Durable, and with the cleaning that a database needs in the long run; the tests have it quicker.
DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "128MB"}
UNBOUNDED = ("--open-jobs", "any", "--bytes", "any")
ROLES = ("servers", "workers and folds", "PostgreSQL", "store", "clients")


class Ended(NamedTuple):
    """A line of a worker's log: a job that it has ended."""

    moment: float
    job: str
    outcome: str


@dataclass
class Running:
    """A server or a worker: its process and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def url(self) -> str:
        """Where a server listens."""
        found = re.search(r"running on (http://[\d.:]+)", self.log.read_text())
        return "" if found is None else found[1]

    def template(self) -> int | None:
        """The process that its folds are forked from."""
        return next((pid for pid in descendants(self.pid) if _is_template(pid, self.pid)), None)

    def ended(self) -> list[Ended]:
        """The jobs that a worker has ended."""
        return list(ended(self.log.read_text()))

    def stop(self) -> None:
        """Let it end; kill it if it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()


class Cluster:
    """PostgreSQL and a store, and the servers and workers that are started with them, all on `host`.

    `settings` are those of all servers and workers.
    """

    def __init__(self, host: str = LOCAL, **settings: object) -> None:
        self._host, self._settings, self._stack = host, settings, ExitStack()
        self._running: list[Running] = []
        self._groups: dict[str, Path] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bnfold-cluster-")))
            stack.callback(self._remove_groups)
            postgres = Postgres(self._host, **DURABLE)
            stack.callback(postgres.close)
            store = stack.enter_context(Store(self._host))
            self.count("PostgreSQL", postgres.pid)
            self.count("store", store.pid)
            self.database = postgres.url(postgres.database())
            self.environment = store.direct | {"PYTHONPATH": str(ROOT), "BNFOLD_SECRETS": str(self.folder)}
            self.environment |= _variables(
                {"engine": "cluster", "database_url": self.database, "blobs_url": store.url(), **self._settings}
            )
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def server(self, **settings: object) -> Running:
        """Start a server, and wait until it listens."""
        command = [sys.executable, "-m", "folding", "serve", "--host", self._host, "--port", "0"]
        found = self._start("servers", command, settings)
        until(lambda: found.url or found.process.poll() is not None)
        return _alive(found)

    def worker(
        self, command: Sequence[str] = ("folding", "worker"), inside: Sequence[str] = (), **settings: object
    ) -> Running:
        """Start a worker, `inside` whatever such a prefix of its command makes, and wait until it works."""
        whole = [*inside, sys.executable, "-m", *command]
        found = self._start("workers and folds", whole, {"workers": 1, **settings})
        until(lambda: "bnfold works" in found.log.read_text() or found.process.poll() is not None)
        return _alive(found)

    def key(self, name: str) -> str:
        """A new key without bounds."""
        command = [sys.executable, "-m", "folding", "keys", "add", name, "--data", str(self.folder), *UNBOUNDED]
        environment = os.environ | self.environment
        return subprocess.check_output(command, text=True, cwd=ROOT, env=environment).split()[-1]

    def connection(self) -> Connection:
        """A connection to the ledger."""
        return psycopg.connect(self.database, autocommit=True)

    def open_jobs(self) -> int:
        """The jobs that have not ended."""
        with self.connection() as connection:
            row = connection.execute("SELECT count(*) FROM jobs WHERE status = ANY(%s)", [list(OPEN)]).fetchone()
        return 0 if row is None else int(row[0])

    def count(self, role: str, pid: int) -> None:
        """Count the processor time of a process, and of all that it starts from now on, for a role."""
        if role not in self._groups and (made := new_group()) is not None:
            self._groups[role] = made
        if role in self._groups:
            (self._groups[role] / "cgroup.procs").write_text(str(pid))

    def seconds(self) -> dict[str, float]:
        """The processor time of each role so far; nothing where this user may make no control groups."""
        return {role: group_seconds(self._groups[role]) for role in ROLES if role in self._groups}

    def _start(self, role: str, command: Sequence[str], settings: dict[str, object]) -> Running:
        name = f"{role.partition(' ')[0].removesuffix('s')}{len(self._running)}"
        log = self.folder / f"{name}.log"
        environment = os.environ | self.environment | _variables(settings)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--data", str(self.folder / name)],
                stdout=output,
                stderr=output,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )
        found = Running(name, process, log)
        self._running.append(found)
        self.count(role, process.pid)
        return found

    def _end(self) -> None:
        for one in reversed(self._running):  # workers first: servers answer meanwhile
            if one.process.poll() is None:
                one.stop()

    def _remove_groups(self) -> None:
        for group in self._groups.values():
            until(lambda group=group: not (group / "cgroup.procs").read_text())  # type: ignore[misc]
            group.rmdir()


def ended(log: str) -> Iterator[Ended]:
    """The jobs that a worker has ended, by its log."""
    for line in log.splitlines():
        if '"job ended"' in line:
            found: dict[str, Any] = json.loads(line)
            yield Ended(datetime.fromisoformat(found["time"]).timestamp(), found["job"], found["outcome"])


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The processor time of each role between two looks."""
    return {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}


def wait_for(what: str, holds: Any, process: Running | None = None, seconds: float = 3600.0) -> None:
    """Wait until it holds; an error if it never does, or if a process that it needs has ended."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end or (process is not None and process.process.poll() is not None):
            raise RuntimeError(f"it did not happen: {what}")
        time.sleep(0.1)


def _is_template(pid: int, parent: int) -> bool:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1]) == parent and b"service.process.template" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _variables(settings: dict[str, object]) -> dict[str, str]:
    return {f"BNFOLD_{name.upper()}": str(value) for name, value in settings.items()}


def _alive(found: Running) -> Running:
    if found.process.poll() is not None:
        raise RuntimeError(f"{found.name} did not start: {found.log.read_text()[-2000:]}")
    return found
