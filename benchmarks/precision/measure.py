"""One row: a converter in a fresh process, and what becomes of its file under emulation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort

from folding.execution.emulation import emulate

if TYPE_CHECKING:
    from collections.abc import Iterator

LAUNCHER = Path(__file__).parent.with_name("launch.py")
CONVERTERS = Path(__file__).with_name("converters.py")
ROOT = Path(__file__).parents[2]
KIB = 1024
MESSAGE_LENGTH = 120  # characters of an error's message in the table, at most
HEAVY = frozenset("Attention Conv ConvTranspose Einsum GRU Gemm LSTM MatMul RNN".split())  # noqa: SIM905
HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})


@dataclass(frozen=True)
class Row:
    """What one converter made of one file; `failure` is a sentence where it made none, or none that is valid.

    `error` is the mean of |y - t| over the mean of |t|, of the worst output, with t of PyTorch in float64; None where y
    is not finite. `heavy` counts operators that multiply matrices and compute in float32.
    """

    network: str
    source: str  # the original, or our fold of it
    tool: str
    error: float | None = None
    nonfinite: int = 0
    casts: int = 0
    heavy: int = 0
    nbytes: int = 0
    seconds: float = 0.0
    peak: int = 0  # bytes resident, at most
    failure: str = ""


def converted(python: str, tool: str, source: Path, samples: Path, target: Path, timeout: float) -> dict[str, Any]:
    """Run a converter in its interpreter; seconds, peak memory, and why it made nothing."""
    log = target.with_suffix(".log")
    command = [python, "-P", "-W", "ignore", str(CONVERTERS), tool, str(source), str(target), str(samples)]
    launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(log), str(timeout), *command]
    done = subprocess.run(launch, capture_output=True, text=True, check=True, env=_environment())
    figures = json.loads(done.stdout)
    failure = ""
    if figures["expired"]:
        failure = f"stopped after {timeout:g} s"
    elif figures["code"] or not target.exists():
        lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
        failure = presentable(lines[-1], target.parent)
    return {"seconds": figures["wall"], "peak": figures["peak_kib"] * KIB, "failure": failure}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def presentable(text: str, folder: Path) -> str:
    """A message without the folders of this machine, short enough for a table."""
    for place in (str(folder), str(Path(tempfile.gettempdir())), str(ROOT), sys.prefix, str(Path.home())):
        text = text.replace(place, "...")
    return " ".join(text.split())[:MESSAGE_LENGTH]


def judged(model: Path, tests: Path) -> dict[str, Any]:
    """The error of a file and what it holds; a failure if it is not valid.

    ONNX Runtime itself must take its types, since an emulation in float32 would hide a wrong one.
    """
    try:
        onnx.checker.check_model(str(model), full_check=True)
        _session(model)
    except Exception as error:  # noqa: BLE001  the checker and the runtime raise whatever they like
        return {"failure": f"invalid: {presentable(str(error), model.parent)}"}
    found = {"nbytes": model.stat().st_size, **counts(onnx.load(model))}
    try:
        return found | error_of(model, tests)
    except Exception as error:  # noqa: BLE001  as above
        return found | {"failure": f"does not run: {presentable(str(error), model.parent)}"}


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def error_of(model: Path, tests: Path) -> dict[str, Any]:
    """The largest error of an output under emulation, and how many numbers are not finite that should be."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "emulated.onnx"
        emulate(model, target)
        session = _session(target)
    with np.load(tests) as arrays:
        given = dict(arrays)
    feeds = {one.name: given[one.name] for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    errors, nonfinite = [], 0
    for name, found in zip(names, session.run(names, feeds), strict=True):
        expected = given[name]
        nonfinite += int(np.count_nonzero(~np.isfinite(found) & np.isfinite(expected)))
        errors.append(float(np.abs(found - expected).mean() / np.abs(expected).mean()))
    return {"error": max(errors) if not nonfinite else None, "nonfinite": nonfinite}


def counts(model: onnx.ModelProto) -> dict[str, int]:
    """The Casts of a file, and its operators that multiply matrices in float32."""
    model = onnx.shape_inference.infer_shapes(model)
    casts = heavy = 0
    for graph in _graphs(model.graph):
        kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
        kinds |= {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
        for node in graph.node:
            casts += node.op_type == "Cast"
            kind = next((kinds[name] for name in (*node.output, *node.input) if kinds.get(name)), 0)
            heavy += node.op_type in HEAVY and kind not in HALVES
    return {"casts": casts, "heavy": heavy}


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)
