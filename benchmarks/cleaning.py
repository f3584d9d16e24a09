"""``python -m benchmarks.cleaning FILES...``: how many operators onnxslim, onnxsim, ONNX Runtime and bnfold leave.

Prints a Markdown table. Operators in bodies and functions count, Constants too. Behind a count is the mean error of
the worst output, relative to its mean magnitude, against the original computed in float64; ONNX Runtime runs each
file in float32, without optimizations of its own. "!" says that the outputs are wrong, by more than `TOLERANCE`, or
that the runtime does not take the file; "?" that nothing could be compared. Where the original cannot be computed in
float64, or not as the runtime does, its outputs in float32 are the reference, and the original has no error.
``--python`` is the interpreter of an environment with onnxslim and onnxsim. ONNX Runtime's graphs have fused
operators of its own domain, at "extended"; they are shown for comparison, and are no files for other runtimes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from folding import Options, fold
from folding.editing.functions import count
from folding.execution.interpreter import Interpreter, InterpreterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Feeds = Mapping[str, NDArray[np.generic]]
    Outputs = dict[str, NDArray[np.generic]]

TOLERANCE = 1e-3  # relative; folding and fusing change roundings, a wrong result is off by far more
BATCH, LENGTH = 2, 64  # of open axes, the first one and the others
SATURATED = 1e-2  # a mean below it, as of a sigmoid at its end, counts as this: such an output is mostly rounding
WRONG = "!"
TIMEOUT = 900  # seconds of a tool, and of the original in float64
TOOLS = {
    "onnxslim": "import onnx, onnxslim, sys; onnx.save(onnxslim.slim(onnx.load(sys.argv[1])), sys.argv[2])",
    "onnxsim": "import onnx, onnxsim, sys; onnx.save(onnxsim.simplify(onnx.load(sys.argv[1]))[0], sys.argv[2])",
}
LEVELS = {
    "ONNX Runtime basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}


def ours(source: Path, target: Path) -> None:
    """What ``bnfold fold --target onnxruntime-cpu`` makes of a model, its weights taken as constant as by the tools."""
    options = Options(target="onnxruntime-cpu", allow_fallback=True, freeze_initializers=True, verify=False)
    fold(source, target, options)


def by_tool(script: str, python: str) -> Callable[[Path, Path], None]:
    """What a tool makes of a model, in a process of its own."""

    def run(source: Path, target: Path) -> None:
        command = [python, "-c", script, str(source), str(target)]
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace").strip().splitlines()[-1])

    return run


def by_runtime(level: object) -> Callable[[Path, Path], None]:
    """ONNX Runtime's own optimized graph."""

    def run(source: Path, target: Path) -> None:
        options = _options(level)
        options.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return run


def _options(level: object) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    return options


def feeds(model: onnx.ModelProto) -> Feeds:
    """Random inputs; integers are small, so that they fit as indices."""
    random, found = np.random.default_rng(0), {}
    initialized = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in initialized:
            tensor = value.type.tensor_type
            open_axes = [BATCH, *[LENGTH] * len(tensor.shape.dim)]
            shape = [d.dim_value if d.dim_value > 0 else open_axes[axis] for axis, d in enumerate(tensor.shape.dim)]
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            values = random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, 2, shape)
            found[value.name] = values.astype(dtype)
    return found


def outputs(path: Path, given: Feeds) -> Outputs:
    """The outputs by name, without ONNX Runtime's own optimizations."""
    options = _options(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(given)), strict=True))


def exact(path: Path, given: Feeds) -> Outputs:
    """The outputs of a model with every number in float64."""
    model = Interpreter(path, wide=True)
    return dict(zip((name for name, _ in model.outputs), model.run(given, TIMEOUT), strict=True))


def compared(expected: Outputs | None, path: Path, given: Feeds) -> str:
    """The mark or the error behind a count."""
    if expected is None:
        return "?"
    try:
        found = outputs(path, given)
        return f" ({max(map(error, expected.values(), (found[name] for name in expected))):.0e})"
    except Exception:  # noqa: BLE001  whatever the runtime raises for a file that it does not take
        return WRONG


def error(expected: NDArray[np.generic], found: NDArray[np.generic]) -> float:
    """The mean error by the mean magnitude of an output.

    Raises:
        ValueError: it is wrong.
    """
    if found.shape != expected.shape or found.dtype.kind != expected.dtype.kind:
        raise ValueError("another shape or type")
    one, other = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))  # infinities too
    apart = np.abs(np.subtract(one, other, where=~same, out=np.zeros_like(one))).mean() if one.size else 0.0
    finite = np.abs(one[np.isfinite(one)])
    relative = float(apart) / max(SATURATED, float(finite.mean()) if finite.size else 1.0)
    if not relative <= TOLERANCE:
        raise ValueError("another value")
    return relative


def row(source: Path, makers: Mapping[str, Callable[[Path, Path], None]]) -> list[str]:
    """The counts of one model, in the order of the table."""
    model = onnx.load(source, load_external_data=False)
    given, expected, original = feeds(model), None, ""
    try:
        expected = outputs(source, given)
        wide = exact(source, given)
        original = compared(wide, source, given)
        expected, original = (expected, "") if original == WRONG else (wide, original)
    except InterpreterError as refused:
        print(f"{source.name}: in float64: {str(refused)[:200]}", file=sys.stderr)
    except Exception:  # noqa: BLE001  a model of an opset that the runtime does not have is counted, not run
        given = {}
    cells = [source.stem, f"{count(model).nodes}{original}"]
    with tempfile.TemporaryDirectory() as folder:
        for number, make in enumerate(makers.values()):
            target = Path(folder) / f"{number}.onnx"
            try:
                make(source, target)
            except Exception as failed:  # noqa: BLE001  a tool that fails gets a dash
                print(f"{source.name}: {str(failed)[:200]}", file=sys.stderr)
                cells.append("-")
                continue
            nodes = count(onnx.load(target, load_external_data=False)).nodes
            cells.append(f"{nodes}{compared(expected, target, given)}")
    return cells


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.cleaning", description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has onnxslim and onnxsim")
    options = parser.parse_args(arguments)
    makers = {name: by_tool(script, options.python) for name, script in TOOLS.items()}
    makers |= {name: by_runtime(level) for name, level in LEVELS.items()} | {"bnfold": ours}
    print(f"| {' | '.join(['model', 'original', *makers])} |")
    print(f"| --- |{' ---: |' * (1 + len(makers))}", flush=True)
    for file in options.files:
        print(f"| {' | '.join(row(file, makers))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
