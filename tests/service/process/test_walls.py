"""Attacks from a fold that a model has taken over, through a server: in every sandbox, each finds the wall it meets.

What is attacked: secrets, the ledger, blobs and folds of others, other processes, the network, the kernel; and the
limits of the whole fold. See docs/security.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from service import state
from service.process import landlock
from service.process.sandbox import PACKAGES
from service.process.watch import descendants
from tests.support.processes import PROC, children, text
from tests.support.service.sandbox import required
from tests.support.service.server import Running, model_bytes, submit
from tests.support.waiting import FOREVER, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
MEMORY = 2048 * MIB  # of one fold

BEGIN = """
import ctypes, os, socket, subprocess, sys
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, attack, *args, **kwargs):
    try:
        result = attack(*args, **kwargs)
    except (OSError, RuntimeError, ValueError) as error:
        return
    if result != -1:
        found[name] = repr(result)[:80]
"""


@dataclass
class Attacked:
    """A server whose folds run in one kind of sandbox, and the blob of somebody else."""

    kind: str
    running: Running
    data: Path
    blob: Path

    def found(self, code: str, **names: object) -> dict[str, Any]:
        """What an attack finds."""
        begin = "".join(f"{name} = {str(value)!r}\n" for name, value in names.items())
        answer = self.running.client.post("/v1/fold", content=f"EXEC{BEGIN}{begin}{code}".encode())
        assert answer.status_code == 200, answer.text
        facts: dict[str, Any] = json.loads(answer.content)
        return facts


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("attacked")
    sandbox = required(request.param, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "find_sandbox", lambda *_: sandbox)
        with Running(folder / "data", child_memory_bytes=MEMORY, sandbox="auto", child_tasks=64) as running:
            data = model_bytes()
            assert running.client.post("/v1/fold", content=data).status_code == 200
            digest = hashlib.sha256(data).hexdigest()
            (folder / "data" / "secret").write_bytes(bytes(32))
            yield Attacked(
                request.param, running, folder / "data", folder / f"data/blobs/sha256/{digest[:2]}/{digest[2:]}"
            )


def test_it_reads_nothing_of_others(attacked):
    other = submit(attacked.running.client, b"EXEC" + f"import time; time.sleep({FOREVER})".encode())
    until(lambda: attacked.running.client.get(f"/v1/jobs/{other}").json()["status"] == "running")
    code = """
data = Path(data)
for name in ("secret", "ledger.sqlite3", "lock"):
    attempt(name, (data / name).read_bytes)
attempt("a blob", Path(blob).read_bytes)
for folder in (data, data / "blobs", data / "jobs", data.parent, Path("/home")):
    attempt(f"names in {folder}", os.listdir, folder)
for name in ("/etc/passwd", "/etc/shadow", "/dev/mem", "/proc/kcore"):
    attempt(name, Path(name).read_bytes)
"""
    found = attacked.found(code, data=attacked.data, blob=attacked.blob)
    attacked.running.client.delete(f"/v1/jobs/{other}")
    assert found == {}


def test_it_takes_nothing_along_from_the_process_that_it_is_a_copy_of(attacked):
    """No open file but its pipes, no variable of the server, no name of an earlier fold in its memory."""
    earlier = submit(attacked.running.client, model_bytes(seed=7), name="earlier-fold.onnx")
    until(lambda: attacked.running.client.get(f"/v1/jobs/{earlier}").json()["status"] == "done")
    code = """
import gc, threading
for one in set(threading.enumerate()) - {threading.current_thread()}:
    one.join()  # the thread that compares the model with its digest has it open until then
for number in range(5, 256):  # before: its pipes, and that of the process that will verify
    attempt(f"file {number}", os.fstat, number)
attempt("variables", lambda: sorted(set(os.environ) - set(known.split())) or -1)
attempt("variables of its start", lambda: [one for one in Path("/proc/self/environ").read_bytes().split(b"\\0")
                                          if one.startswith((b"BNFOLD", b"SECRET", b"PYTEST"))] or -1)
wanted = "-".join(["earlier", "fold"])
texts = [one for one in gc.get_objects() if isinstance(one, (dict, list, tuple))]
attempt("names of others", lambda: [one for held in texts for one in (held.values() if isinstance(held, dict) else held)
                                   if isinstance(one, str) and one is not wanted and one.startswith(wanted)] or -1)
