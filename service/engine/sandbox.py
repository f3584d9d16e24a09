"""The sandbox: bubblewrap, where it is installed and works. No network, and no files but the fold's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import folding
import service
from service.work import IN

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")  # what an interpreter needs of a system
FOLDER = Path("/fold")  # where the folder of the fold is, inside
PROBE_SECONDS = 30
PACKAGES = tuple(Path(next(iter(package.__path__))) for package in (folding, service))


@dataclass(frozen=True)
class Sandbox:
    """How to start a process in bubblewrap."""

    program: str
    readable: tuple[Path, ...] = PACKAGES  # besides the interpreter

    def command(self, folder: Path, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in a sandbox with `folder` as `FOLDER`, its `in/` read-only.

        Everything in it stays in the process group of bubblewrap, or goes with the first process of the sandbox, which
        does: a signal to the group ends all. That takes a session of its own, without a terminal, from who starts it.
        """
        arguments = ["--unshare-all", "--die-with-parent", "--tmpfs", "/tmp", "--proc", "/proc"]  # noqa: S108  its own
        arguments += ["--dev", "/dev", "--bind", str(folder), str(FOLDER)]
        arguments += ["--ro-bind", str(folder / IN), str(FOLDER / IN), "--chdir", str(FOLDER)]
        for path in SYSTEM:
            arguments += ["--ro-bind-try", path, path]
        for place in dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix), *self.readable)):
            arguments += ["--ro-bind", str(place), str(place)]
        return [self.program, *arguments, "--", *command]

    def works(self, folder: Path) -> bool:
        """Whether a process can be started so, here: containers and kernels often forbid it."""
        probe = folder / "probe"
        (probe / IN).mkdir(parents=True, exist_ok=True)
        command = self.command(probe, [sys.executable, "-I", "-c", "import ssl, ctypes"])
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=PROBE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return False
        finally:
            shutil.rmtree(probe, ignore_errors=True)
        return done.returncode == 0


def find_sandbox(choice: str, folder: Path) -> Sandbox | None:
    """The sandbox to use: `choice` is auto, require or off.

    Raises:
        RuntimeError: it is required, and does not work here.
    """
    program = shutil.which("bwrap") if choice != "off" else None
    sandbox = Sandbox(program) if program else None
    if sandbox is not None and sandbox.works(folder):
        return sandbox
    if choice == "require":
        reason = "it is not installed" if program is None else "it cannot make namespaces here"
        raise RuntimeError(f"sandbox: bubblewrap does not work: {reason}; install it, or choose auto")
    return None
