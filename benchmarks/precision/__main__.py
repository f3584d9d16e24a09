"""``python -m benchmarks.precision``: networks from PyTorch to 16 bits by several converters, judged by emulation."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.precision import table
from benchmarks.precision.converters import TOOLS
from benchmarks.precision.measure import ROOT, Row, converted, judged, presentable
from folding import Options, fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# `benchmarks.precision.networks` has them, too; it needs PyTorch, and the table does not.
NAMES = (
    "ResNet", "DenseNet", "MobileNetV3", "EfficientNet", "U-Net", "LeViT", "ConvNeXt", "conformer, mask -1e9",
    "conformer, mask lowest", "conformer, mask -inf", "GRU and LSTM", "tabular MLP", "If and Loop",
    "Resize, GridSample, TopK", "BN with epsilon 1e-12", "beyond 65504",
)  # fmt: skip
QUICK = ("tabular MLP", "BN with epsilon 1e-12")
CACHE = ROOT / ".cache" / table.NAME
RESULTS = ROOT / "benchmarks" / "results"
TIMEOUT = 600.0  # seconds of one process
PACKAGES = ("onnxconverter-common", "onnxruntime", "nvidia-modelopt", "onnx", "torch", "bnfold")
ASK = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.precision", description=__doc__, allow_abbrev=False)
    parser.add_argument("--network", action="append", choices=NAMES, help="one of them, repeatable (default: all)")
    parser.add_argument("--tool", action="append", choices=tuple(TOOLS), help="one of them, repeatable (default: all)")
    parser.add_argument(
        "--converters", default=sys.executable, metavar="PYTHON", help="an interpreter that has the other converters"
    )
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds of one process (default: %(default)g)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where exported files stay (default: .cache)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results go (default: results)")
    parser.add_argument("--quick", action="store_true", help=f"{' and '.join(QUICK)} only: shows that it works")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the table; rows of an earlier run that were not measured again stay."""
    given = _parser().parse_args(argv)
    versions, rows = table.read(given.output)
    versions |= {name: found for name in PACKAGES if (found := _version(name, given.converters))}
    for network in given.network or (QUICK if given.quick else NAMES):
        for row in _rows(network, given):
            print(
                f"{row.network:>26} {row.source:9} {row.tool:22} {row.error} {row.nonfinite} {row.failure}", flush=True
            )
            key = (row.network, row.source, row.tool)
            rows = [other for other in rows if (other.network, other.source, other.tool) != key] + [row]
            rows.sort(key=_place)
            table.write(given.output, versions, rows)
    return 0


def _place(row: Row) -> tuple[int, int, int]:
    return NAMES.index(row.network), list(TOOLS).index(row.tool), table.SOURCES.index(row.source)


def _version(name: str, python: str) -> str:
    """The installed version of a package: of this interpreter, or of the one with the converters."""
    try:
        return version(name)
    except PackageNotFoundError:
        done = subprocess.run([python, "-c", ASK, name], capture_output=True, text=True, check=False)
        return done.stdout.strip()


def _rows(network: str, given: argparse.Namespace) -> Iterator[Row]:
    folder = given.cache.resolve() / network.replace(" ", "_").replace(",", "")
    if failure := _prepared(network, folder):
        yield from (Row(network, "original", tool, failure=failure) for tool in given.tool or TOOLS)
        return
    for tool in given.tool or TOOLS:
        is_ours = tool.startswith("bnfold")
        python = sys.executable if is_ours else given.converters
        for source in table.SOURCES[:1] if is_ours else table.SOURCES:
            target = folder / "converted.onnx"
            target.unlink(missing_ok=True)
            name = "model.onnx" if source == "original" else "folded.onnx"
            figures = converted(python, tool, folder / name, folder / "samples.npz", target, given.timeout)
            made = {} if figures["failure"] else judged(target, folder / "tests.npz")
            yield Row(network, source, tool, **(figures | made))


def _prepared(network: str, folder: Path) -> str:
    """Export and fold a network, unless it is there; what went wrong."""
    if (folder / "folded.onnx").exists():
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.precision.export", network, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        return f"not exported: {presentable((done.stderr.strip().splitlines() or ['no message'])[-1], folder)}"
    fold(folder / "model.onnx", folder / "folded.onnx", Options(verify=False))
    return ""


if __name__ == "__main__":
    sys.exit(main())
