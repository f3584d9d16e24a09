"""Biases make up for the rounding of weights, exactly on average over the samples, and only where they are alone."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from folding import Options
from folding.api import fold_model
from folding.verification.ranges import _Averages
from tests.support.inprocess import in_process
from tests.support.lowering import emulated, folded, parsed, ran, random_feeds

RNG = np.random.default_rng(0)
W1, W2 = RNG.standard_normal((8, 4, 1, 1)) / 3, RNG.standard_normal((8, 2, 1, 1)) / 3
M, BIAS = RNG.standard_normal((6, 8)) / 3, RNG.standard_normal(8) / 100  # small, so that its own rounding is
IMAGE, ROWS = "(float[2,4,16,16] x) => (float[2,8,16,16] y)", "(float[256,6] x) => (float[256,8] y)"
GOES = {
    "Conv": (f"{IMAGE} {{ y = Conv(x, w, b) }}", W1),
    "grouped Conv": (f"{IMAGE} {{ y = Conv<group=2>(x, w, b) }}", W2),
    "Gemm": (f"{ROWS} {{ y = Gemm(x, w, b) }}", M),
    "transposed Gemm": (f"{ROWS} {{ y = Gemm<transB=1>(x, w, b) }}", M.T),
    "MatMul and Add": (f"{ROWS} {{ a = MatMul(x, w) y = Add(b, a) }}", M),
}
STAYS = {
    "no bias": (f"{ROWS} {{ y = MatMul(x, w) }}", M),
    "scaled Gemm": (f"{ROWS} {{ y = Gemm<alpha=0.5>(x, w, b) }}", M),
    "two readers of the product": (f"{ROWS} {{ a = MatMul(x, w) c = Add(a, b) y = Mul(c, a) }}", M),
    "two readers of the bias": (f"{ROWS} {{ a = Gemm(x, w, b) c = Relu(a) y = Mul(c, b) }}", M),
    "a bias that is no constant": ("(float[256,6] x, float[8] b) => (float[256,8] y) { y = Gemm(x, w, b) }", M),
}
CHANGE = "biases that make up"


def built(text, weight):
    model = parsed(f"g {text}", w=weight, b=BIAS)
    used = {name for node in model.graph.node for name in node.input} - {one.name for one in model.graph.input}
    for tensor in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(tensor)
    feeds = random_feeds(model)
    return model, feeds | {"x": np.abs(feeds["x"]) + 1}


def mean_error(before, after, feeds):
    """How far the mean of every channel is off, at most; the input is what 16 bits hold."""
    error = ran(emulated(after), feeds)[0].astype(np.float64) - ran(before, feeds)[0]
    return float(np.abs(error.mean(axis=tuple(a for a in range(error.ndim) if a != 1))).max())


@pytest.mark.parametrize("name", GOES)
def test_the_mean_of_a_channel_is_as_it_was(name):
    model, feeds = built(*GOES[name])
    feeds["x"] = feeds["x"].astype(np.float16).astype(np.float32)
    result, report = folded(model, "fp16", feeds)
    with in_process():
        plain, other = fold_model(model, Options(verify=False, precision="fp16"))  # on generated samples
    assert [change.count for change in report.changes if CHANGE in change.kind] == [1]
    assert not any(CHANGE in change.kind for change in other.changes)
    share = 1 if "Add" in name else 1 / 2  # the sum is rounded once more, and small biases get lost in it
    assert mean_error(model, result, feeds) < mean_error(model, plain, feeds) * share
    weights = [{t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (result, plain)]
    assert np.array_equal(weights[0]["w"], weights[1]["w"])
    assert folded(result, "fp16", feeds)[0] == result


@pytest.mark.parametrize("name", STAYS)
def test_what_is_not_a_bias_alone_stays(name):
    model, feeds = built(*STAYS[name])
    _, report = folded(model, "fp16", feeds)
    assert any(change.stage == "lowered" for change in report.changes)
    assert not any(CHANGE in change.kind for change in report.changes)


def test_means_add_up_and_are_finite():
    averages = _Averages([("a", 1), ("a", -1), ("b", 1)])
    averages.add("a", np.array([[1, 2], [3, 6]], np.float32))
    averages.add("a", np.array([[5, 10]], np.float32))
    averages.add("b", np.array([[np.inf, 1]], np.float32))
    averages.add("c", np.zeros((2, 2), np.float32))
    assert averages.found() == [("a", 1, [3.0, 6.0]), ("a", -1, [3.0, 6.0])] or averages.found() == [
        ("a", -1, [3.0, 6.0]),
        ("a", 1, [3.0, 6.0]),
    ]
