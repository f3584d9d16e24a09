"""Two operators of a kind in a row become one, or none; near misses stay."""

from __future__ import annotations

import pytest

from tests.support.ready.cleaning import check, model, operators

X = "(float[2,3,4,4] x) => (float[2,3,4,4] y)"
N = "(float[N,3,4] x)"
GOES = [
    (X + "<int64[2] s = {2,48}, int64[4] t = {2,3,4,4}> { a = Reshape(x, s) b = Reshape(a, t) y = Relu(b) }", "Relu"),
    (
        N + " => (float[N,12] y) <int64[2] s = {-1,4}, int64[2] t = {-1,12}> { a = Reshape(x, s) y = Reshape(a, t) }",
        "Reshape",
    ),
    (
        N + " => (float[N,4,3] y) <int64[2] s = {0,12}, int64[3] t = {0,4,3}> { a = Reshape(x, s) y = Reshape(a, t) }",
        "Reshape",
    ),
    (N + " => (float[N,12] y) <int64[1] i = {1}> { a = Unsqueeze(x, i) y = Flatten(a) }", "Reshape"),
    (N + " => (float[N,3,4] y) <int64[1] i = {1}> { a = Unsqueeze(x, i) b = Squeeze(a, i) y = Relu(b) }", "Relu"),
    (
        "(float[2,1,5] x) => (float[10] y) <int64[1] t = {10}>{ a = Transpose <perm = [1,0,2]> (x) y = Reshape(a, t) }",
        "Reshape",
    ),
    ("(float[1,1,5] x) => (float[1,1,5] y) { a = Transpose <perm = [1,0,2]> (x) y = Relu(a) }", "Relu"),
    (N + " => (float[N,3,4] y) { a = Transpose(x) b = Transpose(a) y = Relu(b) }", "Relu"),
    (N + " => (float[4,N,3] y) { a = Transpose <perm = [1,2,0]> (x) y = Transpose <perm = [1,2,0]> (a) }", "Transpose"),
    (N + " => (float[N,3,4] y) { a = Cast <to = 11> (x) b = Cast <to = 1> (a) y = Relu(b) }", "Relu"),
    ("(float16[N] x) => (double[N] y) { a = Cast <to = 1> (x) y = Cast <to = 11> (a) }", "Cast"),
    ("(uint8[N] x) => (float[N] y) { a = Cast <to = 6> (x) y = Cast <to = 1> (a) }", "Cast"),
    ("(bool[N] x) => (float[N] y) { a = Cast <to = 7> (x) y = Cast <to = 1> (a) }", "Cast"),
    (N + " => (float[N,3,4] y) { a = Relu(x) y = Relu(a) }", "Relu"),
    (N + " => (float[N,3,4] y) <float l = {0}, float h = {6}> { a = Clip(x, l, h) y = Relu(a) }", "Clip"),
    (N + " => (float[N,3,4] y) <float l = {0}, float h = {6}> { a = Relu(x) y = Clip(a, l, h) }", "Clip"),
    (N + " => (float[N,3,4] y) { a = Neg(x) b = Neg(a) y = Relu(b) }", "Relu"),
    ("(bool[N] x) => (bool[N] y) { a = Not(x) b = Not(a) y = Not(b) }", "Not"),
    (
        (
            "(float[2,3] x) => (float[5,6] y) <int64[4] p = {1,2,0,1}, int64[4] q = {0,0,2,0}>"
            "{ a = Pad(x, p) y = Pad(a, q) }"
        ),
        "Pad",
    ),
    ("(float[2,3] x) => (float[6,3] y) { a = Concat <axis = 0> (x, x) y = Concat <axis = -2> (a, x) }", "Concat"),
]
GOES += [
    (
        "(int64[1,2,40,40] x) => (int64[1,2,40,40] y) <int64[2,1] c = {3,4}, int64[3] t = {2,40,40}, int64[1] a = {0}>"
        "{ d = Reshape(c, r) e = Expand(d, t) f = Unsqueeze(e, a) y = Add(x, f) }".replace(
            "c = {3,4}", "c = {3,4}, int64[3] r = {2,1,1}"
        ),
        "Expand Add",
    ),
]
STAYS = [
    (
        (
            "(int64[1,2,40,40] x, int64[2,1,1] d) => (int64[1,2,40,40] y) <int64[3] t = {2,40,40}, int64[1] a = {0}>"
            "{ e = Expand(d, t) f = Unsqueeze(e, a) y = Add(x, f) }"
        ),
        "Expand Unsqueeze Add",
    ),
    (
        N + " => (float[N,12] y, float[M,4] a) <int64[2] s = {-1,4}, int64[2] t = {-1,12}>"
        "{ a = Reshape(x, s) y = Reshape(a, t) }",
        "Reshape Reshape",
    ),  # the first result is an output
    ("(float[N,M] x) => (float[M,N] y) <int64[1] s = {-1}> { t = Transpose(x) y = Relu(t) }", "Transpose Relu"),
    (
        N + " => (float[N,3,4] y) { a = Transpose(x) b = Relu(a) c = Neg(a) d = Transpose(b) y = Transpose(c) }",
        "Neg",
    ),
    (N + " => (float[N,3,4] y) { a = Cast <to = 10> (x) b = Cast <to = 1> (a) y = Relu(b) }", "Cast Cast Relu"),
    ("(float[N] x) => (float[N] y) { a = Cast <to = 7> (x) b = Cast <to = 1> (a) y = Relu(b) }", "Cast Cast Relu"),
    ("(int64[N] x) => (int32[N] y) { a = Cast <to = 1> (x) y = Cast <to = 6> (a) }", "Cast Cast"),
    ("(int16[N] x) => (uint8[N] y) { a = Cast <to = 1> (x) y = Cast <to = 2> (a) }", "Cast Cast"),
    (N + " => (float[N,3,4] y) <float l = {-1}, float h = {6}> { a = Clip(x, l, h) y = Relu(a) }", "Clip Relu"),
    (N + " => (float[N,3,4] y) <float l = {2}, float h = {1}> { a = Clip(x, l, h) y = Relu(a) }", "Clip Relu"),
    ("(float[N] x, float h) => (float[N] y) <float l = {0}> { a = Clip(x, l, h) y = Relu(a) }", "Clip Relu"),
    (
        (
            "(float[2,3] x) => (float[2,2] y) <int64[4] p = {1,0,0,0}, int64[4] q = {-1,-1,0,0}>"
            "{ a = Pad(x, p) y = Pad(a, q) }"
        ),
        "Pad Pad",
    ),
    (
        "(float[2,3] x) => (float[4,3] y) <int64[4] p = {1,0,0,0}, float v = {1}>{ a = Pad(x, p) y = Pad(a, p, v) }",
        "Pad Pad",
    ),
    (
        (
            "(float[2,3] x) => (float[6,3] y) <int64[4] p = {1,0,0,0}, int64[4] q = {2,0,1,0}>"
            '{ a = Pad(x, p) y = Pad <mode = "reflect"> (a, q) }'
        ),
        "Pad Pad",
    ),
    ("(float[2,2] x) => (float[4,4] y) { a = Concat <axis = 0> (x, x) y = Concat <axis = 1> (a, a) }", "Concat Concat"),
]


@pytest.mark.parametrize(("text", "left"), GOES + STAYS)
def test_what_is_left(text, left):
    assert " ".join(operators(check(model(text)).graph)) == left
