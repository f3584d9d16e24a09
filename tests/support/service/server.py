"""A server for tests: in a thread with a real socket, or as a process that can be killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import numpy as np
import uvicorn

from service.http.app import create_app
from service.process.forkserver import Program
from service.settings import Settings
from service.webhook.receivers import Receivers
from tests.support import ROOT
from tests.support.models import Model
from tests.support.rows.row import out, start
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTY = Program("tests.support.service.faults", (*Program().paths, ROOT))
INSTANT = Program("tests.support.service.instant", FAULTY.paths)  # where this name is in the environment
MIB = 1 << 20
# Small and quick, and without bubblewrap, whose tests are those of the children.
SMALL: dict[str, Any] = {"port": 0, "sandbox": "off", "low_water_bytes": 0, "workers": 2, "child_memory_bytes": 2 << 30}
SMALL["spares"] = 0
SMALL["inspections"] = 2
SMALL["shutdown_seconds"] = 0.0
# Patient: what a test does not ask for does not happen because the machine is busy.
SMALL |= dict.fromkeys(("sync_seconds", "client_seconds", "upload_stall_seconds", "verify_seconds"), PATIENCE)


def model_bytes(seed: int = 0, channels: int = 6) -> bytes:
    """Conv -> BatchNormalization, which folds."""
    m = Model(dtype=np.float32, seed=seed)
    out(m, m.bn(m.conv(start(m), channels), name="bn"))
    return m.build().SerializeToString()


def slow(seconds: float, seed: int = 0) -> bytes:
    """A model whose fold takes so long; see `tests.support.service.faults`."""
    return f"SLOW{seconds}\n".encode() + model_bytes(seed)


def held(gate: Path, seed: int = 0) -> bytes:
    """A model whose fold goes on when there is a file at this place."""
    return f"HELD{gate}\n".encode() + model_bytes(seed)


class Running:
    """A server in a thread of this process."""

    def __init__(
        self, data: Path, program: Program | None = FAULTY, receivers: Receivers | None = None, **settings: Any
    ) -> None:
        self.settings = Settings(**{**SMALL, "data": data, **settings})
        self.app = create_app(self.settings, program, receivers)
        self._server = uvicorn.Server(uvicorn.Config(self.app, port=0, log_config=None, access_log=False))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join()


class Process:
    """A server as a process of its own, on a random port, that folds what `service_faults` makes of models."""

    MODULE: tuple[str, ...] = ("tests.support.service.server",)

    def __init__(self, data: Path, *paths: Path, **environment: str) -> None:
        """With `paths`, the packages are those of these folders."""
        self._data, self._paths, self._environment = data, os.pathsep.join(map(str, (*paths, ROOT))), environment

    def start(self) -> httpx.Client:
        variables = {f"BNFOLD_{name.upper()}": str(value) for name, value in (SMALL | self._environment).items()}
        command = [sys.executable, "-m", *self.MODULE, "--port", "0", "--data", str(self._data)]
        self._log = (self._data.parent / "log").open("a+b")
        at = self._log.seek(0, os.SEEK_END)
        self.process = subprocess.Popen(
            command,
            cwd=self._data.parent,  # Python looks for modules there first
            env=os.environ | {"PYTHONPATH": self._paths} | variables,
            stderr=self._log,
            start_new_session=True,
        )
        found: list[str] = []

        def listens() -> bool:
            self._log.seek(at)
            found[:] = re.findall(r"running on (http://[\d.:]+)", self._log.read().decode())
            return bool(found) or self.process.poll() is not None

        until(listens)
        assert found, (self._data.parent / "log").read_text()
        self._client = httpx.Client(base_url=found[0], timeout=PATIENCE)
        return self._client

    @property
    def url(self) -> str:
        """Where it listens, or has listened last."""
        return str(self._client.base_url)

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        """End it gracefully; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        code = self.process.wait(PATIENCE)
        with contextlib.suppress(AttributeError):  # its start was interrupted
            self._client.close()
        self._log.close()
        return code


@contextlib.contextmanager
def serving(data: Path, **environment: str) -> Iterator[tuple[Process, httpx.Client]]:
    process = Process(data, **environment)
    try:
        yield process, process.start()
    finally:
        if process.process.poll() is None:
            process.kill()


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """The job when it has ended."""
    document: dict[str, Any] = {}

    def has_ended() -> bool:
        document.update(client.get(f"/v1/jobs/{job}", params={"wait": 5}).raise_for_status().json())
        return document["status"] not in {"queued", "running"}

    until(has_ended)
    return document


def submit(client: httpx.Client, data: bytes, **params: Any) -> str:
    """The id of a job that was accepted."""
    answer = client.post("/v1/fold", content=data, params=params, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    identity: str = answer.json()["id"]
    return identity


def chosen() -> Program:
    """What the processes of folds are in a server or worker that is a process of its own."""
    return INSTANT if INSTANT.module in os.environ else FAULTY


if __name__ == "__main__":
    from service.command import main as command
    from tests.support.service import clock

    clock.follow(Path(sys.argv[sys.argv.index("--data") + 1]))
    honest = command.create_app
    command.create_app = lambda settings: honest(settings, chosen(), Receivers(is_allowed=bool))
    sys.exit(command.main(["serve", *sys.argv[1:]]))
