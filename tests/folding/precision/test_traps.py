"""What users of released converters met: each a model that must come out valid, finite and right, or unchanged."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.lowering import (
    BRAIN,
    FLOAT,
    HALF,
    assert_close,
    casts,
    computed_in,
    counted,
    lowered,
    parsed,
    ran,
    random_feeds,
    types,
)

W4 = np.random.default_rng(0).standard_normal((4, 4, 3, 3)) / 6
M4 = np.random.default_rng(1).standard_normal((4, 4)) / 2
LOWEST = float(np.finfo(np.float16).min)


def settled(text, precision="fp16", opset=17, *, ranges=False, share=0.02, feeds=None, options=None, **constants):
    """The lowered model of a graph that comes out changed, valid and close."""
    model = parsed(text, opset, **constants)
    result, outcome = lowered(model, precision, ranges=ranges, **(options or {}))
    assert outcome.changes
    if precision != "bf16":
        assert_close(model, result, feeds or random_feeds(model), share)
    _, second = lowered(result, precision, ranges=ranges, **(options or {}))
    assert not second.changes, second.changes
    return result


CONV = "x1 = Conv<pads=[1,1,1,1]>(x, w)"


def test_a_plain_network_is_lowered_with_two_casts():
    m = settled("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Relu(a) "
                "c = Conv<pads=[1,1,1,1]>(b, w) y = Relu(c) }", w=W4)  # fmt: skip
    assert casts(m) == 2
    assert types(m)["x"] == types(m)["y"] == FLOAT
    assert {kind for name, kind in computed_in(m).items() if name in {"Conv", "Relu"}} == {HALF}
    assert len(m.graph.initializer) == 1


def test_inputs_and_outputs_are_lowered_where_asked():
    m = settled("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { y = Conv<pads=[1,1,1,1]>(x, w) }",
                options={"io_types": "lower"}, w=W4)  # fmt: skip
    assert casts(m) == 0
    assert types(m)["x"] == types(m)["y"] == HALF


# --- Casts of the model -----------------------------------------------------------------------------------


def test_casts_from_integers_and_masks():
    m = settled("""g (int64[2,4] i, bool[2,4] k, float[2,4] x) => (float[2,4] y) {
        a = Cast<to=1>(i) b = MatMul(a, w) f = Cast<to=1>(k) c = Mul(b, f) d = MatMul(c, w) e = Add(d, x)
        y = MatMul(e, w) }""",
                w=M4)  # fmt: skip
    assert counted(m)["Cast"] == 4
    assert {a.i for n in m.graph.node if n.op_type == "Cast" for a in n.attribute} == {FLOAT, HALF}


def test_casts_between_floats_follow():
    settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Cast<to=1>(a) y = MatMul(b, w) }", w=M4)
    settled("g (float[2,4] x, double[1] d) => (float[2,4] y) { a = MatMul(x, w) e = Cast<to=1>(d) b = Mul(a, e) "
            "y = MatMul(b, w) }", w=M4)  # fmt: skip


def test_a_cast_inside_a_branch():
    m = settled("""g (float[2,4] x, int64[2,4] i, bool c) => (float[2,4] y) {
        a = MatMul(x, w)
        b = If(c) <then_branch = t () => (float[2,4] p) { q = Cast<to=1>(i) r = MatMul(q, w) p = Add(r, a) },
                   else_branch = e () => (float[2,4] s) { s = MatMul(a, w) }>
        y = MatMul(b, w) }""", feeds=None, w=M4)  # fmt: skip
    assert casts(m) == 3  # x, the integers' own one, y


def test_cast_like_follows_its_type():
    settled("g (float[2,4] x, int64[2,4] i) => (float[2,4] y) { a = MatMul(x, w) b = CastLike(i, a) c = Add(a, b) "
            "y = MatMul(c, w) }", w=M4)  # fmt: skip


# --- Resize -----------------------------------------------------------------------------------------------


SCALES = np.array([1, 1, 2, 2], np.float32)


@pytest.mark.parametrize("opset", [10, 11, 13, 18, 19])
@pytest.mark.parametrize("form", ["initializer", "Constant", "computed", "shared"])
def test_resize_keeps_its_scales(opset, form):
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


# --- names ------------------------------------------------------------------------------------------------


def test_names_that_are_taken():
    m = settled("g (float[2,4] x) => (float[2,4] y, float[2,4] x_float16) { x_float16 = Identity(x) a = MatMul(x, w) "
                "y_float16 = Relu(a) y = MatMul(y_float16, w) }", w=M4)  # fmt: skip
    names = [name for node in m.graph.node for name in node.output]
    assert len(set(names)) == len(names)


def test_all_that_is_blocked_changes_nothing():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) y = Relu(a) }", w=M4)
    _, outcome = lowered(model, keep_fp32=lambda _: True)
    assert not outcome.changes
    assert {node.reason for node in outcome.nodes} == {"kept by an option"}


def test_what_is_kept_by_name_stays():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = MatMul(a, w) y = MatMul(b, w) }", w=M4)
    for node, name in zip(model.graph.node, ("first", "second", "third"), strict=True):
        node.name = name
    m, outcome = lowered(model, keep_fp32=lambda label: label == "second")
    assert {n: computed_in(m)[n] for n in ("first", "second", "third")} == {
        "first": HALF, "second": FLOAT, "third": HALF}  # fmt: skip
    assert [node.label for node in outcome.nodes if node.dtype == "float32"] == ["second"]
    assert len(m.graph.initializer) == 2  # one copy for each type
    assert_close(model, m, random_feeds(model))


# --- ranges -----------------------------------------------------------------------------------------------


def test_two_neighbours_beyond_the_range_have_no_cast_between_them():
    m = settled("""g (float[2,4] x) => (float[2,4] y) {
        a = MatMul(x, w) b = Mul(a, big) c = Exp(a) d = Mul(b, big) e = Mul(d, c) f = Mul(e, small)
        y = MatMul(f, w) }""",
                ranges=True, w=M4, big=np.array([3e4]), small=np.array([1 / 9e8]))  # fmt: skip
    kinds = computed_in(m)
    assert kinds["MatMul"] == FLOAT or kinds["MatMul"] == HALF
    by_output = types(m)
    assert by_output["d"] == by_output["e"] == FLOAT
    assert "d_float16" not in by_output


def test_activations_beyond_the_range_stay():
    m = settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Mul(a, big) c = Relu(b) d = Mul(c, small) "
                "y = MatMul(d, w) }", ranges=True, w=M4, big=np.array([6e4]), small=np.array([2.0**-16]))  # fmt: skip
    assert types(m)["b"] == types(m)["c"] == FLOAT


def test_sums_beyond_the_range():
    m = settled("g (float[1,1,256,256] x) => (float[1,1,256,256] y) { p = Abs(x) a = Conv<pads=[1,1,1,1]>(p, w) "
                "s = ReduceSum(a) b = Div(a, s) y = Conv<pads=[1,1,1,1]>(b, w) }", "mixed", ranges=True,
                w=np.abs(W4[:1, :1]))  # fmt: skip
    assert types(m)["s"] == FLOAT


def test_a_long_mean_is_computed_in_float32_where_ranges_are_asked_for():
    m = settled("g (float[1,4,256,256] x) => (float[1,4,1,1] y) { a = Conv<pads=[1,1,1,1]>(x, w) "
                "m = ReduceMean<axes=[2,3]>(a) y = Conv(m, v) }", "mixed", ranges=True, share=0.1,
                w=W4, v=M4.reshape(4, 4, 1, 1))  # fmt: skip
    assert types(m)["m"] == FLOAT or casts(m) > 2


def test_an_input_that_does_not_fit_keeps_its_first_operators():
    model = parsed("g (float[2,4] t, float[2,4] x) => (float[2,4] y) { a = Mul(t, tiny) b = Add(a, x) c = MatMul(b, w) "
                   "y = MatMul(c, w) }", w=M4, tiny=np.array([1e-3]))  # fmt: skip
    feeds = random_feeds(model) | {"t": np.full((2, 4), 1e5, np.float32)}
    from folding.verification.ranges import Range  # noqa: PLC0415

    found = {"t": Range.of(feeds["t"]), "a": Range.of(feeds["t"] / 1000)}
    for options in ({}, {"io_types": "lower"}):
        m, _ = lowered(model, ranges=found, **options)
        assert types(m)["t"] == types(m)["a"] == FLOAT
        assert types(m)["c"] == HALF
        assert_close(model, m, feeds, 0.05)


# --- constants --------------------------------------------------------------------------------------------


def test_infinity_stays_infinity_and_3e4_stays_3e4():
    m = settled("g (float[2,4] x, bool[2,4] k) => (float[2,4] y) { a = MatMul(x, w) b = Where(k, a, low) "
                "s = Softmax(b) c = Where(k, s, big) d = MatMul(c, w) y = Relu(d) }", share=0.05,
                feeds={"x": np.ones((2, 4), np.float32), "k": np.array([[True, False] * 2] * 2)},
                w=M4, low=np.array([-np.inf]), big=np.array([3e4]))  # fmt: skip
    values = {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
    assert values["low"] == -np.inf
    assert values["big"] == np.float32(3e4).astype(values["big"].dtype)


LOWEST_FLOAT = -float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("style", "low"),
    [("where", -np.inf)]  # 0 * inf is NaN in the other styles
    + [(style, low) for style in ("where", "add", "attention_mask") for low in (-1e9, LOWEST_FLOAT, -1e4)],
)
@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_fully_masked_rows_stay_as_they_are(low, style, precision):
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
    clamped = [one for one in outcome.tensors if one.clamped]
    assert bool(clamped) == (-np.inf < low < LOWEST)


@pytest.mark.parametrize("kept", ["h", "b", "s"])
def test_no_cast_makes_a_mask_infinite(kept):
    text = """g (float[3,4,4] x, bool[3,4,4] k) => (float[3,4,4] y) {
        t = Transpose<perm=[0,2,1]>(x) q = MatMul(x, t) f = Cast<to=1>(k) g = Sub(one, f) h = Mul(g, low) b = Add(q, h)
        s = Softmax<axis=-1>(b) z = MatMul(s, x) y = MatMul(z, w) }"""
    model = parsed(text, w=M4, low=np.array([-1e9]), one=np.array([1.0]))
    feeds = random_feeds(model) | {"k": np.zeros((3, 4, 4), bool)}
    m, _ = lowered(model, keep_fp32=lambda label: label == kept)
    assert types(m)[kept] == FLOAT
    assert np.isfinite(ran(m, feeds)[0]).all()


def test_a_large_constant_that_is_no_mask_keeps_its_readers():
    m = settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Add(a, low) c = Div(b, low) "
                "y = MatMul(c, w) }",
                w=M4, low=np.array([-1e9]))  # fmt: skip
    assert types(m)["b"] == types(m)["c"] == FLOAT


@pytest.mark.parametrize("op", ["Clip(a, low, high)", "Max(a, low)", "Min(a, high)"])
def test_bounds_beyond_the_range(op):
    model = parsed(f"g (float[2,4] x) => (float[2,4] y) {{ a = MatMul(x, w) b = {op} y = MatMul(b, w) }}",
                   w=M4, low=np.array(-3.4e38), high=np.array(1e6))  # fmt: skip
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    m, outcome = lowered(model)
    assert casts(m) == 2
    assert sum(one.clamped for one in outcome.tensors) == len(used & {"low", "high"})
    assert {abs(one.bound) for one in outcome.tensors if one.clamped} == {-LOWEST}
    assert_close(model, m, random_feeds(model))


@pytest.mark.parametrize("form", ["node", "sparse", "floats", "initializer"])
def test_constants_in_every_form(form):
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Add(a, c) y = MatMul(b, w) }", w=M4)
    values = np.array([0.5, 0, -2, 0.25], np.float32)
    if form == "initializer":
        model.graph.initializer.append(numpy_helper.from_array(values, "c"))
    elif form == "sparse":
        sparse = helper.make_sparse_tensor(
            numpy_helper.from_array(values[[0, 2, 3]], "c"), numpy_helper.from_array(np.array([0, 2, 3]), "i"), [4]
        )
        model.graph.sparse_initializer.append(sparse)
    else:
        given = {"value_floats": values.tolist()} if form == "floats" else {"value": numpy_helper.from_array(values)}
        model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], **given))
    m, _ = lowered(model)
    assert casts(m) == 2
    assert_close(model, m, random_feeds(model))


@pytest.mark.parametrize("form", ["node", "sparse"])
def test_a_constant_of_both_types_has_a_copy_for_each(form):
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Add(a, c) d = MatMul(b, w) "
                   "y = Add(d, c) }",
                   w=M4)  # fmt: skip
    values = np.array([0.5, 0, -2, 0.25], np.float32)
    if form == "sparse":
        sparse = helper.make_sparse_tensor(
            numpy_helper.from_array(values[[0, 2, 3]], "c"), numpy_helper.from_array(np.array([0, 2, 3]), "i"), [4]
        )
        model.graph.sparse_initializer.append(sparse)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(values)))
    model.graph.node[-1].name = "last"
    m, outcome = lowered(model, keep_fp32=lambda label: label == "last")
    assert any("copied" in change.kind for change in outcome.changes)
    assert_close(model, m, random_feeds(model))


def test_an_initializer_that_is_an_output_stays():
    m = settled("g (float[2,4] x) => (float[2,4] y, float[4,4] w) { a = MatMul(x, w) y = MatMul(a, w) }", w=M4)
    assert types(m)["w"] == FLOAT
    assert types(m)["w_float16"] == HALF


def test_what_no_caller_may_override_only():
    model = parsed("g (float[2,4] x, float[4,4] w) => (float[2,4] y) { a = MatMul(x, w) y = MatMul(a, w) }", w=M4)
    m, _ = lowered(model)
    assert types(m)["w"] == FLOAT
    assert_close(model, m, random_feeds(model))
    model.ir_version = 3
    m, _ = lowered(model)
    assert types(m)["w"] == HALF
    assert {v.name: v.type.tensor_type.elem_type for v in m.graph.input} == {"x": FLOAT, "w": HALF}


def test_weights_are_counted():
    w = M4.copy()
    w[0, 0], w[0, 1], w[0, 2] = 1e-9, 3e-6, 0.0
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) y = Relu(a) }", w=w)
    _, outcome = lowered(model)
    (one,) = outcome.tensors
    assert (one.name, one.elements, one.clamped, one.subnormal, one.flushed) == ("w", 16, 0, 1, 1)
    assert any("became zero" in change.kind for change in outcome.changes)


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
def test_an_epsilon_that_would_vanish_keeps_its_island(text, epsilon):
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
def test_an_epsilon_of_an_operator(text):
    m = settled(f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {CONV} {text} y = Conv<pads=[1,1,1,1]>(b, w) }}",
                w=W4, s=np.ones(4), c=np.zeros(4))  # fmt: skip
    assert types(m)["b"] in {FLOAT, HALF}
    node = next(n for n in m.graph.node if n.op_type in {"InstanceNormalization", "BatchNormalization"})
    assert types(m)[node.output[0]] == FLOAT


def test_layer_normalization_computes_in_float32_whatever_it_reads():
    m = settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = LayerNormalization<epsilon=1e-12>(a, s) "
                "y = MatMul(b, w) }", w=M4, s=np.ones(4))  # fmt: skip
    assert casts(m) == 2


# --- types that attributes name ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "r = RandomNormal<shape=[2,4], seed=1.0>() z = Mul(r, zero)",
        "r = RandomUniform<shape=[2,4], dtype=1>() z = Mul(r, zero)",
        "r = RandomNormalLike(a) z = Mul(r, zero)",
        "r = RandomUniformLike<dtype=1>(a) z = Mul(r, zero)",
        "z = EyeLike(a)",
        "z = EyeLike<dtype=1>(i)",
        "z = ConstantOfShape(shape)",
        "z = ConstantOfShape<value = float[1] {2.5}>(shape)",
        "r = Bernoulli(p) z = Mul(r, zero)",
        "r = Multinomial<sample_size=4>(a) f = Cast<to=1>(r) z = Mul(f, zero)",
        "q = Range(first, last, step) z = Add(q, first)",
        "h = Identity(shape) s = ConstantOfShape<value = float[1] {1.0}>(h) z = CumSum(s, axis)",
        "z, k = Dropout(a, ratio)",
    ],
)
@pytest.mark.parametrize("io_types", ["keep", "lower"])
def test_types_that_attributes_name(text, io_types):
    model = parsed(f"""g (float[2,4] x, int64[2,4] i) => (float[2,4] y) {{
        a = MatMul(x, w) p = Sigmoid(a) {text} c = Add(a, z) d = MatMul(c, w) e = Mul(p, d) y = MatMul(e, w) }}""",
                   w=M4, zero=np.array([0.0]), shape=np.array([2, 4]), first=np.array(0.0), last=np.array(4.0),
                   step=np.array(1.0), axis=np.array(0), ratio=np.array(0.5))  # fmt: skip
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in used]:
        model.graph.initializer.remove(tensor)
    m, outcome = lowered(model, io_types=io_types)
    assert outcome.changes
    if "RandomNormal<" not in text and "RandomUniform<" not in text and "EyeLike<" not in text:  # not in ONNX Runtime
        assert_close(model, m, random_feeds(model), 0.05)


# --- nested graphs -----------------------------------------------------------------------------------------


def test_captures_and_branches_of_one_type():
    m = settled("""g (float[2,4] x, bool c) => (float[2,4] y) {
        a = MatMul(x, w)
        b = If(c) <then_branch = t () => (float[2,4] p) { q = Mul(a, big) p = Div(q, big) },
                   else_branch = e () => (float[2,4] s) { s = MatMul(a, w) }>
        y = MatMul(b, w) }""", w=M4, big=np.array([1e6]))  # fmt: skip
    branches = {a.name: a.g for n in m.graph.node if n.op_type == "If" for a in n.attribute}
    assert {g.output[0].type.tensor_type.elem_type for g in branches.values()} == {HALF}
    assert [n.op_type for n in branches["then_branch"].node] == ["Mul", "Div", "Cast"]


def test_a_branch_that_returns_what_is_outside_or_constant():
    settled("""g (float[2,4] x, bool c) => (float[2,4] y) {
        a = MatMul(x, w)
        b = If(c) <then_branch = t () => (float[2,4] p) { p = Identity(x) },
                   else_branch = e () => (float[2,4] s) <float[2,4] s = {1,2,3,4,5,6,7,8}> { }>
        d = Add(a, b) y = MatMul(d, w) }""", w=M4)  # fmt: skip


def test_a_loop_with_carried_values_and_a_scalar_count():
    m = settled("""g (float[2,4] x, int64 n, bool go) => (float[2,4] y, float[k,2,4] z) {
        a = MatMul(x, w)
        y, z = Loop(n, go, a) <body = b (int64 i, bool c, float[2,4] s) => (bool d, float[2,4] t, float[2,4] u) {
            d = Identity(c) f = Cast<to=1>(i) v = MatMul(s, w) t = Add(v, f) u = Relu(t) }> }""",
                feeds={"x": np.ones((2, 4), np.float32), "n": np.array(3), "go": np.array(True)}, w=M4 / 2)  # fmt: skip
    body = next(a.g for n in m.graph.node if n.op_type == "Loop" for a in n.attribute)
    assert body.input[2].type.tensor_type.elem_type == HALF
    assert body.output[1].type.tensor_type.elem_type == HALF


def test_a_loop_whose_carried_value_grows_stays_in_float32_there():
    m = settled("""g (float[2,4] x, int64 n, bool go) => (float[2,4] y) {
        a = MatMul(x, w)
        q = Loop(n, go, a) <body = b (int64 i, bool c, float[2,4] s) => (bool d, float[2,4] t) {
            d = Identity(c) t = Mul(s, big) }>
        r = Div(q, big) y = MatMul(r, w) }""",
                feeds={"x": np.ones((2, 4), np.float32), "n": np.array(1), "go": np.array(True)}, w=M4 / 2,
                big=np.array([1e6]))  # fmt: skip
    body = next(a.g for n in m.graph.node if n.op_type == "Loop" for a in n.attribute)
    assert body.input[2].type.tensor_type.elem_type == FLOAT


def test_a_scan():
    m = settled("""g (float[2,4] x, float[5,2,4] v) => (float[2,4] y, float[5,2,4] z) {
        a = MatMul(x, w)
        y, z = Scan<num_scan_inputs=1, body = b (float[2,4] s, float[2,4] e) => (float[2,4] t, float[2,4] u) {
            p = MatMul(s, w) t = Add(p, e) u = MatMul(t, w) }>(a, v) }""", w=M4 / 2)  # fmt: skip
    body = next(a.g for n in m.graph.node if n.op_type == "Scan" for a in n.attribute if a.HasField("g"))
    assert {v.type.tensor_type.elem_type for v in (*body.input, *body.output)} == {HALF}


def test_functions_are_refused_with_the_reason():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) y = Relu(a) }", w=M4)
    function = helper.make_function("local", "f", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                                    [helper.make_opsetid("", 17)])  # fmt: skip
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    _, outcome = lowered(model)
    assert "functions" in outcome.reason


# --- declarations ------------------------------------------------------------------------------------------


def test_recorded_types_are_brought_up_to_date():
    model = parsed("g (float[2,4] x) => (float[2,4] y) <float[2,4] a, float[2,4] b> { a = MatMul(x, w) b = Relu(a) "
                   "y = MatMul(b, w) }", w=M4)  # fmt: skip
    assert {v.name for v in model.graph.value_info} == {"a", "b"}
    m, _ = lowered(model)
    assert {v.name: v.type.tensor_type.elem_type for v in m.graph.value_info} == {"a": HALF, "b": HALF}


def test_a_graph_output_that_is_read_inside_keeps_its_name():
    m = settled(
        "g (float[2,4] x) => (float[2,4] a, float[2,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }", w=M4
    )
    relu = next(n for n in m.graph.node if n.op_type == "Relu")
    assert types(m)[relu.input[0]] == HALF
    assert casts(m) == 3


def test_operators_of_other_domains_read_float32():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }", w=M4)
    model.graph.node[1].domain = "com.microsoft"
    model.graph.node[1].op_type = "Gelu"
    model.opset_import.insert(0, helper.make_opsetid("com.microsoft", 1))
    graph = lowered_without_inference(model)
    gelu = next(n for n in graph.node if n.op_type == "Gelu")
    cast = next(n for n in graph.node if n.output[0] == gelu.input[0])
    assert cast.op_type == "Cast"
    assert cast.attribute[0].i == FLOAT


def lowered_without_inference(model):
    """The lowered graph of a model with operators that onnx cannot infer."""
    from folding import onnxfile  # noqa: PLC0415
    from folding.graph import shapes  # noqa: PLC0415
    from folding.graph.values import indexed  # noqa: PLC0415
    from folding.graph.writeback import write_back  # noqa: PLC0415
    from folding.precision.lower import lower  # noqa: PLC0415

    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        lower(graph, "fp16")
        write_back(graph)
        result = onnx.ModelProto.FromString(onnxfile.to_bytes(file))
    onnx.checker.check_model(result)
    return result.graph


# --- models that are not float32 only ---------------------------------------------------------------------


def test_an_export_in_half_with_an_island_is_completed():
    text = """g (float16[2,4] x) => (float16[2,4] y) {
        a = MatMul(x, w) b = Cast<to=1>(a) c = Relu(b) d = Add(c, one) e = Cast<to=10>(d) y = MatMul(e, w) }"""
    model = parsed(text, w=M4.astype(np.float16), one=np.array([1.0]))
    m, outcome = lowered(model)
    assert outcome.changes
    assert casts(m) == 0
    assert_close(model, m, random_feeds(model))


def test_an_island_that_needs_float32_stays():
    text = """g (float16[2,4] x) => (float16[2,4] y) {
        a = MatMul(x, w) b = Cast<to=1>(a) c = Mul(b, big) d = Div(c, big) e = Cast<to=10>(d) y = MatMul(e, w) }"""
    model = parsed(text, w=M4.astype(np.float16), big=np.array([1e6]))
    _, outcome = lowered(model)
    assert not outcome.changes


def test_two_16_bit_types_are_refused():
    model = parsed("g (float16[2,4] x) => (float16[2,4] y) { y = MatMul(x, w) }", w=M4.astype(np.float16))
    _, outcome = lowered(model, "bf16")
    assert "float16" in outcome.reason


# --- bfloat16 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("opset", "kind"), [(17, FLOAT), (22, BRAIN)])
def test_bfloat16_by_the_operator_set(opset, kind):
    model = parsed(
        "g (float[1,4,8,8] x) => (float[1,4,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w) y = Relu(a) }", opset, w=W4
    )
    m, outcome = lowered(model, "bf16")
    assert bool(outcome.changes) == (kind == BRAIN)
    if outcome.changes:
        assert types(m)["w"] == BRAIN
    else:
        assert any("has no bfloat16" in node.reason for node in outcome.nodes)


def test_bfloat16_has_the_range_of_float32():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Add(a, big) y = MatMul(b, w) }",
                   w=M4, big=np.array([1e30]))  # fmt: skip
    m, outcome = lowered(model, "bf16")
    assert types(m)["b"] == BRAIN
    assert not any(one.clamped for one in outcome.tensors)


def test_the_largest_float32_as_a_mask_stays_finite_in_bfloat16():
    lowest = float(np.finfo(np.float32).min)
    model = parsed("g (float[2,4] x, bool[2,4] k) => (float[2,4] y) { a = MatMul(x, w) b = Where(k, a, low) "
                   "s = Softmax(b) y = MatMul(s, w) }", w=M4, low=np.array([lowest]))  # fmt: skip
    m, outcome = lowered(model, "bf16")
    low = next(t for t in m.graph.initializer if t.name == "low")
    assert np.isfinite(numpy_helper.to_array(low).astype(np.float32)).all()
    assert [one.clamped for one in outcome.tensors if one.name == "low"] == [1]


# --- other ------------------------------------------------------------------------------------------------


def test_an_input_that_nothing_reads():
    m = settled("g (float[2,4] x, float[3] unused) => (float[2,4] y) { y = MatMul(x, w) }", w=M4)
    assert types(m)["unused"] == FLOAT


def test_quantized_neighbours_stay():
    m = settled("""g (float[2,4] x) => (float[2,4] y) {
        a = MatMul(x, w) q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) b = MatMul(d, w) c = Relu(b)
        r = QuantizeLinear(c, s, z) e = DequantizeLinear(r, s, z) f = MatMul(e, w) g = Relu(f) y = MatMul(g, w) }""",
                share=0.1, w=M4, s=np.array(0.05), z=np.array(0, np.int8))  # fmt: skip
    assert types(m)["b"] == types(m)["d"] == FLOAT


def test_coordinates_stay():
    m = settled("g (float[1,4,8,8] x, float[1,8,8,2] p) => (float[1,4,8,8] y) { a = Conv<pads=[1,1,1,1]>(x, w) "
                "t = Tanh(p) b = GridSample(a, t) y = Conv<pads=[1,1,1,1]>(b, w) }", w=W4)  # fmt: skip
    assert types(m)["t"] == FLOAT
    assert computed_in(m)["GridSample"] == HALF


def test_recurrent_operators():
    rng = np.random.default_rng(0)
    m = settled("g (float[5,2,4] x) => (float[5,1,2,3] y, float[1,2,3] h) { a = MatMul(x, m) "
                "y, h = GRU<hidden_size=3>(a, w, r) }",
                m=M4, w=rng.standard_normal((1, 9, 4)) / 4, r=rng.standard_normal((1, 9, 3)) / 4)  # fmt: skip
    assert casts(m) == 3
