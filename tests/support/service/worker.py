"""A worker as a process of its own, which folds what `service_faults` makes of models."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.service.server import SMALL, chosen
from tests.support.waiting import PATIENCE, until


class WorkerProcess:
    """A worker, with a data folder of its own."""

    def __init__(self, data: Path, *paths: Path, entering: tuple[str, ...] = (), **environment: Any) -> None:
        """With `paths`, the packages are those of these folders; `entering` is what its command begins with."""
        self.data, self._paths, self._environment = data, os.pathsep.join(map(str, (*paths, ROOT))), environment
        self._entering = entering

    def start(self) -> None:
        known = {name: value for name, value in SMALL.items() if name != "port"} | self._environment
        variables = {f"BNFOLD_{name.upper()}": str(value) for name, value in known.items()}
        command = [*self._entering, sys.executable, "-m", "tests.support.service.worker", "--data", str(self.data)]
        self.data.parent.mkdir(parents=True, exist_ok=True)
        self.log = self.data.with_suffix(".log")
        self._from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.data.parent,  # Python looks for modules there first
                env=os.environ | {"PYTHONPATH": self._paths} | variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it works."""
        until(lambda: b"bnfold works" in self.log.read_bytes()[self._from :] or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """Drain it; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


if __name__ == "__main__":
    from service.command import main as command
    from service.command import worker
    from tests.support.service import clock

    clock.follow(Path(sys.argv[sys.argv.index("--data") + 1]))
    honest = worker.run
    worker.run = lambda settings, _: honest(settings, chosen())
    sys.exit(command.main(["worker", *sys.argv[1:]]))
