"""Transposes cancel through elementwise operators, where fewer are left."""

from __future__ import annotations

import pytest

from tests.support.ready.cleaning import check, model, operators

N = "(float[N,3,4] x) => (float[N,3,4] y)"
TO, BACK = "Transpose <perm = [0,2,1]>", "Transpose <perm = [0,2,1]>"
ROWS = [
    (N + f"{{ a = {TO}(x) b = Relu(a) y = {BACK}(b) }}", "Relu"),
    (N + f"<float k = {{2}}> {{ a = {TO}(x) b = Mul(a, k) c = Sigmoid(b) y = {BACK}(c) }}", "Mul Sigmoid"),
    (N + f"<float[3] k = {{1,2,3}}> {{ a = {TO}(x) b = Add(k, a) y = {BACK}(b) }}", "Add"),
    (N + f"<float[4,1] k = {{1,2,3,4}}> {{ a = {TO}(x) b = Sub(k, a) y = {BACK}(b) }}", "Sub"),
    (N + f"{{ a = {TO}(x) b = Sigmoid(a) c = Mul(a, b) y = {BACK}(c) }}", "Sigmoid Mul"),
    (
        "(float[N,3,4] x, float[N,3,4] z) => (float[N,4,3] y)" + f"{{ a = {TO}(x) b = {TO}(z) y = Add(a, b) }}",
        "Add Transpose",
    ),
    (
        f"(float[N,3,4] x) => (float[N,3,4] y, float[N,4,3] z){{ a = {TO}(x) b = Relu(a) y = {BACK}(b) z = Neg(b) }}",
        "Relu Neg Transpose",
    ),
    (
        (
            "(float[2,3,4] x) => (float[2,3,4] y) { a = Transpose <perm = [2,0,1]> (x) b = Relu(a)"
            " y = Transpose <perm = [1,2,0]> (b) }"
        ),
        "Relu",
    ),
    # near misses: nothing is gained, or the region ends
    (N.replace("N,3,4] y", "N,4,3] y") + f"{{ a = {TO}(x) y = Relu(a) }}", "Transpose Relu"),
    (
        (
            "(float[2,3,4] x) => (float[3,4,2] y) { a = Transpose <perm = [2,0,1]> (x) b = Relu(a)"
            " y = Transpose <perm = [2,0,1]> (b) }"
        ),
        "Transpose Relu Transpose",
    ),
    (N + f"{{ a = {TO}(x) b = Softmax <axis = 1> (a) y = {BACK}(b) }}", "Transpose Softmax Transpose"),
    (
        "(float[N,3,4] x, float[N,4,3] z) => (float[N,3,4] y)" + f"{{ a = {TO}(x) b = Add(a, z) y = {BACK}(b) }}",
        "Transpose Add Transpose",
    ),
    (
        (
            "(float[N,3,4] x) => (float[N,3,4] y, float[N,4,3] z, float[N,4,3] a)"
            f"{{ a = {TO}(x) b = Relu(a) y = {BACK}(b) z = Neg(b) }}"
        ),
        "Transpose Relu Transpose Neg",
    ),
]


@pytest.mark.parametrize(("text", "left"), ROWS)
def test_what_is_left(text, left):
    assert " ".join(operators(check(model(text)).graph)) == left
