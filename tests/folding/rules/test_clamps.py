"""Clamps: the laws of `Clamp`, bounds as attributes, what `--clamp` allows, DenseNet without a normalization."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding import OptionError, Options
from folding.algebra.affine import Affine
from folding.algebra.clamp import Clamp
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.clamps import clip, scalar
from tests.support.rows.row import Kept, into, judge, out, start

ALWAYS = Options(verify=False, clamp="always")
NUMBERS = st.floats(-4, 4, width=32) | st.sampled_from([0.0, 1.0, -1.0])
X = np.linspace(-20, 20, 201).reshape(-1, 1) * np.ones(3)


def apply(clamp: Clamp, x: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(x, clamp.lower), clamp.upper)


@st.composite
def clamps(draw: st.DrawFn) -> Clamp:
    pairs = [sorted((draw(NUMBERS | st.just(-np.inf)), draw(NUMBERS | st.just(np.inf)))) for _ in range(3)]
    return Clamp.of(*np.array(pairs).T[:, None, :])


AFFINES = st.builds(
    lambda s, t: Affine.of(np.array(s)[None], np.array(t)[None]),
    st.lists(NUMBERS.filter(lambda n: n == 0 or abs(n) > 1e-3), min_size=3, max_size=3),
    st.lists(NUMBERS, min_size=3, max_size=3),
)


@given(clamps(), AFFINES)
def test_a_clamp_follows(clamp, a):
    np.testing.assert_allclose(apply(clamp.following(a), a(X)), a(apply(clamp, X)), rtol=1e-9, atol=1e-9)


@given(clamps(), AFFINES)
def test_a_clamp_precedes(clamp, a):
    before, after = clamp.preceding(a)
    np.testing.assert_allclose(after(apply(before, X)), apply(clamp, a(X)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (0.0, np.inf, ("Relu",)),
        (-1.0, np.inf, ("Clip",)),
        (0.0, 6.0, ("Clip",)),
        (-np.inf, np.inf, ("Clip",)),
        ([0.0, 1.0], np.inf, ("Max",)),
        (-np.inf, [0.0, np.inf], ("Min",)),
        ([0.0, 1.0], 6.0, ("Max", "Min")),
        ([0.0, -np.inf], [np.inf, 0.0], ("Max", "Min")),
    ],
)
def test_operators(lower, upper, expected):
    assert Clamp.of(lower, upper).operators == expected


@pytest.mark.parametrize("opset", [6, 7, 10, 11, 12])
@pytest.mark.parametrize(("attributes", "behind"), [({"min": -0.5}, True), ({"max": 0.5}, False), ({}, True)])
def test_bounds_of_clip_in_every_operator_set(opset, attributes, behind):
    m = Model(opset, np.float32, ir=4)
    x = m.conv(start(m), 3)
    bounds = [m.constant(np.array(attributes[n])) if n in attributes else "" for n in ("min", "max")]
    x = m.op("Clip", x, **attributes) if opset < 11 else m.op("Clip", x, *(bounds if attributes else []))
    out(m, scalar(m, "Mul", x, -2.0) if opset >= 7 else m.op("Neg", x, name=SITE))
    before = m.build()
    after, report = fold(before)
    judge(report.outcomes[0], into("Conv", *["Clip"] * len(attributes)), {n.name: n.op_type for n in after.graph.node})
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_relu_becomes_clip_with_attributes():
    m = Model(10, np.float32)
    out(m, scalar(m, "Add", m.op("Relu", m.conv(start(m), 3)), 2.0))
    after, _ = fold(m.build())
    (node,) = [n for n in after.graph.node if n.op_type == "Clip"]
    assert [(a.name, a.f) for a in node.attribute] == [("min", 2.0)]
    assert len(node.input) == 1


def test_bounds_per_channel_need_broadcasting():
    m = Model(7)
    out(m, m.per_channel("Add", m.op("Relu", m.conv(start(m), 3))))
    _, report = fold(m.build(), ALWAYS)
    judge(report.outcomes[0], Kept("old-opset", "barrier"), {})


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=str)
def test_no_bound_is_the_largest_number_of_the_type(dtype):
    m = Model(17, dtype)
    out(m, m.bn(m.op("Relu", m.conv(start(m), 3)), gamma=(1.0, -1.0, 2.0)))
    before = m.build()
    after, _ = fold(before, ALWAYS)
    bounds = {n.op_type: n.input[1] for n in after.graph.node if n.op_type in {"Max", "Min"}}
    values = {t.name: onnx.numpy_helper.to_array(t).reshape(-1).astype(np.float64) for t in after.graph.initializer}
    info = ml_dtypes.finfo(dtype)
    assert values[bounds["Max"]][1] == float(info.min)
    assert values[bounds["Min"]][0] == values[bounds["Min"]][2] == float(info.max)
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_a_bound_that_does_not_fit_its_type_keeps_the_site():
    m = Model(17, np.float16)
    gamma = np.array([1e-7, 1.0, 1.0, 1.0])
    out(m, m.conv(m.op("Relu", m.bn(start(m), gamma=gamma)), 3, kernel=1))
    _, report = fold(m.build(), ALWAYS)
    assert {o.node: o.status for o in report.outcomes}[SITE] == "kept"


def test_a_dense_block_is_left_without_normalization():
    """Concat -> BN -> Relu -> Conv, each value read by many: every released tool leaves half of these."""
    m = Model(17, np.float32)
    features = [m.conv(m.x(2, 4, 5, 6), 4, kernel=1)]
    for layer in range(3):
        joined = m.op("Concat", *features, axis=1) if len(features) > 1 else features[0]
        y = m.conv(m.op("Relu", m.bn(joined, name=f"first{layer}")), 8, kernel=1)
        features.append(m.conv(m.op("Relu", m.bn(y, name=f"second{layer}")), 4, pads=[1] * 4))
    y = m.op("Relu", m.bn(m.op("Concat", *features, axis=1), name="last"))
    m.op("Gemm", m.op("Flatten", m.conv(y, 3, kernel=(5, 6))), m.constant((3, 2)))
    before = m.build()
    _, default = fold(before)
    after, report = fold(before, ALWAYS)
    assert (default.bn_after, report.bn_after) == (4, 0)
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_a_clip_read_by_two_keeps_its_shared_bound():
    m = Model()
    x = start(m)
    low = m.constant(np.array(-0.5))
    first = m.op("Clip", m.conv(x, 3), low)
    m.op("Concat", out(m, scalar(m, "Mul", first, 3.0)), out(m, m.op("Clip", m.conv(x, 3), low)), axis=1)
    before = m.build()
    after, report = fold(before)
    assert report.changed
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_the_option_is_checked():
    with pytest.raises(OptionError, match="never, always"):
        Options(clamp="sometimes")  # type: ignore[arg-type]
    assert NO_VERIFY.clamp == "auto"


def test_unused_bound_constants_go():
    m = Model()
    out(m, scalar(m, "Div", clip(m, m.conv(start(m), 3), 0.0, 6.0), 6.0))
    after, _ = fold(m.build())
    read = {name for node in after.graph.node for name in node.input}
    assert {t.name for t in after.graph.initializer} <= read


def test_the_report_says_how_many_clamps_changed():
    m = Model()
    out(m, m.conv(m.op("Relu", m.bn(start(m), gamma=1.0)), 3))
    _, report = fold(m.build(), ALWAYS)
    assert report.notes == ("1 Relu or Clip became Max or Min, with a bound for every channel",)
