"""What lowering makes of small models: types, Casts, values; what users of released converters met is in test_traps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, shape_inference

from tests.support.lowering import (
    BRAIN,
    FLOAT,
    HALF,
    assert_close,
    casts,
    computed_in,
    lowered,
    parsed,
    random_feeds,
    settled,
    types,
)

W4 = np.random.default_rng(0).standard_normal((4, 4, 3, 3)) / 6
M4 = np.random.default_rng(1).standard_normal((4, 4)) / 2


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


def test_a_large_constant_that_is_no_mask_keeps_its_readers():
    m = settled("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Add(a, low) c = Div(b, low) "
                "y = MatMul(c, w) }",
                w=M4, low=np.array([-1e9]))  # fmt: skip
    assert types(m)["b"] == types(m)["c"] == FLOAT


def test_what_no_caller_may_override_only():
    model = parsed("g (float[2,4] x, float[4,4] w) => (float[2,4] y) { a = MatMul(x, w) y = MatMul(a, w) }", w=M4)
    m, _ = lowered(model)
    assert types(m)["w"] == FLOAT
    assert_close(model, m, random_feeds(model))
    model.ir_version = 3
    m, _ = lowered(model)
    assert types(m)["w"] == HALF
    assert {v.name: v.type.tensor_type.elem_type for v in m.graph.input} == {"x": FLOAT, "w": HALF}


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


def test_a_graph_output_that_is_read_inside_keeps_its_name():
    m = settled(
        "g (float[2,4] x) => (float[2,4] a, float[2,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }", w=M4
    )
    relu = next(n for n in m.graph.node if n.op_type == "Relu")
    assert types(m)[relu.input[0]] == HALF
    assert casts(m) == 3


def test_two_16_bit_types_are_refused():
    model = parsed("g (float16[2,4] x) => (float16[2,4] y) { y = MatMul(x, w) }", w=M4.astype(np.float16))
    _, outcome = lowered(model, "bf16")
    assert "float16" in outcome.reason


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
    assert not any(one.clamped for one in outcome.rounded())


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


def test_strings_have_no_bounds():
    text = """g (float[2,4] x) => (float[2,4] y, string[2] z) { y = MatMul(x, w) i = ArgMax<axis=1, keepdims=0>(y)
        z = Gather(labels, i) }"""
    m, _ = lowered(parsed(text, w=M4, labels=np.array(["a", "b", "c", "d"], object)))
    assert types(m)["w"] == HALF


@pytest.mark.parametrize("form", ["an initializer", "a Constant"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_recorded_type_of_a_constant_follows_it(form, precision):
    text = "g (float[2,4] x) => (float[2,4] y) {{ {} a = MatMul(x, w) b = Div(k, a) y = MatMul(b, w) }}"
    if form == "a Constant":
        model = parsed(text.format("k = Constant<value = float {2}>()"), w=M4)
    else:
        model = parsed(text.format(""), w=M4, k=np.array(2.0))
    model = shape_inference.infer_shapes(model)
    if form == "an initializer":
        model.graph.value_info.append(helper.make_tensor_value_info("k", FLOAT, ()))
    assert "k" in {value.name for value in model.graph.value_info}
    m, _ = lowered(model, precision)
    onnx.checker.check_model(m, full_check=True)
    assert FLOAT not in {value.type.tensor_type.elem_type for value in m.graph.value_info if value.name == "k"}
