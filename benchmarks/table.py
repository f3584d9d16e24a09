"""The measurements as a Markdown table and as JSON, with the facts about the machine that a reader needs."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.models import MODELS
from benchmarks.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Run

MB = 1e6
GB = 1e9
ROUNDED_FROM = 10  # figures from here on are shown without decimals
BASELINE = "cp"
COLUMNS = ("tool", "wall s", "x cp", "CPU s", "x cp", "peak MB", "BNs left", "in the runtime", "output MB", "runs")

METHOD = """\
Each run is a fresh process, imports included. Figures are medians over the rounds, wall time with its range; "x cp" \
is the ratio to `cp` on the same model. CPU is user and system time of all processes of a tool; peak is the largest \
resident memory of one process, pages of mapped files included; nothing below about 10 MB can be distinguished. "in \
the runtime" are the operators of ONNX Runtime's own optimized graph of the output (extended level, without \
Transposes). Tools take turns within a round, and every round starts with another one. A tool that is slow or fails is \
run once.

Before each run the last output is deleted, `sync` waits until nothing is left to write, and the source is read once, \
all outside the timing. So every tool reads from the page cache and writes into a clean one, as right after a model \
was exported; none of them waits for the disk at its end, `cp` included. Before the first round one copy is made that \
does not count: on a virtual machine the first to fill so much memory pays for getting it from the host. That cost can \
come back at any time, to CPU seconds as well, which is why the table gives ranges. On a file system that shares \
blocks between files (Btrfs, XFS), `cp` copies nothing and the ratio to it means little."""


@dataclass(frozen=True)
class Summary:
    """The runs of one tool on one model; medians are over the runs that made an output."""

    model: str
    tool: str
    runs: Sequence[Run]

    @property
    def good(self) -> list[Run]:
        """The runs that made an output."""
        return [run for run in self.runs if not run.failure]

    @property
    def failure(self) -> str:
        """Why there are no figures; "" if there are."""
        return next((run.failure for run in self.runs if run.failure), "")

    def median(self, figure: str) -> float:
        """The median of a figure of `Run`; needs at least one run that made an output."""
        return float(median(getattr(run, figure) for run in self.good))


def summaries(runs: Sequence[Run]) -> list[Summary]:
    """One summary for each model and tool, in the order of `MODELS` and `TOOLS`."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (list(MODELS).index(run.model), list(TOOLS).index(run.tool), run.number)):
        groups.setdefault((run.model, run.tool), []).append(run)
    return [Summary(*key, members) for key, members in groups.items()]


def machine() -> dict[str, str]:
    """Facts that the figures depend on; none identifies the machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages / GB:.0f} GB",
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }
    return facts | {tool.package: tool.version or "not installed" for tool in TOOLS.values() if tool.package}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def markdown(runs: Sequence[Run], facts: dict[str, str], notes: Sequence[str]) -> str:
    """The content of results.md."""
    parts = ["# Benchmark results", METHOD, ", ".join(f"{key} {value}" for key, value in facts.items()) + "."]
    found = summaries(runs)
    for name in dict.fromkeys(summary.model for summary in found):
        parts += [_title(name), _table([summary for summary in found if summary.model == name])]
    parts += ["## Tools", "\n".join(f"- {name}: {tool.about}." for name, tool in TOOLS.items())]
    if notes:
        parts += ["## Left out", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def _title(name: str) -> str:
    model = MODELS[name]
    convolutions = sum(node.op_type == "Conv" for node in model.network.nodes)
    counts = f"{convolutions} convolutions, {model.network.normalizations} BatchNormalizations"
    return f"## {name}: {model.title}, {model.nbytes / MB:,.0f} MB, {counts}"


def _table(found: Sequence[Summary]) -> str:
    baseline = next((s for s in found if s.tool == BASELINE and not s.failure), None)
    rows = [COLUMNS, ("---",) + ("---:",) * (len(COLUMNS) - 1), *(_row(summary, baseline) for summary in found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(summary: Summary, baseline: Summary | None) -> tuple[str, ...]:
    if summary.failure:
        blank = ("",) * (len(COLUMNS) - len(("tool", "failure", "runs")))
        return (summary.tool, summary.failure.replace("|", "\\|"), *blank, str(len(summary.runs)))
    walls = [run.wall for run in summary.good]
    spread = f"{summary.median('wall'):.2f} ({min(walls):.2f} to {max(walls):.2f})"
    return (
        summary.tool,
        spread,
        _ratio(summary, baseline, "wall"),
        f"{summary.median('cpu'):.2f}",
        _ratio(summary, baseline, "cpu"),
        f"{summary.median('peak') / MB:,.0f}",
        f"{summary.median('normalizations'):.0f}",
        _operators(summary),
        f"{summary.median('nbytes') / MB:,.1f}",
        str(len(walls)),
    )


def _operators(summary: Summary) -> str:
    found = [run.operators for run in summary.good if run.operators is not None]
    return f"{median(found):.0f}" if found else ""


def _ratio(summary: Summary, baseline: Summary | None, figure: str) -> str:
    if baseline is None or not baseline.median(figure):  # CPU time has steps: that of a short `cp` may be 0
        return ""
    ratio = summary.median(figure) / baseline.median(figure)
    return f"{ratio:.1f}" if ratio < ROUNDED_FROM else f"{ratio:,.0f}"


def write(runs: Sequence[Run], folder: Path, notes: Sequence[str]) -> None:
    """Write results.md and results.json into `folder`."""
    facts = machine()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(markdown(runs, facts, notes))
    plain = {"machine": facts, "runs": [asdict(run) for run in runs], "left_out": list(notes)}
    (folder / "results.json").write_text(json.dumps(plain, indent=1) + "\n")
