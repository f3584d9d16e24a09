"""``python -m benchmarks.copying``: how long a fold of 1.9 GB takes, in turns with `cp` of the same file.

Writes `benchmarks/results/copying.md`. The exit code is 1 if a fold failed.
"""

from __future__ import annotations

import argparse
import compileall
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import folding
from benchmarks import models
from benchmarks.measure import Bench
from benchmarks.table import MB, machine
from benchmarks.tools import TOOLS, Tool, bnfold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Run

MODEL = "1.9gb"
ROUNDS = 6
TIMEOUT = 300.0  # seconds
RESULTS = Path(__file__).with_name("results") / "copying.md"
WAYS = {
    "cp": TOOLS["cp"],
    "bnfold fold": TOOLS["bnfold"],
    "bnfold fold --target tensorrt-11": Tool(bnfold("--no-verify", "--target", "tensorrt-11"), "", "bnfold"),
    "bnfold fold --precision fp16": Tool(bnfold("--no-verify", "--precision", "fp16"), "", "bnfold"),
}


def measure(rounds: int, folder: Path) -> dict[str, list[Run]]:
    """All runs by way, in a random order: one may pay for memory that the one before gave back to the host.

    The first copy does not count.
    """
    compileall.compile_dir(Path(folding.__path__[0]), quiet=1)  # as installers do
    bench = Bench(MODEL, models.write(models.MODELS[MODEL], folder / MODEL), folder, TIMEOUT)
    bench.run("cp", WAYS["cp"], 0)
    found: dict[str, list[Run]] = {name: [] for name in WAYS}
    draw = random.Random(models.SEED)
    for number in range(rounds):
        for name in draw.sample(list(WAYS), len(WAYS)):
            found[name].append(bench.run(name, WAYS[name], number))
    return found


def report(found: dict[str, list[Run]]) -> str:
    """The table."""
    rows = ["| | wall s | x cp, of medians | x cp, of sums | CPU s | peak MB | output MB |", "|---|" + "---:|" * 6]
    cp = [run.wall for run in found["cp"]]
    for name, runs in found.items():
        wall, cpu = [run.wall for run in runs], [run.cpu for run in runs]
        ranged = f"{statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f})"
        ratios = f"{statistics.median(wall) / statistics.median(cp):.2f} | {sum(wall) / sum(cp):.2f}"
        peak, size = max(run.peak for run in runs) / MB, runs[0].nbytes / MB
        rows.append(f"| `{name}` | {ranged} | {ratios} | {statistics.median(cpu):.2f} | {peak:.0f} | {size:,.0f} |")
    rounds, policy = len(cp), os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else 0
    ahead = ", all with real-time priority, since others used the machine" if policy else ""
    about = f"{models.MODELS[MODEL].title}, {rounds} rounds{ahead}; medians, wall time with its range. {machine()}"
    method = (
        "Folds are without verification. Before each run the output is deleted, `sync` ends, and the source is read."
    )
    return f"# Beside cp\n\n{about}\n\n{method}\n\n" + "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.copying", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, help="where the model is, or is made")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bnfold-bench-") as folder:
        found = measure(given.rounds, given.folder or Path(folder))
    failures = [f"{name}: {run.failure}" for name, runs in found.items() for run in runs if run.failure]
    text = report(found)
    RESULTS.write_text(text)
    print(text, *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
