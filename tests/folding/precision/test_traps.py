"""What users of released converters met, first half: values. Each model must come out valid, finite and right.

The number in the name of a test is that of its trap, here or in `test_traps_structure`.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folding.precision import ranges
from tests.folding.precision import test_traps_structure as structure
from tests.support.lowering import (
    FLOAT,
    HALF,
    assert_close,
    casts,
    computed_in,
    counted,
    folded,
    lowered,
    parsed,
    ran,
    random_feeds,
    settled,
    types,
)

W4 = np.random.default_rng(0).standard_normal((4, 4, 3, 3)) / 6
M4 = np.random.default_rng(1).standard_normal((4, 4)) / 2
LOWEST = float(np.finfo(np.float16).min)
LOWEST_FLOAT = -float(np.finfo(np.float32).max)
CONV = "x1 = Conv<pads=[1,1,1,1]>(x, w)"
SCALES = np.array([1, 1, 2, 2], np.float32)


def test_01_casts_from_integers_and_masks():
    m = settled("""g (int64[2,4] i, bool[2,4] k, float[2,4] x) => (float[2,4] y) {
        a = Cast<to=1>(i) b = MatMul(a, w) f = Cast<to=1>(k) c = Mul(b, f) d = MatMul(c, w) e = Add(d, x)
        y = MatMul(e, w) }""",
                w=M4)  # fmt: skip
    assert counted(m)["Cast"] == 4
    assert {a.i for n in m.graph.node if n.op_type == "Cast" for a in n.attribute} == {FLOAT, HALF}


def test_01_casts_between_floats_follow():
    settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Cast<to=1>(a) y = MatMul(b, w) }", w=M4)
    settled("g (float[2,4] x, double[1] d) => (float[2,4] y) { a = MatMul(x, w) e = Cast<to=1>(d) b = Mul(a, e) "
            "y = MatMul(b, w) }", w=M4)  # fmt: skip


def test_01_a_cast_inside_a_branch():
    m = settled("""g (float[2,4] x, int64[2,4] i, bool c) => (float[2,4] y) {
        a = MatMul(x, w)
        b = If(c) <then_branch = t () => (float[2,4] p) { q = Cast<to=1>(i) r = MatMul(q, w) p = Add(r, a) },
                   else_branch = e () => (float[2,4] s) { s = MatMul(a, w) }>
        y = MatMul(b, w) }""", feeds=None, w=M4)  # fmt: skip
    assert casts(m) == 3  # x, the integers' own one, y


def test_01_cast_like_follows_its_type():
    settled("g (float[2,4] x, int64[2,4] i) => (float[2,4] y) { a = MatMul(x, w) b = CastLike(i, a) c = Add(a, b) "
            "y = MatMul(c, w) }", w=M4)  # fmt: skip


@pytest.mark.parametrize("opset", [10, 11, 13, 18, 19])
@pytest.mark.parametrize("form", ["initializer", "Constant", "computed", "shared"])
def test_02_resize_keeps_its_scales(opset, form):
    w = W4 / 2
    constants = {"w": w}
    made = ""
    if form == "initializer":
        constants["s"] = SCALES
    elif form == "Constant":
        made = "s = Constant<value = float[4] {1.0, 1.0, 2.0, 2.0}>()"
    elif form == "computed":
        constants |= {"n": np.array([2, 2, 4, 4]), "two": np.array([2.0])}
        made = "f = Cast<to=1>(n) s = Div(f, two)"
    else:
        constants["s"] = SCALES
    roi = ", " if opset == 10 else ", r, "
    if opset > 10:
        constants["r"] = np.zeros(0, np.float32) if opset < 13 else np.zeros(8, np.float32)
    use = "b = Mul(a, s1) c = Conv<pads=[1,1,1,1]>(b, w)" if form == "shared" else "c = Conv<pads=[1,1,1,1]>(a, w)"
    if form == "shared":
        constants["place"] = np.array([2])
        made = "s1 = Gather<axis=0>(s, place)"
    m = settled(f"g (float[1,4,8,8] x) => (float[1,4,N,M] y) {{ {made} {CONV} a = Resize(x1{roi}s) {use} "
                f"y = Relu(c) }}", opset=opset, **constants)  # fmt: skip
    assert computed_in(m)["Resize"] == HALF
    scales = next(n for n in m.graph.node if n.op_type == "Resize").input[-1]
    assert types(m)[scales] == FLOAT


def test_04_names_that_are_taken():
    m = settled("g (float[2,4] x) => (float[2,4] y, float[2,4] x_float16) { x_float16 = Identity(x) a = MatMul(x, w) "
                "y_float16 = Relu(a) y = MatMul(y_float16, w) }", w=M4)  # fmt: skip
    names = [name for node in m.graph.node for name in node.output]
    assert len(set(names)) == len(names)


def test_06_two_neighbours_beyond_the_range_have_no_cast_between_them():
    m = settled("""g (float[2,4] x) => (float[2,4] y) {
        a = MatMul(x, w) b = Mul(a, big) c = Exp(a) d = Mul(b, big) e = Mul(d, c) f = Mul(e, small)
        y = MatMul(f, w) }""",
                ranges=True, w=M4, big=np.array([3e4]), small=np.array([1 / 9e8]))  # fmt: skip
    kinds = computed_in(m)
    assert kinds["MatMul"] == FLOAT or kinds["MatMul"] == HALF
    by_output = types(m)
    assert by_output["d"] == by_output["e"] == FLOAT
    assert "d_float16" not in by_output


def test_masks_that_become_one_number_are_one_constant():
    model = parsed("g (float[4,4] x, bool[4,4] m) => (float[4,4] y) { a = MatMul(x, w) b = Where(m, a, low) "
                   "s = Softmax(b) c = MatMul(s, w) d = Where(m, c, lowest) t = Softmax(d) y = MatMul(t, w) }",
                   w=M4, low=np.array(-1e9), lowest=np.array(-3.4e38))  # fmt: skip
    feeds = {"x": np.ones((4, 4), np.float32), "m": np.eye(4, dtype=bool)}
    m, _ = ready(model, feeds=feeds, clean=True)
    assert sorted(one.name for one in m.graph.initializer) == ["low", "w"]


@pytest.mark.parametrize("precision", ["fp16", "bf16", "mixed"])
def test_a_fold_beyond_float32_is_left_before_ranges_are_measured(precision):
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) y = Mul(a, k) }", w=M4 * np.float32(1e25),
                   k=np.float32(1e25))  # fmt: skip
    _, report = folded(model, precision, {"x": np.full((2, 4), 1e-30, np.float32)})
    assert [outcome.backward.code for outcome in report.outcomes] == ["overflow"]


def test_an_offer_costs_no_ranges(monkeypatch):
    """What more would fold with an option depends on no type: the model is not run again for it."""
    text = """g (float[1,4,8,8] x) => (float[1,4,8,8] y)
        { b = BatchNormalization<training_mode=1>(x, s, c, c, s) y = Conv(b, w) }"""
    model = parsed(text, 22, w=W4[:, :, :1, :1], s=np.full(4, 0.7), c=np.ones(4))
    calls = []
    measure = ranges.measure
    monkeypatch.setattr(ranges, "measure", lambda *given, **named: calls.append(given) or measure(*given, **named))
    _, report = folded(model, "fp16", random_feeds(model))
    assert [offer.option for offer in report.offers] == ["freeze_training=True"]
    assert len(calls) == 1


def test_what_a_branch_returned_before_its_cast_keeps_its_shape():
    """Shape inference may not find it again, and a second run would weigh the Casts by other sizes."""
    text = """g (float[4,4] x, bool c) => (float[4,4] y) {
        y = If (c) <then_branch = t () => (float[4,4] r) { r = MatMul(x, w) },
                    else_branch = e () => (float[4,4] q) { q = Relu(x) }> }"""
    m, _ = ready(parsed(text, w=M4), keep_fp32=("y",), feeds={"x": M4.astype(np.float32), "c": np.array(True)})
    then = next(a.g for node in m.graph.node for a in node.attribute if a.name == "then_branch")
    assert [node.op_type for node in then.node][-2:] == ["MatMul", "Cast"]
    (recorded,) = (value.type.tensor_type for value in then.value_info if value.name == "r")
    assert recorded.elem_type == HALF
    assert [length.dim_value for length in recorded.shape.dim] == [4, 4]


def test_07_all_that_is_blocked_changes_nothing():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) y = Relu(a) }", w=M4)
    _, outcome = lowered(model, keep_fp32=lambda _: True)
    assert not outcome.changes
    assert {node.reason for node in outcome.nodes} == {"kept by an option"}


def test_08_sums_beyond_the_range():
    m = settled("g (float[1,1,256,256] x) => (float[1,1,256,256] y) { p = Abs(x) a = Conv<pads=[1,1,1,1]>(p, w) "
                "s = ReduceSum(a) b = Div(a, s) y = Conv<pads=[1,1,1,1]>(b, w) }", "mixed", ranges=True,
                w=np.abs(W4[:1, :1]))  # fmt: skip
    assert types(m)["s"] == FLOAT


def test_08_a_long_mean_is_computed_in_float32_where_ranges_are_asked_for():
    m = settled("g (float[1,4,256,256] x) => (float[1,4,1,1] y) { a = Conv<pads=[1,1,1,1]>(x, w) "
                "m = ReduceMean<axes=[2,3]>(a) y = Conv(m, v) }", "mixed", ranges=True, share=0.1,
                w=W4, v=M4.reshape(4, 4, 1, 1))  # fmt: skip
    assert types(m)["m"] == FLOAT or casts(m) > 2


def test_09_infinity_stays_infinity_and_3e4_stays_3e4():
    m = settled("g (float[2,4] x, bool[2,4] k) => (float[2,4] y) { a = MatMul(x, w) b = Where(k, a, low) "
                "s = Softmax(b) c = Where(k, s, big) d = MatMul(c, w) y = Relu(d) }", share=0.05,
                feeds={"x": np.ones((2, 4), np.float32), "k": np.array([[True, False] * 2] * 2)},
                w=M4, low=np.array([-np.inf]), big=np.array([3e4]))  # fmt: skip
    values = {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
    assert values["low"] == -np.inf
    assert values["big"] == np.float32(3e4).astype(values["big"].dtype)


@pytest.mark.parametrize(
    ("style", "low"),
    [("where", -np.inf)]  # 0 * inf is NaN in the other styles
    + [(style, low) for style in ("where", "add", "attention_mask") for low in (-1e9, LOWEST_FLOAT, -1e4)],
)
@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_10_fully_masked_rows_stay_as_they_are(low, style, precision):
    bias = {
        "where": "b = Where(k, a, low)",
        "add": "f = Cast<to=1>(k) g = Sub(one, f) h = Mul(g, low) b = Add(a, h)",
        "attention_mask": "u = Unsqueeze(i, axes) f = Cast<to=1>(u) g = Sub(one, f) h = Mul(g, low) b = Add(a, h)",
    }[style]
    text = f"""g (float[3,4,4] x, bool[3,4,4] k, int64[3,4] i) => (float[3,4,4] y) {{
        t = Transpose<perm=[0,2,1]>(x) q = MatMul(x, t) a = Mul(q, scale) {bias} s = Softmax<axis=-1>(b)
        z = MatMul(s, x) y = MatMul(z, w) }}"""
    rng = np.random.default_rng(0)
    keep = rng.integers(0, 2, (3, 4, 4)).astype(bool)
    keep[0] = False
    feeds = {"x": rng.standard_normal((3, 4, 4)).astype(np.float32) * 4, "k": keep, "i": keep[:, 0].astype(np.int64)}
    model = parsed(text, w=M4, scale=np.array([0.5]), low=np.array([low]), one=np.array([1.0]), axes=np.array([1]))
    m, outcome = lowered(model, precision, ranges=style != "attention_mask")  # generated whole numbers are no mask
    assert casts(m) <= 5
    assert types(m)["q"] == HALF
    before, after = ran(model, feeds)[0], ran(m, feeds)[0]
    assert np.array_equal(np.isnan(before), np.isnan(after))
    finite = np.isfinite(before)
    visible = keep.any(axis=-1) if style != "attention_mask" else np.repeat(keep[:, :1].any(axis=-1), 4, axis=1)
    assert np.abs(before - after)[visible & finite.all(axis=-1)].max() < 0.05
    clamped = [one for one in outcome.rounded() if one.clamped]
    assert bool(clamped) == (-np.inf < low < LOWEST)


@pytest.mark.parametrize("kept", ["h", "b", "s"])
def test_10_no_cast_makes_a_mask_infinite(kept):
    text = """g (float[3,4,4] x, bool[3,4,4] k) => (float[3,4,4] y) {
        t = Transpose<perm=[0,2,1]>(x) q = MatMul(x, t) f = Cast<to=1>(k) g = Sub(one, f) h = Mul(g, low) b = Add(q, h)
        s = Softmax<axis=-1>(b) z = MatMul(s, x) y = MatMul(z, w) }"""
    model = parsed(text, w=M4, low=np.array([-1e9]), one=np.array([1.0]))
    feeds = random_feeds(model) | {"k": np.zeros((3, 4, 4), bool)}
    m, _ = lowered(model, keep_fp32=lambda label: label == kept)
    assert types(m)[kept] == FLOAT
    assert np.isfinite(ran(m, feeds)[0]).all()


def test_10_the_largest_float32_as_a_mask_stays_finite_in_bfloat16():
    lowest = float(np.finfo(np.float32).min)
    model = parsed("g (float[2,4] x, bool[2,4] k) => (float[2,4] y) { a = MatMul(x, w) b = Where(k, a, low) "
                   "s = Softmax(b) y = MatMul(s, w) }", w=M4, low=np.array([lowest]))  # fmt: skip
    m, outcome = lowered(model, "bf16")
    low = next(t for t in m.graph.initializer if t.name == "low")
    assert np.isfinite(numpy_helper.to_array(low).astype(np.float32)).all()
    assert [one.clamped for one in outcome.rounded() if one.name == "low"] == [1]


@pytest.mark.parametrize("op", ["Clip(a, low, high)", "Max(a, low)", "Min(a, high)"])
def test_11_bounds_beyond_the_range(op):
    model = parsed(f"g (float[2,4] x) => (float[2,4] y) {{ a = MatMul(x, w) b = {op} y = MatMul(b, w) }}",
                   w=M4, low=np.array(-3.4e38), high=np.array(1e6))  # fmt: skip
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    m, outcome = lowered(model)
    assert casts(m) == 2
    assert sum(one.clamped for one in outcome.rounded()) == len(used & {"low", "high"})
    assert {abs(one.bound) for one in outcome.rounded() if one.clamped} == {-LOWEST}
    assert_close(model, m, random_feeds(model))


@pytest.mark.parametrize("epsilon", [1e-12, 1e-8])
@pytest.mark.parametrize(
    "text",
    [
        (
            "m = ReduceMean<axes=[-1]>(a) d = Sub(a, m) p = Mul(d, d) v = ReduceMean<axes=[-1]>(p) "
            "e = Add(v, eps) s = Sqrt(e) b = Div(d, s)"
        ),
        "n = ReduceL2<axes=[-1]>(a) e = Max(n, eps) b = Div(a, e)",
        "n = ReduceL2<axes=[-1]>(a) e = Clip(n, eps) f = Expand(e, shape) b = Div(a, f)",
        "p = Mul(a, a) v = ReduceMean<axes=[-1]>(p) e = Add(v, eps) s = Sqrt(e) r = Reciprocal(s) b = Mul(a, r)",
    ],
)
def test_15_an_epsilon_that_would_vanish_keeps_its_island(text, epsilon):
    model = parsed(f"g (float[2,4] x) => (float[2,4] y) {{ a = MatMul(x, w) {text} y = MatMul(b, w) }}",
                   w=M4, eps=np.array(epsilon), shape=np.array([2, 4]))  # fmt: skip
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    m, _ = lowered(model)
    known = types(m)
    assert known["a"] == HALF
    assert known["e"] == FLOAT
    divided = next(n for n in m.graph.node if n.op_type in {"Div", "Reciprocal"})
    assert known[divided.output[0]] == FLOAT
    zeros = {"x": np.zeros((2, 4), np.float32)}
    assert_close(model, m, zeros)
    assert_close(model, m, random_feeds(model))


@pytest.mark.parametrize(
    "text",
    ["b = InstanceNormalization<epsilon=1e-12>(x1, s, c)", "b = BatchNormalization<epsilon=1e-8>(x1, s, c, c, s)"],
)
def test_15_an_epsilon_of_an_operator(text):
    m = settled(f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {CONV} {text} y = Conv<pads=[1,1,1,1]>(b, w) }}",
                w=W4, s=np.ones(4), c=np.zeros(4))  # fmt: skip
    assert types(m)["b"] in {FLOAT, HALF}
    node = next(n for n in m.graph.node if n.op_type in {"InstanceNormalization", "BatchNormalization"})
    assert types(m)[node.output[0]] == FLOAT


def test_15_layer_normalization_computes_in_float32_whatever_it_reads():
    m = settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = LayerNormalization<epsilon=1e-12>(a, s) "
                "y = MatMul(b, w) }", w=M4, s=np.ones(4))  # fmt: skip
    assert casts(m) == 2


def test_16_activations_beyond_the_range_stay():
    m = settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Mul(a, big) c = Relu(b) d = Mul(c, small) "
                "y = MatMul(d, w) }", ranges=True, w=M4, big=np.array([6e4]), small=np.array([2.0**-16]))  # fmt: skip
    assert types(m)["b"] == types(m)["c"] == FLOAT


def ready(model, precision="fp16", feeds=None, **options):
    """The model in 16 bits by the whole pipeline, with its ranges on `feeds`; valid, close and the same twice."""
    feeds = feeds or random_feeds(model)
    result, report = folded(model, precision, feeds, **options)
    onnx.checker.check_model(result, full_check=True)
    assert_close(model, result, feeds, 0.03)
    assert folded(result, precision, feeds, **options)[0] == result
    return result, report


NUMBERS = range(1, 35)


def test_every_trap_has_a_test():
    found = {
        int(name[5:7]) for module in (sys.modules[__name__], structure) for name in vars(module) if name[5:7].isdigit()
    }
    assert found == set(NUMBERS)


def test_03_operators_without_names():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Pow(a, two) y = MatMul(b, w) }", w=M4,
                   two=np.array([2.0]))  # fmt: skip
    assert not any(node.name for node in model.graph.node)
    m, report = ready(model)
    names = [node.name for node in m.graph.node if node.name]
    assert len(set(names)) == len(names)
    assert {placed.label for placed in report.types} == {"a", "b", "y"}


@pytest.mark.parametrize("precision", ["fp16", "bf16", "mixed"])
def test_05_converting_twice(precision):
    model = parsed("g (float[1,4,8,8] x) => (float[1,4,1,1] y) { a = Conv<pads=[1,1,1,1]>(x, w) e = Exp(a) "
                   "s = ReduceMean<axes=[2,3]>(e) l = Log(s) y = Conv(l, v) }", 22 if precision == "bf16" else 17,
                   w=W4, v=M4.reshape(4, 4, 1, 1))  # fmt: skip
    if precision == "bf16":  # axes are an input from operator set 18 on
        model.graph.node[2].attribute.pop()
        model.graph.node[2].input.append("axes")
        model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    first, _ = folded(model, precision, random_feeds(model))
    assert casts(first) >= 2
    second, report = folded(first, precision, random_feeds(model))
    assert second == first
    assert not report.changes


def test_07_all_that_is_blocked_is_the_fold_alone():
    model = parsed("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w) "
                   "b = BatchNormalization(a, s, c, c, s) y = Relu(b) }", w=W4, s=np.full(4, 0.7),
                   c=np.ones(4))  # fmt: skip
    alone, _ = folded(model, "keep", random_feeds(model))
    blocked, report = folded(model, "fp16", random_feeds(model), keep_fp32=("*",))
    assert blocked == alone
    assert "nothing can be lowered" in " ".join(report.notes)


@pytest.mark.parametrize("op", ["ReduceMean<axes=[2,3]>(a)", "ReduceSum(a, axes)"])
@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_08_means_and_sums_over_65536_values(op, precision):
    constants = {"axes": np.array([2, 3]), "part": np.array([2.0**-16])} if "Sum" in op else {"part": np.array([1.0])}
    model = parsed(f"g (float[1,4,256,256] x) => (float[1,4,1,1] y) {{ p = Abs(x) a = Conv<pads=[1,1,1,1]>(p, w) "
                   f"m = {op} n = Mul(m, part) e = Sqrt(n) y = Conv(e, v) }}",
                   w=np.abs(W4), v=M4.reshape(4, 4, 1, 1), **constants)  # fmt: skip
    ready(model, precision, {"x": random_feeds(model)["x"] + 8})


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_12_a_square_of_300(precision):
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Pow(a, two) c = Mul(b, small) "
                   "y = MatMul(c, w) }", w=np.eye(4), two=np.array([2.0]), small=np.array([1e-4]))  # fmt: skip
    m, _ = ready(model, precision, {"x": np.full((2, 4), 300, np.float32)})
    assert types(m)["b"] == FLOAT


NORMALIZATIONS = {
    "RMSNormalization": "p = Pow(a, two) v = ReduceMean<axes=[-1]>(p) e = Add(v, eps) s = Sqrt(e) d = Div(a, s) "
    "b = Mul(d, g)",
    "LayerNormalization": "m = ReduceMean<axes=[-1]>(a) c = Sub(a, m) p = Pow(c, two) v = ReduceMean<axes=[-1]>(p) "
    "e = Add(v, eps) s = Sqrt(e) d = Div(c, s) h = Mul(d, g) b = Add(h, k)",
}


def island(kind, precision, size, **options):
    """The lowered model of a written-out normalization, and the types of the values in it."""
    constants = {"w": M4, "two": np.array(2.0), "eps": np.array(1e-5), "g": np.full(4, 1.5)}
    constants |= {"k": np.ones(4)} if kind == "LayerNormalization" else {}
    model = parsed(f"g (float[2,4] x) => (float[2,4] y) {{ a = MatMul(x, w) {NORMALIZATIONS[kind]} y = MatMul(b, w) }}",
                   **constants)  # fmt: skip
    m, _ = ready(model, precision, {"x": random_feeds(model)["x"] * size}, **options)
    inner = {name for node in model.graph.node[1:-2] for name in node.output}
    known = types(m)
    return m, {known[name] for name in inner if name in known}


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_13_a_written_out_rms_normalization_of_numbers_beyond_256(precision):
    m, inner = island("RMSNormalization", precision, 400)
    assert inner == {FLOAT}
    assert casts(m) == 4


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
@pytest.mark.parametrize("size", [1, 400])
def test_14_a_written_out_layer_normalization_is_one_island(precision, size):
    m, inner = island("LayerNormalization", precision, size)
    assert len(inner) == 1
    assert inner == {FLOAT} or size == 1
    assert casts(m) == (2 if inner == {HALF} else 4)


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_16_activations_beyond_the_range_are_scaled_instead_of_cast(precision):
    model = parsed("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) "
                   "c = Conv<pads=[1,1,1,1]>(b, v) d = Relu(c) y = Conv<pads=[1,1,1,1]>(d, w) }",
                   w=W4, v=W4 * 1e5)  # fmt: skip
    model.graph.node[-1].input[1] = "u"
    model.graph.initializer.append(numpy_helper.from_array((W4 * 1e-5).astype(np.float32), "u"))
    m, report = ready(model, precision)
    assert casts(m) == 2
    assert {placed.dtype for placed in report.types} == {"float16"}
