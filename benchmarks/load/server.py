"""A server of its own for a measurement, with all processes that it starts: processor time, memory, open files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from service.process.watch import descendants

if TYPE_CHECKING:
    from collections.abc import Generator

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
GROUPS = Path("/sys/fs/cgroup")
READY_SECONDS = 120.0
NANO = 1e-9
MICRO = 1e-6
STILL = 0.05  # seconds of processor time in a second


@dataclass
class Server:
    """A running server: its address, its process, and the control group that counts all that it starts."""

    url: str
    pid: int
    group: Path | None
    log: Path

    def seconds(self) -> float:
        """Processor time so far of the server and all that it started; of the server alone where no group counts."""
        return self.own_seconds() if self.group is None else group_seconds(self.group)

    def own_seconds(self) -> float:
        """Processor time so far of the server alone."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes of memory of the server alone."""
        return proportional(self.pid)

    def children_memory(self) -> int:
        """Bytes of memory of all that it started; what several share is counted once, or a part for each."""
        return sum(map(proportional, descendants(self.pid)))

    def files(self) -> int:
        """The open files of the server."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def processes(self) -> int:
        """How many processes it started that have not ended."""
        return len(descendants(self.pid))

    def held(self) -> dict[str, int]:
        """What it holds now: bytes of memory, open files, processes."""
        return {
            "memory": self.memory(),
            "children": self.children_memory(),
            "files": self.files(),
            "processes": self.processes(),
        }

    def watched(self) -> Watch:
        """A context that notes the most that it holds meanwhile."""
        return Watch(self)

    def settle(self) -> None:
        """Wait until it works no more: the processes for the next folds are there, and all blobs are written."""
        before = -1.0
        while self.seconds() - before > STILL:
            before = self.seconds()
            time.sleep(1)


class Watch:
    """The most that a server holds, looked at twice a second."""

    def __init__(self, server: Server) -> None:
        self.most: dict[str, int] = {}
        self._server, self._done = server, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.5):
            for name, value in self._server.held().items():
                self.most[name] = max(self.most.get(name, 0), value)


def proportional(pid: int) -> int:
    """Bytes of memory of a process, of what it shares its part; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


@contextmanager
def running(port: int, source: Path = ROOT, *, data: Path | None = None, **settings: str) -> Generator[Server]:
    """A server from a checkout, on loopback; `settings` are its environment variables without BNFOLD_."""
    with tempfile.TemporaryDirectory(prefix="bnfold-load-") as folder:
        group = new_group()
        place = data or Path(folder, "data")
        environment = os.environ | {f"BNFOLD_{name.upper()}": value for name, value in settings.items()}
        environment["PYTHONPATH"] = str(source)
        log = Path(folder) / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "folding", "serve", "--port", str(port), "--data", str(place)],
                stderr=errors,
                env=environment,
                cwd=source,
                preexec_fn=lambda: _enter(group),  # noqa: PLW1509  this process has one thread then
            )
            try:
                server = Server(f"http://127.0.0.1:{port}", process.pid, group, log)
                _wait(server, process)
                yield server
            finally:
                process.terminate()
                process.wait()
                if group is not None:
                    with suppress(OSError):
                        group.rmdir()


def _enter(group: Path | None) -> None:
    if group is not None:
        (group / "cgroup.procs").write_text("0")


def group_seconds(group: Path) -> float:
    """Processor time so far of all that is or was in a control group."""
    with suppress(OSError):
        return int((group / "cpuacct.usage").read_text()) * NANO
    fields = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(fields["usage_usec"]) * MICRO


def new_group() -> Path | None:
    """A new control group that counts processor time, where this user may make one."""
    for parent in (GROUPS / "cpuacct", GROUPS):
        group = parent / f"bnfold-load-{os.getpid()}-{time.monotonic_ns()}"
        with suppress(OSError):
            group.mkdir()
            if (group / "cpuacct.usage").exists() or (group / "cpu.stat").exists():
                return group
            group.rmdir()
    return None


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + READY_SECONDS
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                if client.get("/readyz").is_success:
                    return
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {server.log.read_text()[-2000:]}")
