from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest

from folding import onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.readiness.check import check
from folding.targets.model import load
from tests.support.models import Model
from tests.support.ready.idioms import WRITERS

if TYPE_CHECKING:
    from pathlib import Path

    from folding.report.findings import Finding

AROUND = {"Exp", "Log"}  # nothing is fused with them


def written(writer: str, opset: int) -> onnx.ModelProto:
    m = Model(opset, dtype=np.float32)
    m.op("Log", WRITERS[writer][1](m, m.op("Exp", m.x(2, 4, 6, 8))))
    return m.build()


def unfused(model: onnx.ModelProto, target: str) -> list[Finding]:
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        return [finding for finding in check(graph, load(target)) if finding.code == "idiom"]


def optimized(model: onnx.ModelProto, path: Path) -> list[str]:
    """The operators that ONNX Runtime's own optimizer leaves."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node if node.op_type not in AROUND]


@pytest.mark.parametrize("opset", [17, 23])
@pytest.mark.parametrize("writer", WRITERS)
def test_an_idiom_is_called_unfused_exactly_where_onnx_runtime_leaves_it(writer, opset, tmp_path):
    model = written(writer, opset)
    has_operator = WRITERS[writer][0] in {"LayerNormalization", "RMSNormalization", "GELU", "GELU (tanh)"}
    leaves = len(optimized(model, tmp_path / "optimized.onnx")) > 1
    assert bool(unfused(model, "onnxruntime-cpu")) == (has_operator and leaves)


def test_the_advice_names_the_operator_set_that_has_the_operator():
    (finding,) = unfused(written("gelu", 17), "tensorrt-11")
    assert finding.severity == "unfused"
    assert finding.advice == "give fuse=True and opset=20"
    assert "5 operators" in finding.sentence
    assert "Gelu" in finding.sentence
    (finding,) = unfused(written("gelu", 20), "tensorrt-11")
    assert finding.advice == "give fuse=True"


@pytest.mark.parametrize(
    ("writer", "target"),
    [("group_norm", "tensorrt-10"), ("silu", "tensorrt-11"), ("gelu", "directml"), ("mish", "onnxruntime-cpu")],
)
def test_what_the_target_has_no_operator_for_is_no_finding(writer, target):
    assert not unfused(written(writer, 17), target)
