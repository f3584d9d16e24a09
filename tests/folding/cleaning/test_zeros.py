"""x + 0 goes where nothing distinguishes -0 from 0."""

from __future__ import annotations

import pytest

from tests.support.ready.cleaning import check, clean_model, model, operators

N = "(float[N,3] x) => (float[N,3] y) <float[3] z = {0,0,0}, float c = {0.5}, float p = {2}, float m = {-1}>"
# An attention may have no mask.
MASKED = "{ a = MatMul(q, k) b = Mul(a, c) d = Add(b, z) y = Softmax(d) }"
ROWS = [
    (N + "{ a = Add(x, z) y = Relu(a) }", "Relu"),
    (N + "{ a = Relu(x) y = Add(z, a) }", "Relu"),
    (N + "{ a = Add(x, z) b = Pow(a, p) d = Add(b, c) e = Sqrt(d) y = Div(a, e) }", "Pow Add Sqrt Div"),
    (N + "{ a = Add(x, z) b = Exp(a) y = Reciprocal(b) }", "Exp Reciprocal"),
    (
        "(float[2,3,4] q, float[2,4,3] k) => (float[2,3,3] y) <float c = {0.5}, float[3] z = {0,0,0}> " + MASKED,
        "MatMul Mul Softmax",
    ),
    # something distinguishes them
    (N + "{ a = Add(x, z) y = Reciprocal(a) }", "Add Reciprocal"),
    (N + "{ a = Add(x, z) b = Neg(a) y = Div(c, b) }", "Add Neg Div"),
    (N + "{ a = Add(x, z) b = Mul(a, c) d = Transpose(b) e = Transpose(d) y = Pow(e, m) }", "Add Mul Pow"),
    (N + "{ a = Add(x, z) y = local.Custom(a) }", "Add Custom"),
    (
        N + "{ a = Add(x, z) s = ReduceMax <keepdims = 0> (x) k = Greater(s, c) y = If (k) <"
        "then_branch = f () => (float[N,3] r) { r = Reciprocal(a) }, else_branch = e () => (float[N,3] r) { r = Exp(a) }> }",
        "Add ReduceMax Greater If Reciprocal Exp",
    ),
    ("(float[3] x) => (float[2,3] y) <float[2,3] z = {0,0,0,0,0,0}> { a = Add(x, z) y = Relu(a) }", "Add Relu"),
]


# As T5 counts distances: the logarithm of 0 as a whole number, which no standard defines.
BUCKET = "n = Log(z) i = Cast <to = 7> (n) f = Cast <to = 1> (i)"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (N + f"{{ {BUCKET} y = Add(x, f) }}", "Cast Cast Add"),
        (
            N + f"{{ {BUCKET} a = Add(x, z) b = Add(a, f) d = Pow(b, f) y = Reciprocal(d) }}",
            "Cast Cast Add Add Pow Reciprocal",
        ),
    ],
)
def test_a_constant_that_cannot_be_computed_is_no_zero(text, left):
    after, _ = clean_model(model(text))
    assert " ".join(operators(after.graph)) == left


@pytest.mark.parametrize(("text", "left"), ROWS)
def test_what_is_left(text, left):
    assert " ".join(operators(check(model(text), runs="local" not in text).graph)) == left
