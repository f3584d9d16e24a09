"""``python -m benchmarks.pytorch.compare``: small patterns, and what each of PyTorch's own fusers makes of them.

The result is `results/torch-fusers.md`. The exit code is 1 if one of ours is wrong, or folds less than it could.
torchao, which holds the newest of them, is optional: its column then says so.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.pytorch.fusers import ERROR, FOLDED, FUSERS, IN_PART, IS_WRONG, NOT_FOLDED, pt2e, verdict
from benchmarks.pytorch.patterns import CASES, SEED
from benchmarks.pytorch.versions import measured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.pytorch.patterns import Case

RESULTS = Path(__file__).parent.parent / "results" / "torch-fusers.md"
OURS = next(iter(FUSERS))
ABSENT = "not installed"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write it; return 1 if one of our results is not what it should be."""
    parser = argparse.ArgumentParser("python -m benchmarks.pytorch.compare", description=__doc__, allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the table goes (default: results)")
    parser.add_argument("--only", default="", metavar="PATTERN", help="patterns with this in their names")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # exporters report what packages they miss
    rows = {name: _row(name, case) for name, case in CASES.items() if given.only in name}
    given.output.write_text("\n".join(table(rows)) + "\n")
    return int(any(rows[name][OURS] != _expected(CASES[name]) for name in rows))


def _row(name: str, case: Case) -> dict[str, str]:
    """What every fuser makes of a pattern."""
    cells = {}
    for tool, fuser in FUSERS.items():
        torch.manual_seed(SEED)
        module, x = case.make(), torch.randn(case.shape)
        absent = fuser is pt2e and find_spec("torchao") is None
        cells[tool] = ABSENT if absent else verdict(fuser, module, x)
    print(name, cells, flush=True)
    return cells


def _expected(case: Case) -> str:
    """What can be done: one that must stay, does, and no pattern has both."""
    return NOT_FOLDED if case.stays or not case.count else FOLDED


def table(rows: dict[str, dict[str, str]]) -> Iterator[str]:
    """A line for every pattern, and the sums."""
    yield "# PyTorch's own fusers on small patterns"
    yield ""
    yield (
        f"{measured()} Each module is in inference mode and in float32. *{IS_WRONG}*: the result differs by this share "
        f"of the largest output, where rounding explains 0.0001 %; nothing is raised. *{ERROR}*: it raises. The names "
        "that `fuse_conv_bn_eval` and `fuse_modules` ask for are those of every layer and of the normalization that "
        "reads its result. *must stay*: no exact fold exists."
    )
    yield ""
    yield f"| pattern | {' | '.join(FUSERS)} |"
    yield "| --- |" + " --- |" * len(FUSERS)
    for name, cells in rows.items():
        stays = " (must stay)" if _expected(CASES[name]) == NOT_FOLDED else ""
        yield f"| {name}{stays} | {' | '.join(_bold(cell) for cell in cells.values())} |"
    yield ""
    yield f"| of {len(rows)} patterns | {' | '.join(FUSERS)} |"
    yield "| --- |" + " ---: |" * len(FUSERS)
    for kind in (FOLDED, IN_PART, NOT_FOLDED, IS_WRONG, ERROR, ABSENT):
        counts = Counter(tool for cells in rows.values() for tool, cell in cells.items() if cell.startswith(kind))
        if counts:
            yield f"| {kind} | {' | '.join(str(counts[tool]) for tool in FUSERS)} |"


def _bold(cell: str) -> str:
    return f"**{cell}**" if cell.startswith(IS_WRONG) else cell


if __name__ == "__main__":
    sys.exit(main())
