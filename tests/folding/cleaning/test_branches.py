"""An If whose condition is known becomes the branch that it takes; names stay unique, outputs keep theirs."""

from __future__ import annotations

import pytest

from tests.support.ready.cleaning import check, model, operators

BOTH = """If (c) <
    then_branch = t () => (float[N] r) <float[1] two = {2}> { s = Mul(x, two) r = Relu(s) },
    else_branch = e () => (float[N] r) { s = Neg(x) r = Exp(s) }
>"""
X = "(float[N] x) => (float[N] y)"
ROWS = [
    (X + f"<bool c = {{1}}> {{ y = {BOTH} }}", "Mul Relu"),
    (X + f"<bool[1] c = {{0}}> {{ y = {BOTH} }}", "Neg Exp"),
    (X + f"<bool c = {{1}}> {{ q = {BOTH} y = Abs(q) }}", "Mul Relu Abs"),
    (X + f"<bool c = {{1}}> {{ p = Abs(x) q = {BOTH} y = Add(q, p) }}", "Abs Mul Relu Add"),
    (X + f"<bool c = {{1}}> {{ p = {BOTH} q = {BOTH} y = Add(p, q) }}", "Mul Relu Add"),  # equal ones are computed once
    (
        (
            "(float[N] x) => (float[N] y, float[N] z) <bool c = {1}> { y, z = If (c) <"
            "then_branch = t () => (float[N] r, float[N] s) { r = Relu(x) s = Identity(r) },"
            "else_branch = e () => (float[N] r, float[N] s) { r = Neg(x) s = Exp(x) }> }"
        ),
        "Relu Identity",
    ),
    (
        X + "<bool c = {1}, bool d = {0}> { y = If (c) < then_branch = t () => (float[N] r) { r = If (d) <"
        "then_branch = tt () => (float[N] q) { q = Exp(x) }, else_branch = te () => (float[N] q) { q = Neg(x) }> },"
        "else_branch = e () => (float[N] r) { r = Abs(x) } > }",
        "Neg",
    ),
    (
        (
            "(float[N] x, bool d) => (float[N] y) <bool c = {1}> { y = If (c) < then_branch = t () => (float[N] r)"
            "{ a = Sqrt(x) r = If (d) < then_branch = tt () => (float[N] q) { q = Exp(a) },"
            "else_branch = te () => (float[N] q) { q = Neg(a) }> }, else_branch = e () => (float[N] r) { r = Abs(x) } > }"
        ),
        "Sqrt If Exp Neg",
    ),
    (
        (
            "(float[N,1] x) => (float[N] y) <int64[1] i = {1}> { s = Shape(x) n = Gather(s, i) c = Equal(n, i)"
            " y = If (c) < then_branch = t () => (float[N] r) <int64[1] a = {1}> { r = Squeeze(x, a) },"
            "else_branch = e () => (float[N] r) <int64[1] a = {1}> { r = ReduceSum <keepdims = 0> (x, a) }> }"
        ),
        "Squeeze",
    ),
    ("(float[N] x, bool c) => (float[N] y) { y = " + BOTH + " }", "If Mul Relu Neg Exp"),
    (
        "(float[N] x, bool c = {1}) => (float[N] y) { y = " + BOTH + " }",
        "If Mul Relu Neg Exp",
    ),
    (
        X + "<bool c = {1}> { s = Abs(x) y = If (c) < then_branch = t () => (float[N] r) { r = Mul(s, x) },"
        "else_branch = e () => (float[N] r) { r = Neg(x) }> }",
        "Abs Mul",
    ),
]


@pytest.mark.parametrize(("text", "left"), ROWS)
def test_what_is_left(text, left):
    assert " ".join(operators(check(model(text)).graph)) == left


def test_a_kept_operator_inside_stays():
    before = model(X + f"<bool c = {{1}}> {{ y = {BOTH} }}")
    before.graph.node[0].attribute[0].g.node[0].name = "mine"
    after = check(before, keeps=lambda name: name == "mine")
    assert after.graph.node[0].op_type == "If"
