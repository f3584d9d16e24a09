"""The sandbox: bubblewrap, if it is installed and works. A fold gets no network, and no files but its own."""

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

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")  # what an interpreter needs from the system
FOLDER = Path("/fold")  # the path of the fold's folder inside the sandbox
PROBE_SECONDS = 30
PACKAGES = tuple(Path(next(iter(package.__path__))) for package in (folding, service))


@dataclass(frozen=True)
class Sandbox:
    """Starts processes in bubblewrap."""

    program: str
    readable: tuple[Path, ...] = PACKAGES  # folders, besides the interpreter's

    def command(self, folder: Path, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in a sandbox with `folder` as `FOLDER`, its `in/` read-only.

        Every process in it either stays in the process group of bubblewrap, or ends with the first process of the
        sandbox, which stays in that group. So a signal to the group ends all of them. For this, the caller must start
        the command in a session of its own, without a terminal.
        """
        arguments = ["--unshare-all", "--die-with-parent", "--tmpfs", "/tmp", "--proc", "/proc"]  # noqa: S108  the sandbox's own
        arguments += ["--dev", "/dev", "--bind", str(folder), str(FOLDER)]
        arguments += ["--ro-bind", str(folder / IN), str(FOLDER / IN), "--chdir", str(FOLDER)]
        for path in SYSTEM:
            arguments += ["--ro-bind-try", path, path]
        for place in dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix), *self.readable)):
            arguments += ["--ro-bind", str(place), str(place)]
        return [self.program, *arguments, "--", *command]

    def works(self, folder: Path) -> bool:
        """Whether a process can be started in this way on this machine: containers and kernels often forbid it."""
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
    """The sandbox to use, or None; `choice` is auto, require or off.

    Raises:
        RuntimeError: it is required, and does not work on this machine.
    """
    program = shutil.which("bwrap") if choice != "off" else None
    sandbox = Sandbox(program) if program else None
    if sandbox is not None and sandbox.works(folder):
        return sandbox
    if choice == "require":
        reason = "it is not installed" if program is None else "it cannot make namespaces here"
        raise RuntimeError(f"sandbox: bubblewrap does not work: {reason}; install it, or choose auto")
    return None
