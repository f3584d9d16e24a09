"""Angles of positions and of large numbers stay in float32 as a whole; others become 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from folding.verification.ranges import Range
from tests.support.lowering import FLOAT, HALF, assert_close, lowered, parsed, types

M8 = np.random.default_rng(1).standard_normal((8, 8)) / 3
TURNS = 10000.0 ** -np.linspace(0, 1, 8)
POSITIONS = np.arange(2000, 2020).reshape(1, 20)
X = np.random.default_rng(2).standard_normal((1, 20, 8)).astype(np.float32)
ROTARY = "g (float[1,20,8] x, int64[1,20] p) => (float[1,20,8] y) {{ {} c = Cos(f) s = Sin(f) \
    a = MatMul(x, w) b = Mul(a, c) d = Mul(a, s) e = MatMul(b, w) h = MatMul(d, w) y = Add(e, h) }}"


@pytest.mark.parametrize(
    "way",
    [
        "q = Unsqueeze(p, last) r = Cast<to=1>(q) f = Mul(r, turns)",
        "r = Cast<to=1>(p) q = Unsqueeze(r, last) row = Unsqueeze(turns, zero) f = MatMul(q, row)",
        'r = Cast<to=1>(p) f = Einsum<equation="bt,i->bti">(r, turns)',
    ],
)
@pytest.mark.parametrize("precision", ["fp16", "mixed", "bf16"])
def test_positions_stay_exact_up_to_the_sine(way, precision):
    names = {"last": np.array([2]), "zero": np.array([0]), "turns": TURNS, "w": M8}
    model = parsed(ROTARY.format(way), **{name: value for name, value in names.items() if name in way or name == "w"})
    m, outcome = lowered(model, precision)
    known = types(m)
    assert known["f"] == known["r"] == FLOAT
    assert known["w"] != FLOAT
    if precision != "bf16":  # of which operator set 17 has no Cos
        assert {one.reason for one in outcome.nodes if one.op in {"Cos", "Sin"}} == {
            "'f' is an angle, which float16 would blur"
        }
        assert_close(model, m, {"x": X, "p": POSITIONS})


DATA = "g (float[2,8] x) => (float[2,8] y) { a = MatMul(x, w) t = Tanh(a) b = Mul(t, k) s = Sin(b) y = MatMul(s, w) }"


@pytest.mark.parametrize(("largest", "kind"), [(100.0, HALF), (200.0, FLOAT)])
def test_angles_of_data_stay_exact_where_the_samples_show_large_ones(largest, kind):
    shown = {"b": Range(largest=largest, smallest=0.1, highest=largest)}
    m, _ = lowered(parsed(DATA, w=M8, k=np.array([2.0])), ranges=shown)
    known = types(m)
    assert known["s"] in {kind, FLOAT}
    assert known["b"] == kind


def test_coordinates_that_are_inputs_stay_exact():
    text = "g (float[2,8] x) => (float[2,8] y) { b = Mul(x, k) s = Sin(b) y = MatMul(s, w) }"
    m, _ = lowered(parsed(text, w=M8, k=np.array([1608.5])))
    assert types(m)["b"] == FLOAT


def test_what_a_loop_carries_is_no_position():
    text = """g (float[2,8] x, int64 n) => (float[2,8] y) { z = Loop(n, , x) <body = b (int64 i, bool c, float[2,8] u)
        => (bool d, float[2,8] v) { d = Identity(c) q = MatMul(u, w) v = Sin(q) }> y = MatMul(z, w) }"""
    m, _ = lowered(parsed(text, w=M8))
    assert next(tensor.data_type for tensor in m.graph.initializer if tensor.name == "w") == HALF
