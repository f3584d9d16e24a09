"""The comparison as a table for people (precision.md), and its rows for the next run (precision.json)."""

from __future__ import annotations

import datetime as dt
import json
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks.precision.measure import Row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAME = "precision"
SOURCES = ("original", "folded")
COLUMNS = ("tool", "on", "error", "not finite", "Casts", "heavy in fp32", "KB", "seconds", "peak MB", "failure")
TOTALS = (
    "tool", "on", "networks", "valid", "finite", "error < 5 %", "median error", "Casts", "heavy in fp32", "seconds",
)  # fmt: skip
USEFUL = 0.05  # the error of a file that one would use, at most
METHOD = """\
Small networks with random weights, their BatchNormalizations with the statistics of their own activations, exported \
by PyTorch's TorchScript exporter at opset 17 as they are (`TrainingMode.PRESERVE`, in inference mode). Each \
converter runs in a process of its own, with its defaults and inputs and outputs kept in float32, on the original and \
on our fold of it (`bnfold fold --no-verify`); bnfold itself folds, so it is given the original only.

"error" is mean |y - t| / mean |t| of the worst output, with t from PyTorch in float64, on inputs that no converter \
saw; y comes from ONNX Runtime under emulation: every value that the file stores in 16 bits is rounded to them, and \
operators compute in float32 (`folding/execution/emulation.py`). Run time, kernels and accumulation on a GPU are not \
measured. Two correct roundings of a network differ by up to 25 %. "heavy in fp32" counts products (Conv, \
ConvTranspose, Gemm, MatMul, Einsum, LSTM, GRU, Attention) that stay in float32. "not finite" counts numbers. A file \
is invalid if `onnx.checker` (full check) or ONNX Runtime refuses it. Seconds and memory are of a whole process."""


def read(folder: Path) -> tuple[dict[str, str], list[Row]]:
    """The versions and rows of an earlier run; none if there was none."""
    path = folder / f"{NAME}.json"
    if not path.exists():
        return {}, []
    plain = json.loads(path.read_text())
    return plain["versions"], [Row(**row) for row in plain["rows"]]


def write(folder: Path, versions: dict[str, str], rows: Sequence[Row]) -> None:
    """Write precision.md and precision.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"versions": versions, "rows": [asdict(row) for row in rows]}
    (folder / f"{NAME}.json").write_text(json.dumps(plain, indent=1) + "\n")
    (folder / f"{NAME}.md").write_text(markdown(versions, rows))


def markdown(versions: dict[str, str], rows: Sequence[Row]) -> str:
    """The content of precision.md."""
    stamp = dt.datetime.now(tz=dt.UTC).date().isoformat()
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    title = "# Precision: converters to 16 bits side by side"
    parts = [title, METHOD, f"{stamp}; {packages}.", "## Totals", totals(rows)]
    for network in dict.fromkeys(row.network for row in rows):
        parts += [f"## {network}", _table(COLUMNS, [_cells(row) for row in rows if row.network == network])]
    return "\n\n".join(parts) + "\n"


def totals(rows: Sequence[Row]) -> str:
    """A line for each converter and source."""
    keys = dict.fromkeys((row.tool, row.source) for row in rows)
    lines = [_total(*key, [row for row in rows if (row.tool, row.source) == key]) for key in keys]
    columns = (
        "tool",
        "on",
        "networks",
        "valid",
        "finite",
        "error < 5 %",
        "median error",
        "Casts",
        "heavy in fp32",
        "seconds",
    )
    return _table(columns, lines)


def _total(tool: str, source: str, rows: Sequence[Row]) -> tuple[str, ...]:
    valid = [row for row in rows if not row.failure]
    errors = [row.error for row in valid if row.error is not None]
    return (
        tool, source, str(len(rows)), str(len(valid)), str(len(errors)), str(sum(error < USEFUL for error in errors)),
        f"{statistics.median(errors):.2g}" if errors else "", str(sum(row.casts for row in valid)),
        str(sum(row.heavy for row in valid)), f"{sum(row.seconds for row in rows):.0f}",
    )  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    head = (row.tool, row.source)
    tail = (f"{row.seconds:.1f}", f"{row.peak / 1e6:.0f}", row.failure)
    if not row.nbytes:
        return (*head, "", "", "", "", "", *tail)
    error = "" if row.error is None else f"{row.error:.2g}"
    return (*head, error, str(row.nonfinite), str(row.casts), str(row.heavy), f"{row.nbytes / 1e3:.0f}", *tail)


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    marks = ["---"] * 2 + ["---:"] * (len(columns) - 2)
    rows = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in (columns, marks, *lines))
    return "\n".join(rows)
