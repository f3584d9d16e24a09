"""The measurements as a plot: one row per model; wall time, CPU time and memory side by side, on a log scale."""

# ruff: noqa: PLC0415  matplotlib is imported where a plot is drawn: the table needs none

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.models import MODELS
from benchmarks.table import BASELINE, MB, ROUNDED_FROM, Summary, summaries
from benchmarks.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.measure import Run

FIGURES = (("wall", "wall time, s", 1.0), ("cpu", "CPU time, s", 1.0), ("peak", "peak memory, MB", MB))
WIDTH, BAR_HEIGHT, ROW_MARGIN = 13.0, 0.27, 0.75  # inches
OURS, THEIRS, REFERENCE = "#d1495b", "#8d99ae", "#2b2d42"
ROOM_FOR_TEXT = 15.0  # the axis ends at this multiple of the longest bar, to leave room for the figures
ROOM_BELOW = 2.0  # and begins at the shortest bar divided by this


def draw(runs: Sequence[Run], path: Path) -> None:
    """Write the plot; the suffix of `path` selects the format (svg, png)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    found = summaries(runs)
    groups = [[s for s in found if s.model == name] for name in dict.fromkeys(s.model for s in found)]
    heights = [len(group) * BAR_HEIGHT + ROW_MARGIN for group in groups]
    with mpl.rc_context({"svg.hashsalt": "bnfold", "svg.fonttype": "none", "font.size": 9}):
        figure, grid = plt.subplots(
            len(groups),
            len(FIGURES),
            figsize=(WIDTH, sum(heights)),
            squeeze=False,
            layout="constrained",
            gridspec_kw={"height_ratios": heights},
        )
        for row, group in zip(grid, groups, strict=True):
            model = MODELS[group[0].model]
            headings = (f"{group[0].model} ({model.nbytes / MB:,.0f} MB): ", "", "")
            for axes, (key, label, unit), heading in zip(row, FIGURES, headings, strict=True):
                _bars(axes, group, key, unit)
                axes.set_title(heading + label, loc="left", fontsize="medium")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _bars(axes: Axes, group: Sequence[Summary], key: str, unit: float) -> None:
    drawn = [summary for summary in group if not summary.failure]
    values = {summary.tool: summary.median(key) / unit for summary in drawn}
    low, high = min(values.values(), default=1.0), max(values.values(), default=1.0)
    for place, summary in enumerate(group):
        value = values.get(summary.tool)
        if value is None:
            axes.text(low / ROOM_BELOW, place, " failed", va="center", color=THEIRS)
            continue
        axes.barh(place, value, color=_colour(summary.tool))
        left = f"   ({summary.median('normalizations'):.0f} BN left)" if key == "wall" else ""
        axes.text(value, place, f" {_shown(value)}{left}", va="center")
    axes.set_xscale("log")
    axes.set_xlim(low / ROOM_BELOW, high * ROOM_FOR_TEXT)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")  # no room for minor labels
    axes.set_yticks(range(len(group)), [summary.tool for summary in group] if key == "wall" else [])
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def _shown(value: float) -> str:
    """At least two significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= ROUNDED_FROM else f"{value:.2g}"


def _colour(tool: str) -> str:
    if tool == BASELINE:
        return REFERENCE
    return OURS if TOOLS[tool].package == "bnfold" else THEIRS
