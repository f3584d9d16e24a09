"""The interpreter computes what ONNX Runtime computes, in the types of the model or in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from folding.execution.interpreter import Interpreter, InterpreterError

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = ", ".join(str(i % 7 - 3) for i in range(4 * 2 * 3 * 3))
CONV = f"(float[2,4,7,6] x) => (float[A,B,C,D] y) <float[4,2,3,3] w = {{{WEIGHTS}}}, float[4] b = {{1, 2, 3, 4}}> "
TRANSPOSE = CONV.replace("float[4] b = {1, 2, 3, 4}", "float[4] b = {4, 3, 2, 1}")
NORMAL = "(float[2,4,3] x) => (float[2,4,3] y) <float[4] a = {1, 2, 3, 4}, float[4] b = {4, 1, 2, 3}> "
TRAINED = NORMAL.replace("b = {4, 1, 2, 3}", "b = {4, 1, 2, 3}, float[4] k = {0, 1, 0, 1}, float[4] l = {2, 1, 2, 1}")
LINE = "(float[2,4,7] x) => (float[A,B,C] y) "
LOOP = """(float[2] x) => (float[2] y) <int64 n = {1000000000000}, bool c = {1}> {
    y = Loop (n, c, x) <body = b (int64 i, bool ci, float[2] xi) => (bool co, float[2] xo) {
        co = Identity(ci) xo = Relu(xi) }> }"""


def saved(folder: Path, text: str, opset: int = 17) -> Path:
    path = folder / "model.onnx"
    onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\nagraph {text}'), path)
    return path


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        (CONV + "{ y = Conv<group=2>(x, w, b) }", 17),
        (CONV + "{ y = Conv<group=2, pads=[1,0,2,1], strides=[2,1]>(x, w) }", 17),
        (CONV + "{ y = Conv<group=2, dilations=[2,1], strides=[1,2]>(x, w, b) }", 17),
        (CONV + '{ y = Conv<group=2, auto_pad="SAME_UPPER", strides=[2,3]>(x, w) }', 17),
        (CONV + '{ y = Conv<group=2, auto_pad="SAME_LOWER", strides=[2,2]>(x, w) }', 17),
        (CONV + '{ y = Conv<group=2, auto_pad="VALID">(x, w) }', 11),
        (TRANSPOSE + "{ y = ConvTranspose<group=2, strides=[2,3], pads=[1,0,0,1]>(x, w, b) }", 17),
        (TRANSPOSE + "{ y = ConvTranspose<group=2, strides=[2,2], output_padding=[1,0], dilations=[1,2]>(x, w) }", 17),
        (TRANSPOSE + "{ y = ConvTranspose<group=2, strides=[2,2], output_shape=[14,12]>(x, w) }", 17),
        (TRANSPOSE + '{ y = ConvTranspose<group=2, strides=[2,2], auto_pad="SAME_UPPER">(x, w) }', 17),
        (TRANSPOSE + '{ y = ConvTranspose<group=2, strides=[2,2], auto_pad="SAME_LOWER">(x, w) }', 17),
        (NORMAL + "{ y = BatchNormalization(x, a, b, b, a) }", 9),
        (NORMAL + "{ y = BatchNormalization<epsilon=0.5>(x, a, b, b, a) }", 17),
        (TRAINED + "{ y, m, v = BatchNormalization<training_mode=1>(x, a, b, k, l) }", 17),
        (LINE + "{ y = MaxPool<kernel_shape=[3], pads=[1,1]>(x) }", 17),
        (LINE + "{ y = MaxPool<kernel_shape=[3], pads=[2,0], strides=[2], dilations=[2]>(x) }", 17),
        (LINE + "{ y = MaxPool<kernel_shape=[2], pads=[0,1], strides=[2], ceil_mode=1>(x) }", 17),
        (
            LINE.replace("4,7]", "4,2,5,3]").replace("B,C", "B,C,D,E")
            + "{ y = MaxPool<kernel_shape=[1,3,2], pads=[0,1,1,0,1,0]>(x) }",
            17,
        ),
        (CONV + '{ z = MaxPool<kernel_shape=[3,2], auto_pad="SAME_UPPER", strides=[2,1]>(x)  y = Neg(z) }', 17),
        (CONV + '{ z = MaxPool<kernel_shape=[3,2], auto_pad="SAME_LOWER", strides=[2,2]>(x)  y = Neg(z) }', 17),
        (CONV + "{ z, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)  y = Neg(z) }", 17),
        (NORMAL + "{ s = Add(a, b)  f = Cast<to=1>(s)  z = Softmax<axis=1>(x)  y = Add(z, x) }", 17),
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_it_computes_what_the_runtime_computes(text: str, opset: int, wide: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, text, opset)
    shape = [value.dim_value for value in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (expected,) = ort.InferenceSession(path).run(None, {"x": x})
    model = Interpreter(path, wide=wide)
    (found,) = model.run({"x": x}, 100.0)
    assert found.dtype == (np.float64 if wide else np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (model.inputs[0][0], model.outputs[0][0]) == ("x", "y")
    assert model.outputs[0][1] == ("tensor(double)" if wide else "tensor(float)")


def test_every_constant_is_wide_also_in_nested_graphs(tmp_path: Path) -> None:
    text = """(float[2] x) => (float[2] y) <bool c = {1}, int64[1] n = {2}> {
        k = Constant<value_float = 0.1>()  z = ConstantOfShape(n)  t = Add(x, k)  u = Add(t, z)
        y = If(c) <then_branch = a () => (float[2] p) { q = Constant<value = float {0.2}>()  p = Add(u, q) },
                   else_branch = b () => (float[2] p) { p = Identity(u) }> }"""
    (found,) = Interpreter(saved(tmp_path, text), wide=True).run({"x": np.zeros(2, np.float32)}, 100.0)
    np.testing.assert_array_equal(found, np.float64(np.float32(0.1)) + np.float64(np.float32(0.2)))


def test_weights_are_moved_and_single_numbers_are_not(tmp_path: Path) -> None:
    path = saved(
        tmp_path, "(float[2] x) => (float[2] y) <float[2] w = {1, 1}, float e = {2}> { p = Pow(x, e)  y = Mul(p, w) }"
    )
    feeds = {"x": np.array([-3, -5], np.float32)}
    (moved,) = Interpreter(path, wide=True, moved=0.25).run(feeds, 100.0)
    assert set(np.abs(moved / [9, 25] - 1)) == {0.25}


def test_values_inside_are_given_on_request(tmp_path: Path) -> None:
    path = saved(tmp_path, "(float[2] x) => (float[2] y) { h = Neg(x)  y = Abs(h) }")
    y, h = Interpreter(path).run({"x": np.array([1, 2], np.float32)}, 100.0, ["h"])
    assert (y.tolist(), h.tolist()) == ([1, 2], [-1, -2])


def test_it_says_why_it_does_not_compute(tmp_path: Path) -> None:
    with pytest.raises(InterpreterError, match="Nonsense"):
        Interpreter(saved(tmp_path, "(float[2] x) => (float[2] y) { y = Nonsense(x) }"))
    endless = Interpreter(saved(tmp_path, LOOP))
    with pytest.raises(InterpreterError, match="more than 0 seconds"):
        endless.run({"x": np.zeros(2, np.float32)}, 0.1)
