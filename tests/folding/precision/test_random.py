"""Random graphs, lowered: valid, finite where the original is, close in ONNX Runtime, and the same a second time."""

from __future__ import annotations

import os

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.lowering import lowered, ran
from tests.support.strategies.graphs import graphs, wrapped
from tests.support.strategies.stacks import stacks

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
FIXED = "FUZZ_EXAMPLES" not in os.environ
fuzz = settings(
    max_examples=EXAMPLES, derandomize=FIXED, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
PRECISIONS = st.sampled_from(["fp16", "bf16", "mixed"])


def single(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float64 model in float32."""
    data = model.SerializeToString()
    result = onnx.ModelProto.FromString(data)
    waiting = [result.graph, *result.functions]
    while waiting:
        graph = waiting.pop()
        for value in () if isinstance(graph, onnx.FunctionProto) else (*graph.input, *graph.output, *graph.value_info):
            tensor = value.type.tensor_type
            if tensor.elem_type == onnx.TensorProto.DOUBLE:
                tensor.elem_type = onnx.TensorProto.FLOAT
        tensors = [] if isinstance(graph, onnx.FunctionProto) else list(graph.initializer)
        tensors += [] if isinstance(graph, onnx.FunctionProto) else [s.values for s in graph.sparse_initializer]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in {"to", "dtype"} and attribute.i == onnx.TensorProto.DOUBLE:
                    attribute.i = onnx.TensorProto.FLOAT
                tensors += [attribute.t] if attribute.HasField("t") else []
                tensors += [attribute.sparse_tensor.values] if attribute.HasField("sparse_tensor") else []
                waiting += [attribute.g] if attribute.HasField("g") else []
        for tensor in tensors:
            if tensor.data_type == onnx.TensorProto.DOUBLE:
                array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return result


def check(model, feeds, precision, *, ranges, io_types="keep"):
    result, outcome = lowered(model, precision, ranges=ranges, io_types=io_types)
    if not outcome.changes:
        return
    _, second = lowered(result, precision, ranges=ranges, io_types=io_types)
    assert not second.changes, second.changes
    if precision == "bf16":
        return
    feeds = {name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in feeds.items()}
    with np.errstate(all="ignore"):
        try:
            expected = ran(model, feeds)
        except Exception:  # noqa: BLE001  the original does not run
            return
        for before, after in zip(expected, ran(result, feeds), strict=True):
            assert before.shape == after.shape
            wide = before.astype(np.float64)
            if not (np.isfinite(wide).all() and np.abs(wide).max(initial=0) < 6e4):
                continue
            assert np.isfinite(after).all()


@fuzz
@given(graphs(), PRECISIONS, st.booleans(), st.sampled_from(["keep", "lower"]))
def test_random_graphs(drawn, precision, ranges, io_types):
    model, feeds = drawn
    check(single(model), feeds, precision, ranges=ranges or precision == "mixed", io_types=io_types)


@fuzz
@given(wrapped(), PRECISIONS)
def test_random_graphs_in_other_clothes(drawn, precision):
    model, feeds = drawn
    check(single(model), feeds, precision, ranges=False)


@fuzz
@given(stacks(), PRECISIONS, st.booleans())
def test_random_stacks(drawn, precision, ranges):
    model, feeds = drawn
    check(model, feeds, precision, ranges=ranges)
