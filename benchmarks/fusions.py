"""What ONNX Runtime makes of a model: the operators of its own optimized graph, at the extended level."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime

from folding.graph.node import bodies

# Operators that stand for several; each one less is several more, or a slower path. FusedConv and FusedMatMul are not
# among them: an activation or a scale that is gone needs no fusion, and one that is not is a node of its own.
FUSED = frozenset(
    "Attention BiasGelu BiasSoftmax FastGelu Gelu HardSwish LayerNormalization MultiHeadAttention QuickGelu "  # noqa: SIM905
    "RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization".split()
)


def optimized(model: onnx.ModelProto | Path) -> Counter[str]:
    """The operator types of ONNX Runtime's optimized graph, bodies included."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    return Counter(_types(graph))


def _types(graph: onnx.GraphProto) -> list[str]:
    inner = [name for node in graph.node for body in bodies(node) for name in _types(body)]
    return [*(node.op_type for node in graph.node), *inner]


def total(graph: Counter[str]) -> int:
    """The operators of a graph but its Transposes: the runtime moves, adds and removes them by an estimate of cost."""
    return graph.total() - graph["Transpose"]


def worse(before: Counter[str], after: Counter[str]) -> list[str]:
    """What folding cost the runtime: more operators in all, or fused ones that are gone; empty if nothing."""
    count, left = total(before), total(after)
    found = [f"{count} -> {left} operators"] if left > count else []
    return found + [f"{before[op]} -> {after[op]} {op}" for op in sorted(FUSED) if after[op] < before[op]]
