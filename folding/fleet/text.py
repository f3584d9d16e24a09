"""The report over a fleet for a terminal: a table of the models, then what stays and why. Names cannot be commands."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from folding.fleet.model import counts, staying_groups
from folding.report.digest import counted, duration, file_size, is_written, printable, shorten, size_change
from folding.report.ready import readiness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from folding.fleet.model import Entry, FleetReport

HEADS = ("model", "BatchNormalization", "nodes", "size", "")
SHORTEST_NAME, LONGEST_NAME = 20, 48  # columns of a model's path: longer ones lose their middle
MODELS_SHOWN = 3  # of a group of normalizations that stay
GAP, INDENT = "  ", "    "
LEAST_OUTCOME = 30  # columns beside the figures; with fewer, the outcome goes below them


def render_text(fleet: FleetReport, width: int) -> str:
    """The table, one row a model, with its figures and the outcome, which may take several lines."""
    rows = [HEADS, *map(cells, fleet.entries)]
    return (
        "\n".join(_cut(line, width) for line in (*_table(rows, width), "", *_summary(fleet), *_staying(fleet))) + "\n"
    )


def cells(entry: Entry) -> tuple[str, str, str, str, str]:
    """What a table says of a model: its path, the figures before and after, and the outcome."""
    report = entry.report
    if report is None:
        return entry.source, "", "", "", outcome(entry)
    normalizations, stay = counts(report)
    size = file_size(report.bytes_before)
    if entry.error:  # what was planned came to nothing
        return entry.source, f"{normalizations:,}", f"{report.nodes_before:,}", size, outcome(entry)
    if is_written(report):
        size += f" -> {file_size(report.bytes_after)}"
    nodes = f"{report.nodes_before:,} -> {report.nodes_after:,}"
    return entry.source, f"{normalizations:,} -> {stay:,}", nodes, size, outcome(entry)


def outcome(entry: Entry) -> str:
    """The outcome of a model in a few words, and its reason where that is not good."""
    if entry.error:
        return entry.error.removeprefix(entry.source).lstrip(": ")
    words = [entry.status if entry.target is not None or entry.gates else ""]
    if (report := entry.report) is not None:
        words += [report.verification.status if is_written(report) else "", readiness(report)]
    said = ", ".join(filter(None, words))
    return ": ".join(filter(None, (said, "; ".join(broken.sentence for broken in entry.gates))))


def heads(fleet: FleetReport) -> tuple[str, str, str]:
    """The three main sentences: of the models, of the normalizations, of the sizes."""
    models = ", ".join(f"{number:,} {status}" for status, number in fleet.statuses.items())
    planned = all(entry.target is None for entry in fleet.entries)
    bn = fleet.normalizations.sentence("BatchNormalizations", "can be folded" if planned else "folded")
    if not fleet.normalizations.total:
        bn = "No BatchNormalization"
    before, after = fleet.sizes
    size = file_size(before) if planned else f"{file_size(before)} -> {file_size(after)} ({size_change(before, after)})"
    number = counted(len(fleet.entries), "model")
    return (number if planned and set(fleet.statuses) <= {"unchanged"} else f"{number}: {models}"), bn, size


def _table(rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(HEADS) - 1)]
    beside = sum(widths[1:]) + len(GAP) * len(widths)
    widths[0] = min(widths[0], max(SHORTEST_NAME, min(LONGEST_NAME, width - beside)))
    shown = [(shorten(row[0], widths[0]), *row[1:]) for row in shown]
    for row in shown:
        padded = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, len(widths)))]
        figures = GAP.join((*padded, ""))
        room = width - len(figures)
        if len(row[-1]) <= room:
            yield (figures + row[-1]).rstrip()
        elif room >= LEAST_OUTCOME:
            yield from textwrap.wrap(row[-1], width, initial_indent=figures, subsequent_indent=" " * len(figures))
        else:
            yield figures.rstrip()
            yield from textwrap.wrap(row[-1], width, initial_indent=INDENT, subsequent_indent=INDENT)


def _summary(fleet: FleetReport) -> Iterator[str]:
    models, bn, size = heads(fleet)
    yield f"{models}, in {duration(fleet.seconds)}"
    yield bn
    yield size


def _staying(fleet: FleetReport) -> Iterator[str]:
    groups = staying_groups(fleet.entries)
    if groups:
        yield from ("", "What stays, and why")
    for group in groups:
        models = counted(len(group.models), "model")
        yield printable(f"{len(group.nodes):>7,}  {group.codes or 'untold'}, in {models}")
        for sentence in group.sentences:
            yield printable(f"{'':9}{sentence}")
        shown = [f"{model}: {node}" for model, node in group.nodes[:MODELS_SHOWN]]
        more = len(group.nodes) - MODELS_SHOWN
        yield printable(f"{'':9}{'; '.join(shown)}{f' and {more:,} more' if more > 0 else ''}")


def _cut(line: str, width: int) -> str:
    """The line itself where it fits; the end of a longer one is left out."""
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."
