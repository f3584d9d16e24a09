"""The sandbox: what keeps a fold from the network, and from all files and processes but its own.

bubblewrap, where it is installed and may make namespaces; else Landlock with a filter of system calls, which containers
have, too. `walls` is what the process of the fold closes itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import folding
import service
from service.process import landlock, seccomp
from service.process.walls import APART, SYSTEM, Kind
from service.work import LIBRARY, OUT, TEMPORARY, UNPACKED

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDER = Path("/fold")  # the path of the fold's folder inside bubblewrap
OWN = (OUT, TEMPORARY, UNPACKED)  # what a fold may write
PROBE_SECONDS = 60
PROBE = """
import ctypes, os, ssl, subprocess, sys
from pathlib import Path
from service.process.confine import PR_SET_NO_NEW_PRIVS
from service.process.template import enter
from service.process.walls import close
from service.process.watch import descendants
place, kind, *command = sys.argv[1:]
if command:
    held = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert held.stdout.readline()
    enter(os.pidfd_open(descendants(held.pid)[-1]))
if pid := os.fork():
    sys.exit(os.waitpid(pid, 0)[1] != 0)
ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
close(kind, Path(place))
import sqlite3
"""
HOLD = ("/bin/sh", "-c", "echo; read _")  # says that it runs, and keeps the sandbox until its input ends
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

    def command(self, folder: Path) -> list[str]:
        """The command that makes the namespaces of a fold with `folder` at `place`; empty if there are none.

        What it runs in them prints a line, and ends with its standard input, and with it all that entered them. The
        caller must start the command in a session of its own, without a terminal: a signal to its group ends it.
        """
        if self.kind != "bubblewrap":
            return []
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
        return [self.program, *arguments, "--chdir", "/", "--", *HOLD]

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
        command = [sys.executable, "-P", "-c", PROBE, str(self.place(probe)), self.kind, *self.command(probe)]
        paths = os.pathsep.join(str(package.parent) for package in PACKAGES)
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
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
