"""Shape arithmetic that known lengths settle, and constants that operators make of constants."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support.ready.cleaning import check, clean_model, model, operators, run

VIEW = "s = Shape(x) b = Gather(s, zero) c = Gather(s, one) b1 = Unsqueeze(b, zero) c1 = Unsqueeze(c, zero)"
INDICES = "<int64[1] zero = {0}, int64[1] one = {1}, int64[1] last = {%s}>"
ROWS = [
    # the channels are known, whatever the batch is
    ("(float[N,6,4] x) => (int64[1] y) <int64[1] i = {1}> { s = Shape(x) a = Gather(s, i) y = Add(a, a) }", ""),
    (
        "(float[N,6,4] x) => (int64[1] y) <int64[1] i = {0}> { s = Shape(x) a = Gather(s, i) y = Add(a, a) }",
        "Shape Gather Add",
    ),
    ("(float[2,6,4] x) => (int64 y) { a = Size(x) y = Neg(a) }", ""),
    # view(batch, channels, -1): one size is open
    (
        (
            "(float[N,6,4] x) => (float[N,6,4] y) <int64[1] z = {0}, int64[1] r = {-1}, int64[1] i = {0}, int64[1] j = {1}>"
            "{ s = Shape(x) b = Gather(s, i) c = Gather(s, j) t = Concat <axis = 0> (b, c, r) a = Reshape(x, t) y = Relu(a) }"
        ),
        "Relu",
    ),
    (
        (
            "(float[N,6,4] x) => (float[N,24] y) <int64[1] r = {-1}, int64[1] i = {0}>"
            "{ s = Shape(x) b = Gather(s, i) t = Concat <axis = 0> (b, r) y = Reshape(x, t) }"
        ),
        "Reshape",
    ),
    # a length that moves is no copy, and two open ones are too many
    (
        (
            "(float[N,M,4] x) => (float[A,B,4] y) <int64[1] f = {4}, int64[1] i = {0}, int64[1] j = {1}>"
            "{ s = Shape(x) b = Gather(s, i) c = Gather(s, j) t = Concat <axis = 0> (c, b, f) y = Reshape(x, t) }"
        ),
        "Shape Gather Gather Concat Reshape",
    ),
    # the same name declared for two inputs is no proof
    (
        (
            "(float[N,4] x, float[N] z) => (float[N,4] y) <int64[1] f = {4}, int64[1] i = {0}>"
            "{ s = Shape(z) b = Gather(s, i) t = Concat <axis = 0> (b, f) a = Reshape(x, t) y = Relu(a) }"
        ),
        "Reshape Relu",
    ),
    (
        "(float[N] x) => (float[N] y) <float[2] c = {1, 4}> { a = Sqrt(c) b = ReduceSum <keepdims = 0> (a) y = Mul(x, b) }",
        "Mul",
    ),
    ("(float[N] x, float c = {4}) => (float[N] y) { b = Sqrt(c) y = Mul(x, b) }", "Sqrt Mul"),
    (
        "(float[N] x) => (float[N] y) { c = RandomNormal <shape = [1]> () d = Mul(c, c) y = Where(e, x, d) }".replace(
            "{ c =", "<bool[1] e = {1}> { c ="
        ),
        "RandomNormal Mul Where",
    ),
    (
        (
            "(float[N] x) => (float[N] y) <float[3] c = {1,2,3}, float s = {0.1}, uint8 z = {0}>"
            "{ q = QuantizeLinear(c, s, z) d = DequantizeLinear(q, s, z) e = ReduceSum <keepdims = 0> (d) y = Mul(x, e) }"
        ),
        "QuantizeLinear DequantizeLinear ReduceSum Mul",
    ),
]


@pytest.mark.parametrize(("text", "left"), ROWS)
def test_what_is_left(text, left):
    before = model(text)
    after = check(before, runs="Random" not in text)
    assert " ".join(operators(after.graph)) == left


def test_infinities_nan_and_large_integers_are_kept_bit_for_bit():
    before = model(
        "(float[N] x) => (float[N] y, float[3] b, int64[2] d)"
        "<float[3] a = {1,1,1}, int64[2] c = {9223372036854775807, -9223372036854775807}>"
        "{ b = Neg(a) d = Neg(c) y = Relu(x) }"
    )
    values = np.array([0x7FC00123, 0x7F800000, 0x80000000], np.uint32).view(np.float32)
    before.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "a"))
    after = check(before)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    assert found["b"].view(np.uint32).tolist() == (values.view(np.uint32) ^ 0x80000000).tolist()
    assert found["d"].tolist() == [-9223372036854775807, 9223372036854775807]
    assert [node.op_type for node in after.graph.node] == ["Relu"]


def large(op: str, size: int) -> onnx.ModelProto:
    """A constant of `size` numbers that an operator makes of one."""
    text = f"(float[{size}] x) => (float[{size}] y) <int64[1] n = {{{size}}}, float[1] v = {{2}}>"
    made = {"ConstantOfShape": "ConstantOfShape(n)", "Expand": "Expand(v, n)", "Tile": "Tile(v, n)"}
    return model(text + f"{{ c = {made[op]} y = Mul(x, c) }}")


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
def test_what_repeats_values_stays_unless_it_is_small(op):
    assert list(operators(check(large(op, 8)).graph)) == ["Mul"]
    assert list(operators(check(large(op, 4000)).graph)) == [op, "Mul"]


def test_constants_grow_up_to_the_limit():
    text = "(float[64,64] x) => (float[64,64] y) <float[64,1] a = {%s}, float[1,64] b = {%s}> { c = Mul(a, b) y = Mul(x, c) }"
    before = model(text % ((",".join(map(str, range(1, 65))),) * 2))
    assert list(operators(check(before).graph)) == ["Mul"]
    _, changes = clean_model(before)
    grown = sum(change.nbytes for change in changes)
    assert grown == 4 * (64 * 64 - 2 * 64)
    assert list(operators(check(before, limit=grown).graph)) == ["Mul"]
    assert list(operators(check(before, limit=grown - 1).graph)) == ["Mul", "Mul"]


def test_a_transposed_weight_replaces_the_weight():
    text = "(float[2,3] x) => (float[2,4] y) <float[4,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}> { t = Transpose(w) y = MatMul(x, t) }"
    before = model(text)
    after = check(before, limit=0)
    assert [tensor.name for tensor in after.graph.initializer] == ["t"]


def test_constants_of_a_body_are_not_its_outputs():
    text = (
        "(bool c) => (float[1] y) { y = If (c) < then_branch = t () => (float[1] r) <float[1] a = {1}>"
        "{ r = Neg(a) }, else_branch = e () => (float[1] r) <float[1] a = {1}> { b = Neg(a) r = Exp(b) }> }"
    )
    assert list(operators(check(model(text)).graph)) == ["If", "Neg", "Exp"]


def test_a_kind_that_is_blocked_is_left_out():
    before = model("(float[N] x) => (float[N] y) { a = Identity(x) b = Neg(a) c = Neg(b) y = Relu(c) }")
    after, changes = clean_model(before, blocked={"clean:twice"})
    assert list(operators(after.graph)) == ["Neg", "Neg", "Relu"]
    assert [change.key for change in changes] == ["clean:noop"]
    assert changes[0].stage == "cleaned"
    assert changes[0].count == 1
    feeds = {"x": np.ones(2, np.float32)}
    assert run(after, feeds)[0].tolist() == [1, 1]
