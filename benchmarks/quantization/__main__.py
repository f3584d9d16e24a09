"""``python -m benchmarks.quantization``: 8 bits as it is, folded, equalized; writes results/quantization.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from benchmarks.quantization import anyscale, table
from benchmarks.quantization.measure import Row, agreement, outputs, quantized, sqnr
from benchmarks.quantization.trained import TRAINED, prepared
from folding import Options, fold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
CACHE, RESULTS = ROOT / ".cache" / table.NAME, ROOT / "benchmarks" / "results"
# `benchmarks.quantization.export` has them, too; it needs PyTorch, and the table does not.
NAMES = ("MobileNetV1", "MobileNetV2", "MnasNet", "FBNet-C", "ResNet-18")
STATES = ("unfolded", "folded", "folded + equalized", "equalized, any scale", "AIMET")
PER_CHANNEL = {"per tensor": False, "per channel": True}
AIMET = Path(__file__).with_name("aimet.py")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.quantization", description=__doc__, allow_abbrev=False)
    parser.add_argument("--network", action="append", help="one of them, repeatable (default: all)")
    parser.add_argument("--aimet", metavar="PYTHON", help="an interpreter that has aimet_onnx")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has timm (default: this one)")
    parser.add_argument("--trained", type=Path, help="a folder with more trained models, see trained.py")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where exported files stay (default: .cache)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the table goes (default: results)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the table."""
    given = _parser().parse_args(argv)
    ort.set_default_logger_severity(4)
    rows: list[Row] = []
    for network in given.network or (*TRAINED, *NAMES):
        folder = given.cache.resolve() / network
        if not _exported(network, folder, given):
            print(f"{network}: not there", flush=True)
            continue
        for row in _rows(network, folder, given.aimet):
            print(row, flush=True)
            rows.append(row)
            table.write(given.output, rows)
    return 0


def _exported(network: str, folder: Path, given: argparse.Namespace) -> bool:
    """Write model.onnx and its samples, unless they are there; return whether they are now."""
    if (folder / "tests.npz").exists():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    if network in TRAINED:
        return prepared(network, folder, given.trained)
    command = [given.python, "-W", "ignore", "-m", "benchmarks.quantization.export", network, str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return True


def _rows(network: str, folder: Path, aimet: str | None) -> Iterator[Row]:
    calibration, tests = (dict(np.load(folder / f"{name}.npz")) for name in ("calibration", "tests"))
    exact = outputs(folder / "model.onnx", tests)
    for state in STATES if aimet else STATES[:-1]:
        before, after = folder / "before.onnx", folder / "quantized.onnx"
        failure = _made(state, folder / "model.onnx", before, aimet)
        for weights, per_channel in PER_CHANNEL.items():
            if failure:
                yield Row(network, state, weights, failure=failure)
                continue
            quantized(before, after, calibration, per_channel=per_channel)
            found = outputs(after, tests)
            yield Row(network, state, weights, sqnr(exact, found), agreement(exact, found), after.stat().st_size)


def _made(state: str, model: Path, target: Path, aimet: str | None) -> str:
    """Do to the model what a state says; what went wrong."""
    if state == "unfolded":
        target.write_bytes(model.read_bytes())
    elif state == "equalized, any scale":
        anyscale.equalized(model, target)
    elif state == "AIMET":
        command = [str(aimet), "-W", "ignore", str(AIMET), str(model), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""
    else:
        fold(model, target, Options(equalize=state != "folded"))
    return ""


if __name__ == "__main__":
    sys.exit(main())
