"""The results as a page."""

from __future__ import annotations

from statistics import median
from typing import Any

MIB = 1 << 20
HEAD = """\
# Load

`make load` writes this page. Two cores, shared with other work: ratios of runs that take turns say more than seconds,
and processor time more than wall time. The load average at the start of each part is beside its title.
"""


def page(known: dict[str, Any]) -> str:
    """The page of what is known so far."""
    parts = {"cost": _cost, "fairness": _fairness, "load": _load}
    found = [_part(known[name], show) for name, show in parts.items() if name in known]
    return "\n".join([HEAD, *found])


def _part(part: dict[str, Any], show: Any) -> str:
    title, text, lines = show(part["rows"])
    return f"## {title} (load average {part['load average']:.1f})\n\n{text}\n\n" + "\n".join(lines) + "\n"


def _cost(rows: list[dict[str, Any]]) -> tuple[str, str, list[str]]:
    text = (
        "Models of 3 kB, verified, four clients; medians of runs that take turns. CPU counts the server and all that "
        "it starts (cgroup), the preparation of the process for the next fold included."
    )
    lines = ["| | CPU s of a fold | of it the server | folds/s | runs |", "| --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(row["version"] for row in rows):
        mine = [row for row in rows if row["version"] == name]
        cpu, own, rate = (median(row[field] for row in mine) for field in ("cpu", "server", "rate"))
        lines.append(f"| {name} | {cpu:.3f} | {own:.3f} | {rate:.1f} | {len(mine)} |")
    return "What a small fold costs", text, lines


def _fairness(rows: list[dict[str, Any]]) -> tuple[str, str, list[str]]:
    alone = rows[0]["median"]
    text = (
        "Folds of 3 kB of one key, one after another, with so many jobs of 3 kB of another key before them. The last "
        "column: how many of those had not ended when the last of the first key had."
    )
    lines = [
        "| jobs before it | median s | longest s | median, of its time alone | jobs left |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['ahead']} | {row['median']:.2f} | {row['longest']:.2f} | {row['median'] / alone:.1f} | {row['left']} |"
        for row in rows
    ]
    return "Fairness", text, lines


def _load(rows: list[dict[str, Any]]) -> tuple[str, str, list[str]]:
    text = (
        "One server, one crowd after another. A client that gets 202 waits for the job, one that gets 429 or 503 sends "
        "its model again; the time is from the first attempt to the result. Memory is that of the process, or its part "
        "of what several share; with a crowd, the most of it."
    )
    lines = [
        "| | requests | folds/s | p50 s | p99 s | errors | CPU s each | responses | server MiB | its MiB | files |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        held = f"{row['memory'] / MIB:.0f} | {row['children'] / MIB:.0f} ({row['processes']}) | {row['files']} |"
        if "requests" not in row:
            lines.append(f"| {row['name']} | | | | | | | | {held}")
            continue
        codes = ", ".join(f"{count} x {code}" for code, count in sorted(row["responses"].items()))
        figures = f"{row['rate']:.1f} | {row['p50']:.2f} | {row['p99']:.2f} | {row['errors']} | {row['cpu']:.2f}"
        lines.append(f"| {row['name']} | {row['requests']} | {figures} | {codes} | {held}")
    return "Crowds", text, lines
