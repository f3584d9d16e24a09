"""``python -m benchmarks.architectures``: export what Python packages hold, fold it, report what stays and why."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.architectures import table
from benchmarks.architectures.families import FAMILIES, QUICK
from benchmarks.architectures.survey import EXPORTERS, ROOT, Row, Survey

if TYPE_CHECKING:
    from collections.abc import Sequence

CACHE = ROOT / ".cache" / table.NAME
RESULTS = ROOT / "benchmarks" / "results"
TIMEOUT = 600.0  # seconds; the slowest export takes about two minutes


def _names(allowed: Sequence[str], text: str) -> list[str]:
    """Parse a list of names, ignoring case."""
    known = {name.casefold(): name for name in allowed}
    names = text.split(",")
    if unknown := [name for name in names if name.casefold() not in known]:
        raise argparse.ArgumentTypeError(f"no such name: {', '.join(unknown)}; choose from {', '.join(allowed)}")
    return [known[name.casefold()] for name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.architectures", description=__doc__, allow_abbrev=False)
    for option, known in (("--family", tuple(FAMILIES)), ("--exporter", EXPORTERS)):
        parser.add_argument(
            option, type=partial(_names, known), default=list(known), metavar="A,B",
            help=f"which of {', '.join(known)} (default: all)",
        )  # fmt: skip
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds of one process (default: %(default)g)")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where exported files stay (default: .cache)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go (default: results)")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} only: shows that it works")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the survey; return 1 if a fold or its verification failed, else 0. Failed exports do not count."""
    given = _parser().parse_args(argv)
    given.cache.mkdir(parents=True, exist_ok=True)
    survey = Survey(given.cache.resolve(), given.timeout)
    tasks = [
        (family, name, network, exporter)
        for family in (QUICK if given.quick else given.family)
        for name, network in FAMILIES[family].items()
        for exporter in given.exporter
    ]
    with ThreadPoolExecutor(given.jobs) as pool:
        rows = [_shown(row) for row in pool.map(lambda task: survey.row(*task), tasks)]
    table.write(rows, given.output)
    print("\n".join(table.total(rows, exporter) for exporter in given.exporter))
    return int(any(_is_bad(row) for row in rows))


def _shown(row: Row) -> Row:
    outcome = row.failure or row.default.failure
    if not outcome:
        clamps = row.clamps.failure or f"{row.clamps.left} with clamps, {row.clamps.verdict}"
        outcome = f"{row.in_module} -> {row.in_file} -> {row.default.left}, {row.default.verdict}; {clamps}"
    print(f"{row.network:>24} {row.exporter:12} {outcome}", flush=True)
    return row


def _is_bad(row: Row) -> bool:
    return any(fold.failure or fold.verdict == "failed" for fold in (row.default, row.clamps))


if __name__ == "__main__":
    sys.exit(main())
