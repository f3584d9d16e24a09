"""``python -m benchmarks``: make the models, run the tools in turns, write a table and a plot."""

from __future__ import annotations

import argparse
import compileall
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import folding
from benchmarks import models, table
from benchmarks.measure import Bench
from benchmarks.models import MODELS
from benchmarks.plot import draw
from benchmarks.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measure import Run

ROUNDS = 5  # the median of five is not moved by two disturbed runs
TIMEOUT = 900.0  # seconds; the slowest tool needs about one minute for each 100 MB
SLOW = 30.0  # seconds; in a longer run the noise of starting it does not matter, so it is not repeated
SPARE_BYTES = 1 << 30  # at least 1 GiB of the disk stays free
COPIES = 2  # of a model on disk at a time: the source and one output
RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Schedule:
    """What to run: names of `MODELS` and `TOOLS`, the number of rounds, and limits in seconds."""

    models: Sequence[str]
    tools: Sequence[str]
    rounds: int = ROUNDS
    timeout: float = TIMEOUT
    slow: float = SLOW
    all_tools: bool = False
    keep: bool = False

    def tools_for(self, name: str) -> list[str]:
        """The names of the tools to run on a model."""
        return [tool for tool in self.tools if self.all_tools or TOOLS[tool].on_big or not MODELS[name].big]


def measure(schedule: Schedule, folder: Path) -> tuple[list[Run], list[str]]:
    """Do all runs; return them, and a sentence for each model left out. Only one model is on the disk at a time."""
    runs: list[Run] = []
    notes: list[str] = []
    # Installers do this for the other tools; an editable install may never have been compiled.
    compileall.compile_dir(Path(folding.__path__[0]), quiet=1)
    for name in schedule.models:
        place = folder / name
        needed = COPIES * MODELS[name].nbytes + SPARE_BYTES
        if not place.exists() and shutil.disk_usage(folder).free < needed:
            notes.append(f"{name}: it needs {needed / table.GB:.1f} GB of free disk space")
            continue
        files = models.write(MODELS[name], place)
        runs += rounds(schedule, Bench(name, files, folder, schedule.timeout))
        if not schedule.keep:
            shutil.rmtree(place)
    return runs, notes


def rounds(schedule: Schedule, bench: Bench) -> Iterator[Run]:
    """Run every tool once per round, starting each round with another tool; slow and failed tools run only once."""
    bench.run(table.BASELINE, TOOLS[table.BASELINE], 0)  # not counted, see `table.METHOD`
    waiting = schedule.tools_for(bench.model)
    for number in range(1, schedule.rounds + 1):
        for tool in tuple(waiting):
            run = bench.run(tool, TOOLS[tool], number)
            print(_line(run), flush=True)
            yield run
            if run.failure or run.wall > schedule.slow:
                waiting.remove(tool)
        waiting = waiting[1:] + waiting[:1]


def _line(run: Run) -> str:
    outcome = run.failure or f"{run.wall:8.2f} s {run.cpu:8.2f} CPU s {run.peak / table.MB:8.0f} MB"
    return f"{run.model:>15} {run.number:3} {run.tool:15} {outcome}"


@contextmanager
def _working_folder(given: Path | None) -> Iterator[Path]:
    """The folder for models and outputs: `given`, created if missing, or a temporary one."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="bnfold-bench-") as folder:
        yield Path(folder)


def _names(allowed: Sequence[str], text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in allowed]:
        raise argparse.ArgumentTypeError(f"no such name: {', '.join(unknown)}; choose from {', '.join(allowed)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, allow_abbrev=False)
    for option, known in (("--models", MODELS), ("--tools", TOOLS)):
        parser.add_argument(
            option, type=partial(_names, tuple(known)), default=list(known), metavar="A,B",
            help=f"which of {', '.join(known)} (default: all)",
        )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each tool (default: %(default)s)")
    parser.add_argument("--all-tools", action="store_true", help="run every tool on the big models, too: takes long")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for one run (default: %(default)g)")
    parser.add_argument("--slow", type=float, default=SLOW, help="do not repeat longer runs (default: %(default)g s)")
    parser.add_argument("--folder", type=Path, help="where models and outputs go (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the models in --folder for the next time")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go (default: beside this)")
    parser.add_argument("--quick", action="store_true", help="the small model, one round: shows that it works")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if bnfold failed or left a BatchNormalization (all can be folded), else 0."""
    parser = _parser()
    given = parser.parse_args(argv)
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if given.keep and given.folder is None:
        parser.error("--keep needs --folder: a temporary folder is deleted")
    schedule = Schedule(given.models, given.tools, given.rounds, given.timeout, given.slow, given.all_tools, given.keep)
    if given.quick:
        schedule = Schedule(["small"], given.tools, 1, given.timeout, given.slow, keep=given.keep)
    with _working_folder(given.folder) as folder:
        runs, notes = measure(schedule, folder)
    table.write(runs, given.output, notes)
    if runs:
        draw(runs, given.output / "results.svg")
    print((given.output / "results.md").read_text())
    ours = (run for run in runs if TOOLS[run.tool].package == "bnfold")
    return int(any(run.failure or run.normalizations for run in ours))


if __name__ == "__main__":
    sys.exit(main())
