"""The machine is what a container gives of it, in both versions of cgroups; its threads share free memory."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from service import machine
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
ALL = len(os.sched_getaffinity(0))
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def made(root: Path, group: str, files: dict[str, str]) -> Path:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(group)
    for name, content in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("group", "files", "cores", "memory"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n", "memory.max": "1073741824\n"}, 1, GIB),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, ALL, MEMORY),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1, MEMORY),  # half a processor is one worker
        ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/memory.max": "max\n", "a/memory.max": "5\n"}, 1, 5),
        ("0::/a\n", {"cpu.max": "9900000 100000\n"}, ALL, MEMORY),  # more than there is
        (
            "5:cpu,cpuacct:/x\n4:memory:/x\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "100000\n",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
                "memory/x/memory.limit_in_bytes": "1073741824\n",
            },
            1,
            GIB,
        ),
        (
            "5:cpu,cpuacct:/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            ALL,
            MEMORY,
        ),
        ("", {}, ALL, MEMORY),
        ("nonsense", {}, ALL, MEMORY),
    ],
)
def test_what_a_container_gives(tmp_path, group, files, cores, memory):
    root = made(tmp_path, group, files)
    assert (machine.cores(root), machine.memory(root)) == (cores, memory)


def test_a_machine_without_containers(tmp_path):
    assert (machine.cores(tmp_path), machine.memory(tmp_path)) == (ALL, MEMORY)


ARENAS = """
import ctypes, re, sys, threading
from service.machine import share_free_memory
if sys.argv[1] == "True":
    share_free_memory()
library = ctypes.CDLL(None)
library.malloc.restype = library.fopen.restype = ctypes.c_void_p
together = threading.Barrier(6)
def allocate():
    together.wait()
    library.malloc(1000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = ctypes.c_void_p(library.fopen(sys.argv[2].encode(), b"w"))
library.malloc_info(0, file)
library.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no arenas")
@pytest.mark.parametrize(
    ("asked", "variables", "few"), [(True, {}, True), (False, {}, False), (True, {"MALLOC_ARENA_MAX": "6"}, False)]
)
def test_threads_share_arenas_unless_somebody_else_decides(tmp_path, asked, variables, few):
    """Free memory in an arena is lost to all others: a server with many threads kept what each of them once took."""
    path = tmp_path / "arenas.xml"
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", ARENAS, str(asked), str(path)]
    subprocess.run(command, check=True, env=mine | variables | {"PYTHONPATH": str(ROOT)})
    assert (len(re.findall("<heap nr=", path.read_text())) <= machine.ARENAS) == few
