"""Operators that equal their input go; near misses stay."""

from __future__ import annotations

import pytest
from onnx import parser

from folding import Options, fold_model
from tests.support.ready.cleaning import check, model, operators

X = "(float[2,3,4,4] x) => (float[2,3,4,4] y)"
# The graph, the opset, and the operators that are left.
GOES = [
    (X + "{ a = Identity(x) y = Relu(a) }", 17, "Relu"),
    (X + "{ a = Relu(x) y = Identity(a) }", 17, "Relu"),
    (X + "{ a = Dropout(x) y = Relu(a) }", 17, "Relu"),
    (X + "<float r = {0.5}, bool t = {0}> { a, m = Dropout(x, r, t) y = Relu(a) }", 17, "Relu"),
    (X + "{ a = Dropout <is_test = 1> (x) y = Relu(a) }", 6, "Relu"),
    (X + "{ a = Cast <to = 1> (x) y = Relu(a) }", 17, "Relu"),
    (X + "{ a = Concat <axis = 1> (x) y = Relu(a) }", 17, "Relu"),
    (X + "{ a = Sum(x) b = Max(a) c = Min(b) d = Mean(c) y = Relu(d) }", 17, "Relu"),
    (X + "<int64[1] s = {3}> { a = Split <axis = 1> (x, s) y = Relu(a) }", 17, "Relu"),
    (X + "{ a = Transpose <perm = [0,1,2,3]> (x) y = Relu(a) }", 17, "Relu"),
    (X + "<int64[8] p = {0,0,0,0,0,0,0,0}> { a = Pad(x, p) y = Relu(a) }", 17, "Relu"),
    (X + "{ a = Pad <pads = [0,0,0,0,0,0,0,0]> (x) y = Relu(a) }", 10, "Relu"),
    (
        X + "<int64[2] s = {0,-4}, int64[2] e = {3,9223372036854775807}, int64[2] a = {1,3}>"
        "{ b = Slice(x, s, e, a) y = Relu(b) }",
        17,
        "Relu",
    ),
    (X + "<int64[4] s = {2,3,4,4}> { a = Reshape(x, s) y = Relu(a) }", 17, "Relu"),
    (X + "<int64[4] s = {0,-1,4,4}> { a = Reshape(x, s) y = Relu(a) }", 17, "Relu"),
    (X + "<int64[4] s = {1,1,4,1}> { a = Expand(x, s) y = Relu(a) }", 17, "Relu"),
    (X + "<int64[4] s = {1,1,1,1}> { a = Tile(x, s) y = Relu(a) }", 17, "Relu"),
    ("(float[2,3] x) => (float[2,3] y) { a = Flatten(x) y = Relu(a) }", 17, "Relu"),
    ("(float[N,3,1,1] x) => (float[N,3,1,1] y) { a = ReduceMean <axes = [2,3]> (x) y = Relu(a) }", 17, "Relu"),
    ("(float[N,3] x) => (float[N,3] y) { a = ReduceSum <noop_with_empty_axes = 1> (x) y = Relu(a) }", 17, "Relu"),
    ("(float[N,3,1,1] x) => (float[N,3,1,1] y) { a = GlobalAveragePool(x) y = Relu(a) }", 17, "Relu"),
    (X + "{ a = AveragePool <kernel_shape = [1,1]> (x) y = Relu(a) }", 17, "Relu"),
    (X + '<float[4] s = {1,1,1,1}> { a = Resize <mode = "linear"> (x, , s) y = Relu(a) }', 17, "Relu"),
    (X + "<int64[4] s = {2,3,4,4}> { a = Resize (x, , , s) y = Relu(a) }", 17, "Relu"),
    (X + "<float one = {1}> { a = Mul(one, x) b = Div(a, one) y = Relu(b) }", 17, "Relu"),
    (X + "<float[1,3,1,1] ones = {1,1,1}> { a = Mul(x, ones) y = Relu(a) }", 17, "Relu"),
    (X + "<float zero = {0}> { a = Sub(x, zero) y = Relu(a) }", 17, "Relu"),
    (X + "<float zero = {-0.0}> { a = Add(x, zero) y = Neg(a) }", 17, "Neg"),
    ("(int32[N] x) => (int32[N] y) <int32 zero = {0}> { a = Add(zero, x) y = Neg(a) }", 17, "Neg"),
    (X + "<float one = {1}> { a = Pow(x, one) y = Relu(a) }", 17, "Relu"),
    ("(bool[N] x) => (bool[N] y) <bool t = {1}, bool f = {0}> { a = And(x, t) b = Or(f, a) y = Not(b) }", 17, "Not"),
    (X + "<bool[1] c = {1}> { a = Neg(x) b = Where(c, a, x) y = Relu(b) }", 17, "Neg Relu"),
    (X + "<bool[1] c = {0}> { a = Neg(x) b = Where(c, a, x) y = Relu(b) }", 17, "Relu"),
]
STAYS = [
    (X + "{ y = Identity(x) }", 17, "Identity"),  # an output must not be an input
    ("(float[N] x) => (float[N] y, float[N] z) { y = Relu(x) z = Identity(y) }", 17, "Relu Identity"),
    (X + "<float r = {0.5}, bool t = {1}> { a = Dropout <seed = 1> (x, r, t) y = Mul(a, x) }", 17, "Dropout Mul"),
    ("(float[N] x) => (float[N] y, bool[N] m) { a, m = Dropout(x) y = Relu(a) }", 17, "Dropout Relu"),
    ("(float[N] x) => (double[N] y) { a = Cast <to = 11> (x) y = Relu(a) }", 17, "Cast Relu"),
    (X + "{ a = Transpose <perm = [0,1,3,2]> (x) y = Relu(a) }", 17, "Transpose Relu"),
    (
        X + "{ a = Concat <axis = 1> (x, x) b = Slice <axes = [1], starts = [0], ends = [3]> (a) y = Relu(b) }",
        9,
        "Concat Slice Relu",
    ),
    (
        (
            "(float[2,4] x) => (float[2,3] y) <int64[1] s = {0}, int64[1] e = {-1}, int64[1] a = {1}>"
            "{ b = Slice(x, s, e, a) y = Relu(b) }"
        ),
        17,
        "Slice Relu",
    ),
    (
        (
            "(float[N,4] x) => (float[M,4] y) <int64[1] s = {0}, int64[1] e = {2}, int64[1] a = {0}>"
            "{ b = Slice(x, s, e, a) y = Relu(b) }"
        ),
        17,
        "Slice Relu",
    ),
    (
        (
            "(float[2,4] x) => (float[2,4] y) <int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {1}, int64[1] t = {-1}>"
            "{ b = Slice(x, s, e, a, t) y = Relu(b) }"
        ),
        17,
        "Slice Relu",
    ),
    ("(float[3] x) => (float[2,3] y) <float[2,1] ones = {1,1}> { a = Mul(x, ones) y = Relu(a) }", 17, "Mul Relu"),
    ("(float[N] x) => (float[1,N] y) <float[1,1] one = {1}> { a = Mul(x, one) y = Relu(a) }", 17, "Mul Relu"),
    ("(float[N] x) => (float[N] y) <float one = {1}> { y = Div(one, x) }", 17, "Div"),
    ("(float[N] x) => (float[N] y) <float zero = {0}> { a = Add(x, zero) y = Reciprocal(a) }", 17, "Add Reciprocal"),
    ("(float[N] x) => (float[N] y) <float zero = {0}> { y = Sub(zero, x) }", 17, "Sub"),
    ("(float[N] x, float one = {1}) => (float[N] y) { a = Mul(x, one) y = Relu(a) }", 17, "Mul Relu"),
    (
        "(float[N,3,2,1] x) => (float[N,3,1,1] y) { a = ReduceMean <axes = [2,3]> (x) y = Relu(a) }",
        17,
        "ReduceMean Relu",
    ),
    (
        "(float[N,3,1] x) => (float[N,3] y) { a = ReduceMean <axes = [2], keepdims = 0> (x) y = Relu(a) }",
        17,
        "ReduceMean Relu",
    ),
    ("(float[N,1] x) => (float[N,1] y) { a = ReduceL2 <axes = [1]> (x) y = Relu(a) }", 17, "ReduceL2 Relu"),
    (
        "(float[2,3,4,4] x) => (float[2,3,2,2] y) { a = AveragePool <kernel_shape = [1,1], strides = [2,2]> (x) y = Relu(a) }",
        17,
        "AveragePool Relu",
    ),
    (
        "(float[1,1,4,4] x) => (float[1,1,8,8] y) <float[4] s = {1,1,2,2}> { a = Resize(x, , s) y = Relu(a) }",
        17,
        "Resize Relu",
    ),
    (
        (
            "(float[N,3] x, float[M,3] z) => (float[N,3] y)"
            "<int64[1] i = {0}, int64[1] n = {3}> { s = Shape(z) b = Gather(s, i) t = Concat <axis = 0> (b, n)"
            " a = Expand(x, t) y = Relu(a) }"
        ),
        17,
        "Shape Gather Concat Expand Relu",
    ),
    (
        "(float[3] x) => (float[2,3] y) <bool[2,1] c = {1,1}> { a = Neg(x) b = Where(c, a, x) y = Relu(b) }",
        17,
        "Neg Where Relu",
    ),
]


@pytest.mark.parametrize(("text", "opset", "left"), GOES + STAYS)
def test_what_is_left(text, opset, left):
    after = check(model(text, opset), runs=opset > 6)  # ONNX Runtime has no older Dropout
    assert " ".join(operators(after.graph)) == left


def test_a_cast_of_an_unknown_type_stays():
    """NumPy takes None for float64, so a comparison with an unknown type would be true."""
    text = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
    g (float[3] x) => (double[3] y) { a = mine.Own(x) b = Cast <to = 11> (a) y = Relu(b) }"""
    after, _ = fold_model(parser.parse_model(text), Options(clean=True, verify=False))
    assert [node.op_type for node in after.graph.node] == ["Own", "Cast", "Relu"]
