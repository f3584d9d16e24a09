"""The survey as a table for people (markdown) and for programs (JSON)."""

from __future__ import annotations

import json
import platform
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks.architectures.survey import EXPORTERS, installed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.architectures.survey import Fold, Row

NAME = "architectures"
PACKAGES = ("torch", "onnxscript", "timm", "pytorchcv", "onnx", "onnxruntime", "bnfold")
COLUMNS = (
    "family", "network", "exporter", "in the module", "in the file", "left", "gone", "left, clamps",
    "ONNX Runtime's operators", "what stays, and why (backward / forward)", "verdict", "verdict, clamps",
)  # fmt: skip
NUMBERS = frozenset(COLUMNS[3:6]) | {"left, clamps"}
PAIRS_SHOWN = 25  # of the reasons of all rows; one line sums up the rest
METHOD = """\
Every network is made from a Python package or a paper, with weights from a fixed seed: nothing is downloaded. Its \
BatchNormalizations get parameters and statistics as training leaves them (most scales near 1, a few negative; the \
statistics of one random batch, disturbed), and its output is finite and depends on the input. It is exported in \
inference mode by both exporters of PyTorch, `torch.onnx.export(..., dynamo=False)` at opset 17 and `dynamo=True` \
with its default optimizer; both fold some BatchNormalizations themselves. What they leave is folded by `bnfold \
fold`, and again with `--clamp always`, which turns Relu and Clip into Max and Min with bounds of each channel. Each \
fold is verified: both models run in ONNX Runtime on generated inputs, and the error must stay below a tolerance \
derived from the original's own rounding noise. Input shapes are fixed.

"left" counts BatchNormalizations; "gone" says what happened to the others: folded into weights, split (a fold that \
leaves an Add or a Mul), merged into another one, or removed. "ONNX Runtime's operators" are those of its own \
optimized graph (extended level, Transposes not counted), before and after a fold by default: it is worse if they \
are more, or fused ones (Gelu, LayerNormalization, ...) fewer. A reason is the code of `docs/codes.md` and the \
operator that refused."""


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write architectures.md and architectures.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"python": platform.python_version()} | {name: installed(name) or "none" for name in PACKAGES}
    (folder / f"{NAME}.md").write_text(markdown(rows, facts))
    plain = {"versions": facts, "rows": [asdict(row) for row in rows]}
    (folder / f"{NAME}.json").write_text(json.dumps(plain, indent=1) + "\n")


def markdown(rows: Sequence[Row], facts: dict[str, str]) -> str:
    """The content of architectures.md."""
    families = len({row.family for row in rows})
    parts = [
        "# What real architectures leave",
        METHOD,
        ", ".join(f"{key} {value}" for key, value in facts.items()) + ".",
        f"## {families} families, {len({row.network for row in rows})} networks",
        _table(rows),
        "## Totals",
        "\n".join(f"- {total(rows, exporter)}" for exporter in EXPORTERS if any(r.exporter == exporter for r in rows)),
    ]
    if reasons := _reasons(rows):
        parts += ["## Why the rest stays", reasons]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    marks = tuple("---:" if column in NUMBERS else "---" for column in COLUMNS)
    return "\n".join(_line(cells) for cells in (COLUMNS, marks, *map(_cells, rows)))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _cells(row: Row) -> tuple[str, ...]:
    head = (row.family, row.network, row.exporter)
    if row.failure:
        return (*head, *("",) * (len(COLUMNS) - len(head) - 1), f"not exported: {row.failure}")
    fold, clamps = row.default, row.clamps
    return (
        *head,
        str(row.in_module),
        str(row.in_file),
        "" if fold.failure else str(fold.left),
        ", ".join(f"{count} {status}" for status, count in fold.gone.items()),
        "" if clamps.failure else str(clamps.left),
        _runtime(fold),
        "; ".join(f"{stay.count} {stay.backward} / {stay.forward}" for stay in fold.stays),
        _verdict(fold),
        _verdict(clamps),
    )


def _verdict(fold: Fold) -> str:
    if fold.failure:
        return fold.failure
    if not fold.gone:
        return f"{fold.verdict}, unchanged"
    return f"{fold.verdict}, {_figure(fold.error)} of {_figure(fold.tolerance)}"


def _runtime(fold: Fold) -> str:
    if fold.failure:
        return ""
    before, after = fold.runtime
    return f"{before} -> {after}" + (f" (worse: {', '.join(fold.cost)})" if fold.cost else "")


def _figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1g}"


def total(rows: Sequence[Row], exporter: str) -> str:
    """A sentence that says how many of the BatchNormalizations that an exporter leaves are folded."""
    chosen = [row for row in rows if row.exporter == exporter]
    good = [row for row in chosen if not (row.failure or row.default.failure or row.clamps.failure)]
    in_module, in_file = sum(row.in_module for row in good), sum(row.in_file for row in good)
    gone = in_file - sum(row.default.left for row in good)
    with_clamps = in_file - sum(row.clamps.left for row in good)
    sentence = (
        f"{exporter}: {len(good)} of {len(chosen)} networks, {in_module:,} BatchNormalizations in the modules; "
        f"of the {in_file:,} that the exporter leaves, {_percent(gone, in_file)} go by default, "
        f"{_percent(with_clamps, in_file)} with clamps"
    )
    failed = [row for row in good if "failed" in {row.default.verdict, row.clamps.verdict}]
    worse = [row for row in good if row.default.cost]
    return f"{sentence}; {len(failed)} failed verification; in {len(worse)} ONNX Runtime's own graph got worse."


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%} ({part:,})" if whole else "none"


def _reasons(rows: Sequence[Row]) -> str:
    """The most frequent reasons of all rows, by default and with clamps, and where they occur."""
    default: Counter[tuple[str, str]] = Counter()
    clamped: Counter[tuple[str, str]] = Counter()
    families: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for stays, counter in ((row.default.stays, default), (row.clamps.stays, clamped)):
            for stay in stays:
                pair = (stay.backward, stay.forward)
                counter[pair] += stay.count
                families.setdefault(pair, {})[row.family] = None
    if not families:
        return ""
    ranked = sorted(families, key=lambda pair: -max(default[pair], clamped[pair]))
    shown, rest = ranked[:PAIRS_SHOWN], ranked[PAIRS_SHOWN:]
    lines: list[tuple[str, ...]] = [
        ("backward", "forward", "by default", "with clamps", "families"),
        ("---", "---", "---:", "---:", "---"),
    ]
    lines += [(*pair, str(default[pair]), str(clamped[pair]), ", ".join(families[pair])) for pair in shown]
    if rest:
        counts = (str(sum(counter[pair] for pair in rest)) for counter in (default, clamped))
        lines.append((f"{len(rest)} other pairs", "", *counts, ""))
    return "\n".join(map(_line, lines))
