"""A cluster measured: two workers against one, a fleet that is interrupted twice, and load at the limit.

python -m benchmarks.cluster                    # all of it, an hour and more; writes benchmarks/results/cluster.md
python -m benchmarks.cluster --only sustained   # namespaces (as root), fleet or sustained; the other parts stay
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.cluster.fleet import fleet
from benchmarks.cluster.namespaces import namespaces
from benchmarks.cluster.sustained import sustained
from benchmarks.cluster.table import page
from benchmarks.load.server import ROOT

if TYPE_CHECKING:
    from types import FrameType

RESULTS = ROOT / "benchmarks/results"
PARTS = ("namespaces", "fleet", "sustained")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--jobs", type=int, default=100, help="namespaces: jobs of each run")
    parser.add_argument("--rounds", type=int, default=3, help="namespaces: runs with one worker, and with two")
    parser.add_argument("--models", type=int, default=10_000, help="fleet: models")
    parser.add_argument("--minutes", type=float, default=20, help="sustained: how long")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    kept = RESULTS / "cluster.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    parts: dict[str, Any] = {
        "namespaces": lambda: namespaces(given.jobs, given.rounds),
        "fleet": lambda: fleet(given.models),
        "sustained": lambda: sustained(given.minutes * 60),
    }
    measured = [given.only] if given.only else PARTS
    for name in measured:
        before = os.getloadavg()[0]
        known[name] = {"load average": before, **parts[name]()}
        kept.write_text(json.dumps(known) + "\n")  # for this program alone: thousands of figures
        (RESULTS / "cluster.md").write_text(page(known))
        print(page({name: known[name]}))
    return int(any(known[name]["lost"] for name in measured))


def _end(_: int, __: FrameType | None) -> None:
    """Undo everything, and end; a second signal changes nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