"""
    known = ("PATH LANG HOME TMPDIR PYTHONPATH PYTHONDONTWRITEBYTECODE OPENBLAS_NUM_THREADS MALLOC_ARENA_MAX"
             " ORT_DISABLE_TELEMETRY")  # fmt: skip
    assert attacked.found(code, known=known) == {}


def test_it_sees_and_touches_no_other_process(attacked):
    code = """
server = int(server)
for name in ("environ", "cmdline", "maps", "mem", "status", "root", "cwd", "fd"):
    path = Path(f"/proc/{server}/{name}")
    attempt(f"/proc/{name}", os.listdir if name in ("root", "cwd", "fd") else Path.read_bytes, path)
attempt("ptrace", libc.ptrace, 16, server, 0, 0)
attempt("prlimit", __import__("resource").prlimit, server, 0)
attempt("pidfd", lambda: libc.syscall(438, os.pidfd_open(server), 3, 0))
if signals == "True":
    attempt("kill", os.kill, server, 0)
attempt("renice", os.setpriority, os.PRIO_PROCESS, server, 19)
"""
    signals = attacked.kind == "bubblewrap" or landlock.version() >= landlock.SCOPES_SINCE
    assert attacked.found(code, server=os.getpid(), signals=signals) == {}


def test_it_has_no_network(attacked):
    code = """
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", int(port)), 5))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)))
attempt("listen", lambda: socket.create_server(("127.0.0.1", 0)))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect("/run/dbus/system_bus_socket"))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
"""
    assert attacked.found(code, port=attacked.running.client.base_url.port) == {}


def test_it_changes_nothing_but_its_own(attacked):
    """Not even as root: it holds no capability, its input is no way to the blob, and modes are not its to change."""
    before, mode = attacked.blob.read_bytes(), attacked.blob.stat().st_mode
    code = """
mine = Path().absolute()
(model,) = mine.iterdir()
def openable(path):  # and nothing is written: what it opens is of the whole machine
    with open(path, "r+b"):
        return path
attempt("umount", libc.umount2, str(mine).encode(), 2)
attempt("remount", libc.mount, None, str(mine).encode(), None, 32 | 4096, None)
attempt("bind", libc.mount, b"../tmp", b"../tmp", None, 4096, None)
for name, attack in (("in", lambda: (mine / "new").write_text("x")), ("usr", lambda: Path("/usr/new").write_text("x")),
                     ("root", lambda: Path("/new").mkdir()),
                     ("packages", lambda: Path(packages, "new").write_text("x")),
                     ("server", lambda: Path(data, "new").write_text("x")),
                     ("mode of the server's folder", lambda: os.chmod(data, 0)),
                     ("the kernel's settings", lambda: openable("/proc/sys/kernel/core_pattern")),
                     ("the kernel's keyboard", lambda: openable("/proc/sysrq-trigger")),
                     ("device", lambda: os.mknod("../out/disk", 0o60600, os.makedev(8, 0)))):
    attempt(name, attack)
for path in [model, *Path("/proc/self/fd").glob("*")] if Path("/proc/self/fd").exists() else [model]:
    attempt(f"chmod {path}", os.chmod, path, 0o600)
    if Path(path).is_file() and not str(path).startswith("/proc/self/fd"):
        attempt(f"write {path}", lambda: open(path, "r+b").write(b"X"))
