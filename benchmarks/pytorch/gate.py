"""``python -m benchmarks.pytorch.gate``: random modules, PyTorch before = ONNX after = the folded module.

The gate of the suite at length, with its figures in `results/torch-random.md`. The exit code is 1 if one is unequal.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.pytorch.versions import measured
from tests.support.torch.judge import DYNAMO_EVERY, EXACT, Judged, judged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULTS = Path(__file__).parent.parent / "results" / "torch-random.md"
ROWS = Path(".cache", "torch-random.jsonl")
MODULES = 2_000


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the modules of the seeds that have no row yet, and write the table once all have one."""
    parser = argparse.ArgumentParser("python -m benchmarks.pytorch.gate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seeds", default=f"0:{MODULES}", metavar="FIRST:END", help=f"default: 0:{MODULES}")
    parser.add_argument("--rows", type=Path, default=ROWS, help="keeps rows of earlier runs")
    parser.add_argument("--table", action="store_true", help="write the table of the rows that there are, no more")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the table goes (default: results)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    seeds = range(*map(int, given.seeds.split(":")))
    known = {row.seed: row for row in _known(given.rows)}
    with given.rows.open("a") as rows:
        for seed in [] if given.table else [one for one in seeds if one not in known]:
            known[seed] = _judged(seed)
            rows.write(json.dumps(known[seed]) + "\n")
            rows.flush()
    done = [known[seed] for seed in seeds if seed in known]
    given.output.write_text("\n".join(table(done)) + "\n")
    print(given.output.read_text())
    return int(any(not one.is_equal for one in done))


def _known(path: Path) -> Iterator[Judged]:
    if path.exists():
        for line in path.read_text().splitlines():
            yield Judged(*json.loads(line))


def _judged(seed: int) -> Judged:
    """What becomes of a seed; whatever is raised makes it unequal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = judged(seed)
    except Exception:  # noqa: BLE001  the others are judged all the same
        traceback.print_exc()
        return Judged(seed, math.inf, math.inf, None, math.inf, 0, 0, 0)
    if not found.is_equal:
        print(found, flush=True)
    return found


def table(rows: list[Judged]) -> Iterator[str]:
    """The figures of all modules."""
    unequal = [one.seed for one in rows if not one.is_equal]
    yield "# Random PyTorch modules"
    yield ""
    yield (
        "Chains of convolutions, linear layers, normalizations, activations, sums and the rest, drawn by a seed "
        "(`tests/support/torch/randommodules.py`), with the options of `--clamp` and `--leftover` in turn: PyTorch "
        f"before = ONNX after = the folded module in float64, to {EXACT:g} of the largest output. {measured()}"
    )
    yield ""
    yield "| | modules | unequal | largest error | BatchNormalizations before | after |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    before = sum(one.before for one in rows)
    after_module, after_file = sum(one.after_module for one in rows), sum(one.after_file for one in rows)
    yield _line("`fold_module`", [one.in_module for one in rows], f"{before:,} | {after_module:,}")
    scripted = [one for one in rows if not math.isnan(one.in_torchscript)]
    counts = f"{sum(one.before for one in scripted):,} | {after_file:,}"
    yield _line("`from_torch`, TorchScript", [one.in_torchscript for one in scripted], counts)
    dynamo = [one.in_dynamo for one in rows if one.in_dynamo is not None and not math.isnan(one.in_dynamo)]
    yield _line("`from_torch`, dynamo", dynamo, " | ")
    yield ""
    yield (
        f"Seeds {min(one.seed for one in rows)} to {max(one.seed for one in rows)}, {len(rows):,} modules, "
        f"{len(unequal)} unequal{': ' + ', '.join(map(str, unequal)) if unequal else ''}. Every {DYNAMO_EVERY}th goes "
        "through dynamo, and so do those that TorchScript does not export "
        f"({sum(math.isnan(one.in_torchscript) for one in rows)}). In float32, in ONNX Runtime, the largest error of "
        "TorchScript's files is "
        f"{max(one.in_single for one in scripted):.0%} of what is accepted: 30 times that of PyTorch in float32."
    )


def _line(name: str, errors: list[float], counts: str) -> str:
    unequal = sum(not one <= EXACT for one in errors)
    return f"| {name} | {len(errors):,} | {unequal} | {max(errors, default=0):.1e} | {counts} |"


if __name__ == "__main__":
    sys.exit(main())
