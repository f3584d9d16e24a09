"""The records of chaos as tables: `python -m tests.service.chaos.table FILE` writes benchmarks/results/chaos.md."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.table import machine
from tests.service.chaos.record import Record, read
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET = ROOT / "benchmarks" / "results" / "chaos.md"
COMMAND = "make chaos"
MEANINGS = {
    "runs": "with another seed each: the moments, the victims and the models are drawn from it",
    "accepted": "jobs that got 202",
    "done": "with the right result, byte for byte",
    "failed": "by their own fault: they were no model, or never ended",
    "again": "times the service asked a client to send a model again, which it did: its upload or result was gone",
    "refused": "requests that got 429, 503, 507 or 408, the first two with `Retry-After`, until all were accepted",
    "lost": "jobs or results that are gone, or jobs that never end",
    "condemned": "jobs that failed, and not by their own fault",
    "different": "responses with other bytes than the result; each result is fetched four times and more",
    "broken off": "runs that did not come to their end",
    "recovery": "seconds from the end of what happened until every job had ended; the last models come after it",
}
COUNTS = ("accepted", "done", "failed", "again", "refused", "lost", "condemned", "different")
METHOD = """\
While clients send models, one thing happens in each run, at random moments; then every job is followed to its end, \
and every result is fetched through every server and compared. A fold takes up to a second and no work here (with \
`kills` on one machine it is a real one), and one model in eight is none."""
ABSENT = """\
A partition is missing on one machine: there is no network inside it. Its folder has one server, so `twice` is that \
server, stopped and continued."""


def markdown(records: Sequence[Record]) -> str:
    """The content of chaos.md."""
    dates = sorted({record.date for record in records})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    parts = [
        "# Chaos",
        METHOD,
        f"`{COMMAND}`, {when}; {', '.join(f'{name} {fact}' for name, fact in machine().items())}.",
        "\n".join(f"- {name}: {meaning}" for name, meaning in MEANINGS.items()),
    ]
    for setup in sorted({record.setup for record in records}, reverse=True):
        mine = [record for record in records if record.setup == setup]
        parts += [f"## {setup[:1].upper()}{setup[1:]}", _table(mine), _happened(mine)]
    return "\n\n".join([*parts, ABSENT]) + "\n"


def _table(records: Sequence[Record]) -> str:
    columns = ("scenario", "runs", *COUNTS, "broken off", "recovery, median", "worst")
    rows = [columns, ("---",) + ("---:",) * (len(columns) - 1)]
    rows += [_row(name, found) for name, found in _by_scenario(records).items()]
    rows.append(_row("all", records))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(name: str, records: Sequence[Record]) -> tuple[str, ...]:
    sums = (f"{sum(getattr(record, count) for record in records):,}" for count in COUNTS)
    seconds = [record.recovery for record in records if not record.error] or [0.0]
    broken = sum(bool(record.error) for record in records)
    return name, str(len(records)), *sums, str(broken), f"{median(seconds):.1f} s", f"{max(seconds):.1f} s"


def _happened(records: Sequence[Record]) -> str:
    lines = []
    for name, found in _by_scenario(records).items():
        ways = sorted({record.how for record in found if record.how})
        lines.append(f"- {name}: {found[-1].what}" + (f" ({'; '.join(ways)})" if ways else ""))
    return "\n".join(lines)


def _by_scenario(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda one: (one.scenario, one.seed)):
        found.setdefault(record.scenario, []).append(record)
    return found


if __name__ == "__main__":
    TARGET.write_text(markdown(read(Path(sys.argv[1]))))
