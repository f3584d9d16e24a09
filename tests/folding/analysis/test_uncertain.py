"""Lengths that a caller may change, or of which runtimes have another idea, decide no fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser, shape_inference

import folding
from folding import Options

NO_VERIFY = Options(verify=False)
HEAD = '<ir_version: 8, opset_import: ["" : {opset}]>\n'
# A shift, then a sum over an axis: forward, the shift is counted as often as the axis is long.
BEHIND = "z = ReduceSum <keepdims = 0> (e, a)  q = MatMul(z, w)  y = Add(q, b)"
WEIGHTS = "float[1] k = {2.5}, float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {1, 2}"


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(HEAD.format(opset=opset) + text)


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> np.ndarray[Any, Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, feeds)
    return np.asarray(result)


def overridable(declared: str, default: str, axis: int, length: str, opset: int = 17) -> onnx.ModelProto:
    """A model in which the initializer `s` is also an input, and `length` computes `e` of `d` and `s`."""
    return parsed(
        f"g (float[2,1,3] x, {declared} s) => (float[N,2] y) <{declared} s = {{{default}}}, int64[1] a = {{{axis}}},"
        f" {WEIGHTS}> {{ c = Tanh(x)  d = Add(c, k)  {length}  {BEHIND} }}",
        opset,
    )


OVERRIDABLE = {
    "Expand": (overridable("int64[3]", "2, 5, 3", 1, "e = Expand(d, s)"), [2, 9, 3]),
    "Tile": (overridable("int64[3]", "1, 5, 1", 1, "e = Tile(d, s)"), [1, 9, 1]),
    "Pad": (overridable("int64[6]", "0, 1, 0, 0, 0, 0", 1, 'e = Pad <mode = "edge"> (d, s)'), [0, 4, 0, 0, 3, 0]),
    "Resize": (overridable("float[3]", "1, 2, 1", 1, "e = Resize(d, , s)"), [1, 4, 1]),
    "sizes": (overridable("int64[3]", "2, 2, 3", 1, "e = Resize(d, , , s)"), [2, 5, 3]),
    "Slice": (
        overridable("int64[1]", "3", 1, "t = Concat <axis = 1> (d, d, d, d)  o = Constant <value_ints = [0]> ()"
        "  i = Constant <value_ints = [1]> ()  e = Slice(t, o, s, i)"), [2],
    ),
    "ConstantOfShape": (
        overridable("int64[3]", "2, 4, 1", 1, "n = ConstantOfShape(s)  e = Add(n, d)"), [2, 7, 1],
    ),
    "through arithmetic": (
        overridable("int64[1]", "4", 1, "o = Constant <value_ints = [2]> ()  i = Constant <value_ints = [3]> ()"
        "  r = Concat <axis = 0> (o, s, i)  e = Expand(d, r)"), [6],
    ),
    "the shape of such a value": (
        overridable("int64[3]", "2, 5, 3", 1, "n = ConstantOfShape(s)  r = Shape(n)  e = Expand(d, r)"), [2, 9, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("recorded", [False, True], ids=["bare", "recorded"])
@pytest.mark.parametrize("name", OVERRIDABLE)
def test_a_length_that_a_caller_may_change_decides_nothing(name, recorded):
    model, other = OVERRIDABLE[name]
    kind = np.float32 if name == "Resize" else np.int64
    if recorded:  # as exporters and simplifiers leave it: with the lengths of the default
        model = shape_inference.infer_shapes(model, data_prop=True)
    after, _ = folding.fold_model(model, NO_VERIFY)
    x = np.random.default_rng(0).standard_normal((2, 1, 3)).astype(np.float32)
    for feeds in ({"x": x}, {"x": x, "s": np.array(other, kind)}):
        np.testing.assert_allclose(run(after, feeds), run(model, feeds), rtol=1e-5)


def test_frozen_they_decide():
    model, _ = OVERRIDABLE["Expand"]
    assert not folding.fold_model(model, NO_VERIFY)[1].changed
    assert folding.fold_model(model, Options(verify=False, freeze_initializers=True))[1].changed


def pooled(pool: str, opset: int) -> onnx.ModelProto:
    kernel = ", ".join("123456789" * 2)
    return parsed(
        f"g (float[n,3,4] x) => (float[n,2] y) <float[1,3,1] k = {{5, 7, 2}}, float[3,2] w = {{1, 2, 3, 4, 5, 6}},"
        f" float[2] b = {{1, 2}}, float[3,3,2] u = {{{kernel}}}, int64[1] a = {{2}}>"
        f" {{ p = {pool}  t = Tanh(p)  e = Add(t, k)  {BEHIND} }}",
        opset,
    )


DISPUTED = [
    ("MaxPool <kernel_shape = [1], strides = [2], ceil_mode = 1> (x)", 13),
    ("AveragePool <kernel_shape = [1], strides = [3], ceil_mode = 1> (x)", 19),
    ('MaxPool <kernel_shape = [2], strides = [2], dilations = [2], auto_pad = "SAME_UPPER"> (x)', 13),
    ('ConvTranspose <strides = [2], output_padding = [1], auto_pad = "SAME_LOWER"> (x, u)', 13),
]


@pytest.mark.parametrize(("pool", "opset"), DISPUTED)
def test_a_length_on_which_runtimes_differ_decides_nothing(pool, opset):
    model = pooled(pool, opset)
    after, report = folding.fold_model(model, NO_VERIFY)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, {"x": x}), run(model, {"x": x}), rtol=1e-5)
    assert "unknown-shape" in {one.forward.code for one in report.outcomes if one.forward is not None}


def test_from_opset_22_on_a_pool_that_rounds_up_is_known():
    model = pooled("MaxPool <kernel_shape = [1], strides = [2], ceil_mode = 1> (x)", 22)
    after, report = folding.fold_model(model, NO_VERIFY)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, {"x": x}), run(model, {"x": x}), rtol=1e-5)
    assert report.changed


@pytest.mark.parametrize(("pool", "opset"), DISPUTED)
def test_channels_behind_it_are_known(pool, opset):
    """A normalization behind a convolution behind the pool folds as ever, with the batch's name and the channels."""
    model = parsed(
        f"g (float[n,3,8] x) => (float[N,C,L] y) <float[3,3,1] w = {{{', '.join('123456789')}}}, float[3,3,2] u ="
        f" {{{', '.join('123456789' * 2)}}}, float[3] one = {{1, 2, 3}}> {{ p = {pool}  c = Relu(p)  d = Conv(c, w)"
        " y = BatchNormalization(d, one, one, one, one) }",
        opset,
    )
    report = folding.fold_model(model, NO_VERIFY)[1]
    assert (report.bn_before, report.bn_after) == (1, 0)