rights = [line.split() for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm"))]
attempt("capabilities", lambda: [name for name, value in rights if int(value, 16)] or -1)
attempt("link", os.link, blob, "../out/blob")
"""
    found = attacked.found(code, data=attacked.data, blob=attacked.blob, packages=PACKAGES[0])
    assert {name for name in found if not name.startswith("chmod /proc/self/fd")} == set()
    assert (attacked.blob.read_bytes(), attacked.blob.stat().st_mode) == (before, mode)
    assert stat.S_IMODE(attacked.data.stat().st_mode) == 0o700


def test_its_input_is_not_the_blob(attacked):
    """In bubblewrap it is the same file, on a mount that is read-only; elsewhere a copy."""
    code = "found['inode'] = next(Path().iterdir()).stat().st_ino"
    inode = attacked.found(code)["inode"]
    own = {path.stat().st_ino for path in (attacked.data / "blobs").rglob("*")}
    assert (inode in own) == (attacked.kind == "bubblewrap")


def test_it_makes_no_namespaces_and_asks_the_kernel_for_nothing_else(attacked):
    code = """
for name, number, *arguments in (
    ("user namespace", 272, 0x10000000), ("mount namespace", 272, 0x20000), ("network namespace", 272, 0x40000000),
    ("keyring", 250, 0, -3, 1), ("io_uring", 425, 8, 0), ("bpf", 321, 0, 0, 0), ("perf", 298, 0, 0, -1, -1, 0),
    ("userfaultfd", 323, 0), ("memfd", 319, b"x", 0), ("shared memory", 29, 0, 4096, 0o1600), ("chroot", 161, b"/tmp"),
    ("personality", 135, 0x0040000), ("clone3", 435, 0, 0), ("namespace of another", 308, 0, 0),
):
    attempt(name, libc.syscall, number, *arguments)
attempt("clone", lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) or os._exit(9))
"""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of this attack are those of x86-64")
    assert attacked.found(code) == {}


def test_its_temporary_files_are_on_the_disk_which_is_watched(attacked):
    code = """
own = os.stat("../tmp").st_dev
for name in ("/tmp", "/dev/shm", "/dev", "/", "/run", "/var/tmp"):
    def write():
        path = Path(name, "x")
        path.write_text("x")
        return path.stat().st_dev if path.stat().st_dev != own else -1
    attempt(name, write)
"""
    assert attacked.found(code) == {}


def problem(attacked: Attacked, code: str) -> str:
    answer = attacked.running.client.post("/v1/fold", content=f"EXEC{BEGIN}{code}".encode())
    assert answer.status_code == 422, answer.text
    return f"{answer.json()['type'].rpartition('/')[2]}: {answer.json()['detail']}"


def test_its_processes_together_have_the_memory_of_one_fold(attacked):
    """Each of them is within the limit of one process."""
    code = f"""
for number in range(4):
    if os.fork() == 0:
        held = bytearray({MEMORY // 3})
        held[::4096] = b"x" * len(held[::4096])
        break
import time; time.sleep({FOREVER})
"""
    assert problem(attacked, code).startswith("out-of-memory: ")


def test_its_processes_are_bounded(attacked):
    code = f"""
import time
try:
    while True:
        subprocess.Popen(["sleep", "{FOREVER}"])  # a copy of this process would meet the bound of memory first
except OSError:
    time.sleep({FOREVER})
"""
    assert problem(attacked, code) == (
        "crashed: the fold of this model started too many processes; please report the model"
    )
    until(lambda: not workers())


def workers() -> list[int]:
    """The processes of folds: what was forked from the templates."""
    commands = {pid: text(PROC / str(pid) / "cmdline") for pid in descendants(os.getpid())}
    return [
        pid for pid, command in commands.items() if "service.faults" in command and pid not in children(os.getpid())
    ]


def test_it_is_the_first_to_go_when_memory_runs_out(attacked):
    job = submit(attacked.running.client, b"EXEC" + f"import time; time.sleep({FOREVER} + 1)".encode())

    def scores() -> set[str]:
        return {text(PROC / f"{pid}/oom_score_adj").strip() for pid in workers()}

    until(lambda: scores() == {"1000"})
    attacked.running.client.delete(f"/v1/jobs/{job}")


def test_an_honest_fold_comes_out_as_it_does_without_walls(attacked, tmp_path):
    data = model_bytes(seed=3)
    answer = attacked.running.client.post("/v1/fold", content=data)
    with Running(tmp_path / "data") as bare:
        assert bare.client.post("/v1/fold", content=data).content == answer.content
    report = attacked.running.client.get(f"/v1/jobs/{answer.headers['Bnfold-Job']}/report").json()
    assert report["verification"]["status"] == "verified"


def test_which_sandbox_holds_is_reported(attacked):
    client = attacked.running.client
    assert client.get("/readyz").json()["sandbox"] == attacked.kind
    metrics = client.get("/metrics").text
    assert [f'bnfold_sandbox{{kind="{kind}"}} {float(kind == attacked.kind)}' in metrics
            for kind in ("bubblewrap", "landlock", "none")] == [True] * 3  # fmt: skip
