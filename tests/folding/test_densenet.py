"""DenseNet-121 with ``--clamp always``: no normalization is left, and the error is no larger than before.

The structure is that of the onnx package; its weights, which are all alike there, are drawn as training leaves them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from folding import Options
from tests.support.models import fold
from tests.support.references.operators import evaluate

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_densenet121.onnx"
INPUT = "data_0"
SIZE = 64  # pixels: a float64 evaluation takes seconds


def drawn(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if "_var_" in name:
        return random.uniform(0.5, 2, shape)
    if "_scale_" in name or ("_w_" in name and len(shape) == 1):
        return random.normal(1, 0.25, shape) * random.choice([1, 1, 1, 1, 1, 1, 1, 1, 1, -1], shape)
    if len(shape) > 1:
        return random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return random.normal(0, 0.3, shape)


@pytest.fixture(scope="module")
def densenet() -> onnx.ModelProto:
    model, random = onnx.load(LIGHT), np.random.default_rng(0)
    graph = model.graph
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    sizes = {t.name: tuple(numpy_helper.to_array(t).tolist()) for t in graph.initializer if t.data_type == 7}
    shapes |= {n.output[0]: sizes[n.input[0]] for n in graph.node if n.op_type == "ConstantOfShape"}
    wanted = {name: shape for name, shape in shapes.items() if name not in sizes}
    tensors = [numpy_helper.from_array(drawn(n, s, random).astype(np.float32), n) for n, s in wanted.items()]
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    image = helper.make_tensor_value_info(INPUT, 1, [1, 3, SIZE, SIZE])
    made = helper.make_graph(nodes, "densenet", [image], graph.output, tensors)
    made.output[0].type.tensor_type.shape.Clear()
    del made.output[0].type.tensor_type.shape.dim[:]
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=8)


def error(model: onnx.ModelProto, feeds: dict[str, np.ndarray], exact: np.ndarray) -> float:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return float(np.abs(session.run(None, feeds)[0] - exact).max())


def test_densenet_without_normalization(densenet):
    after, report = fold(densenet, Options(verify=False, clamp="always"))
    assert (report.bn_before, report.bn_after) == (121, 0)
    assert {n.op_type for n in after.graph.node} >= {"Max", "Min", "Conv", "Concat"}
    feeds = {INPUT: np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)}
    (exact,) = evaluate(densenet, feeds).values()
    (folded,) = evaluate(after, feeds).values()
    assert np.abs(folded - exact).max() <= 1e-5 * np.abs(exact).max()
    before = error(densenet, feeds, exact)
    assert error(after, feeds, exact) <= 2 * before


def test_by_default_what_needs_a_bound_per_channel_stays_and_says_so(densenet):
    _, report = fold(densenet)
    kept = [o for o in report.outcomes if o.operator == "BatchNormalization" and o.status == "kept"]
    assert report.bn_after == len(kept) == 62
    assert {o.forward.code for o in kept if o.forward} == {"clamp"}
