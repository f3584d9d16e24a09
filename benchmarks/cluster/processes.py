"""What the processes of a cluster hold: memory and open files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load.server import proportional
from service.process.watch import descendants

if TYPE_CHECKING:
    from benchmarks.cluster.cluster import Running


def held(processes: dict[str, list[Running]]) -> dict[str, dict[str, int]]:
    """Memory and files of each server and worker, of the template of each, and of the copies of it together."""
    found = {}
    for kind, running in processes.items():
        for number, one in enumerate(running, 1):
            template = one.template()
            found[f"{kind} {number}"] = _of(one.pid)
            if template is not None:
                found[f"its template {kind} {number}"] = _of(template)
            others = [pid for pid in descendants(one.pid) if pid != template]
            found[f"its others {kind} {number}"] = {
                "memory": sum(map(proportional, others)),
                "files": sum(_files(pid) for pid in others),
                "processes": len(others),
            }
    return found


def _of(pid: int) -> dict[str, int]:
    return {"memory": _resident(pid), "files": _files(pid)}


def _resident(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    return 0


def _files(pid: int) -> int:
    with suppress(OSError):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0
