"""The machine is what a container gives of it, in both versions of cgroups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from service import machine

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
