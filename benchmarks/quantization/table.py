"""The table of results for people: quantization.md."""

from __future__ import annotations

import datetime as dt
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.quantization.measure import Row

NAME = "quantization"
PACKAGES = ("onnxruntime", "onnx", "torch", "bnfold")
COLUMNS = ("network", "before quantization", "weights", "SQNR", "same largest output", "MB", "failure")
METHOD = """\
ONNX Runtime's `quantize_static` (QDQ, 8 bits for activations and weights, ranges of the samples) on each model as it \
is, folded (`bnfold fold`), folded and equalized (`bnfold fold --equalize`), equalized in the same way with scales of \
any size, and equalized by AIMET (`aimet_onnx` 2.42, `equalize_model`: fold, cross-layer equalization, absorption of \
high biases). ONNX Runtime's own preprocessing, which folds too, is not used.

SQNR is the signal to quantization noise ratio of the worst output in decibels, against the original in float32, on \
images that no calibration saw; "same largest output" is the share of them whose largest output is at the same place \
(of UltraFace, among thousands of anchors).

The first networks are trained (but not on such images). No weights can be downloaded, so the others have random \
ones: gammas whose logarithms are normal (standard deviation 0.5), and the statistics of their own activations. \
Networks that have learned nothing amplify what rounding adds, the more the deeper they are: their figures \
distinguish the states, and say nothing of the accuracy of a trained network. MobileNets have ReLU in place of \
ReLU6, as Nagel et al. (2019) have them in section 5.1: no scale passes a Clip unless its bounds become one per \
channel. The images are noise of several scales."""


def write(folder: Path, rows: Sequence[Row]) -> None:
    """Write quantization.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.md").write_text(markdown(rows))


def markdown(rows: Sequence[Row]) -> str:
    """The content of quantization.md."""
    stamp = dt.datetime.now(tz=dt.UTC).date().isoformat()
    packages = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    lines = [COLUMNS, ("---",) * 3 + ("---:",) * 3 + ("---",), *map(_cells, rows)]
    body = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    return f"# 8 bits, before and after a fold\n\n{METHOD}\n\n{stamp}; {packages}.\n\n{body}\n"


def _cells(row: Row) -> tuple[str, ...]:
    if row.sqnr is None or row.agreement is None:
        return (row.network, row.state, row.weights, "", "", "", row.failure)
    figures = f"{row.sqnr:.1f} dB", f"{row.agreement:.0%}", f"{row.nbytes / 1e6:.2f}"
    return (row.network, row.state, row.weights, *figures, row.failure)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
