"""The sandbox: what keeps a fold from the network, and from all files and processes but its own.

bubblewrap, where it is installed and may make namespaces; else Landlock with a filter of system calls, which containers
have, too. `walls` is what the process of the fold closes itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import folding
import service
from service.engine import landlock, seccomp
from service.engine.walls import APART, SYSTEM, Kind
from service.work import LIBRARY, OUT, TEMPORARY, UNPACKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDER = Path("/fold")  # the path of the fold's folder inside bubblewrap
OWN = (OUT, TEMPORARY, UNPACKED)  # what a fold may write
PROBE_SECONDS = 60
PROBE = """
import ctypes, ssl, sys
from pathlib import Path
from service.engine.walls import close
from service.engine.confine import PR_SET_NO_NEW_PRIVS
ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
close(sys.argv[2], Path(sys.argv[1]))
import sqlite3
"""
PACKAGES = tuple(Path(next(iter(package.__path__))) for package in (folding, service))
ALONE = ("--unshare-user", "--disable-userns")  # bubblewrap 0.8: no further user namespaces, nor the rights in them


@dataclass(frozen=True)
class Sandbox:
    """Starts processes in a sandbox of one kind."""

    kind: Kind
    program: str = ""  # bubblewrap
    readable: tuple[Path, ...] = PACKAGES  # folders, besides the interpreter's
    options: tuple[str, ...] = ALONE

    @property
    def hides_folders(self) -> bool:
        """Whether the process sees its folder at another place, and cannot reach the files there in another way."""
        return self.kind == "bubblewrap"

    def place(self, folder: Path) -> Path:
        """Where the process finds the folder of its fold."""
        return FOLDER if self.hides_folders else folder

    def command(self, folder: Path, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in the sandbox, with `folder` at `place`.

        In bubblewrap, every process either stays in the process group of bubblewrap, or ends with the first process of
        the sandbox, which stays in that group. So a signal to the group ends all of them. For this, the caller must
        start the command in a session of its own, without a terminal.
        """
        if self.kind != "bubblewrap":
            return list(command)
        arguments = ["--unshare-all", *self.options, "--cap-drop", "ALL", "--die-with-parent"]
        arguments += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", str(folder), str(FOLDER)]
        for name in OWN:
            arguments += ["--bind", str(folder / name), str(FOLDER / name)]
        for path in APART:  # on the disk, which is watched
            arguments += ["--bind", str(folder / TEMPORARY), path]
        for path in SYSTEM:
            arguments += ["--ro-bind-try", path, path]
        for place in dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix), *self.readable)):
            arguments += ["--ro-bind", str(place), str(place)]
        for path in ("/dev", "/", "/proc"):  # memory that nobody counts; settings of the machine, which root may write
            arguments += ["--remount-ro", path]
        return [self.program, *arguments, "--chdir", str(FOLDER), "--", *command]

    def prepare(self, folder: Path) -> None:
        """Put links to the packages into the folder of a fold: Landlock hides the names in the folder they are in."""
        (folder / LIBRARY).mkdir()
        for package in self.readable:
            (folder / LIBRARY / package.name).symlink_to(package)

    def works(self, folder: Path) -> bool:
        """Whether a process can be started in this way on this machine: containers and kernels often forbid it."""
        probe = folder / "probe"
        shutil.rmtree(probe, ignore_errors=True)
        for name in OWN:
            (probe / name).mkdir(parents=True)
        self.prepare(probe)
        command = self.command(probe, [sys.executable, "-P", "-c", PROBE, str(self.place(probe)), self.kind])
        library = str(self.place(probe) / LIBRARY)
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": library, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=PROBE_SECONDS, env=environment)
        except (OSError, subprocess.TimeoutExpired):
            return False
        finally:
            shutil.rmtree(probe, ignore_errors=True)
        return done.returncode == 0


def find_sandbox(choice: str, folder: Path) -> Sandbox | None:
    """The sandbox to use, or None; `choice` is auto, require or off.

    Raises:
        RuntimeError: it is required, and none works on this machine.
    """
    if choice == "off":
        return None
    if found := next((sandbox for sandbox in _candidates() if sandbox.works(folder)), None):
        return found
    if choice == "require":
        program = shutil.which("bwrap")
        reason = "is not installed" if program is None else "cannot make namespaces here"
        known = landlock.version() >= landlock.OLDEST and seccomp.is_known()
        other = "does not work" if known else "is not in this kernel (Linux 5.19 and later)"
        raise RuntimeError(f"sandbox: bubblewrap {reason}, and Landlock {other}; install bubblewrap, or choose auto")
    return None


def _candidates() -> Iterator[Sandbox]:
    """The sandboxes to try, the best first."""
    if program := shutil.which("bwrap"):
        best = Sandbox("bubblewrap", program)
        yield best
        yield replace(best, options=())
    if landlock.version() >= landlock.OLDEST and seccomp.is_known():
        yield Sandbox("landlock")