def test_a_disputed_length_in_a_function_decides_nothing():
    model = parsed(
        "g (float[n,3,4] x) => (float[n,2] y) <float[1,3,1] k = {5, 7, 2}, float[3,2] w = {1, 2, 3, 4, 5, 6},"
        " float[2] b = {1, 2}, int64[1] a = {2}> { p = local.pool(x)  e = Add(p, k) " + BEHIND + " }\n"
        '<domain: "local", opset_import: ["" : 13]> pool (x) => (p)'
        " { p = MaxPool <kernel_shape = [1], strides = [2], ceil_mode = 1> (x) }",
        13,
    )
    model.opset_import.add(domain="local", version=1)
    after, _ = folding.fold_model(model, NO_VERIFY)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(after, {"x": x}), run(model, {"x": x}), rtol=1e-5)


def test_what_a_known_target_makes_of_a_disputed_length_is_known_behind_it():
    """Its type is found after its shape, since inference passes a disputed operator in the next round only."""
    model = parsed(
        'g (float[1,3,4] x) => (float[1,1,3,4] y) <int64[1] a = {0}> { p = MaxPool <auto_pad = "SAME_UPPER",'
        " kernel_shape = [1], dilations = [2]> (x)  s = Shape(x)  r = Reshape(p, s)  y = Unsqueeze(r, a) }",
        13,
    )
    after, _ = folding.fold_model(model, Options(clean=True))
    assert [node.op_type for node in after.graph.node] == ["MaxPool", "Reshape"]
