"""``python -m benchmarks.quantization.digits``: what 8 bits cost trained networks; writes quantization-digits.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from benchmarks.quantization.digits import table
from benchmarks.quantization.digits.rows import Row, rows
from benchmarks.quantization.digits.training import CALIBRATION, TRAINED, digits, trained
from benchmarks.quantization.export import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[3]
CACHE, RESULTS = ROOT / ".cache" / "quantization" / "digits", ROOT / "benchmarks" / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure, and write the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.quantization.digits", description=__doc__)
    parser.add_argument("--network", action="append", choices=TRAINED, help="one of them, repeatable (default: all)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where trained weights stay (default: .cache)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the table goes (default: results)")
    given = parser.parse_args(argv)
    quiet()
    ort.set_default_logger_severity(4)
    samples, tests = digits()
    found: list[Row] = []
    for name in given.network or TRAINED:
        network = trained(name, samples, given.cache)
        for row in rows(name, network, samples.images[:CALIBRATION], tests, given.cache / name):
            print(row, flush=True)
            found.append(row)
            table.write(given.output, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
