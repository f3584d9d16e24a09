"""What users of released converters met, second half: files, constants, types, nested graphs. See `test_traps`."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from folding import Options, fold
from folding.precision.lower import flushes
from tests.support.lowering import (
    FLOAT,
    HALF,
    assert_close,
    casts,
    folded,
    lowered,
    parsed,
    random_feeds,
    settled,
    types,
)

W4 = np.random.default_rng(0).standard_normal((4, 4, 3, 3)) / 6
M4 = np.random.default_rng(1).standard_normal((4, 4)) / 2
LOWEST = float(np.finfo(np.float16).min)
ROWS, COLUMNS = 1024, 540_000  # of a matrix of 2.2 GB


def lowered_without_inference(model):
    """The lowered graph of a model with operators that onnx cannot infer."""
    from folding import onnxfile  # noqa: PLC0415
    from folding.analysis import shapes  # noqa: PLC0415
    from folding.analysis.values import indexed  # noqa: PLC0415
    from folding.editing.writeback import write_back  # noqa: PLC0415
    from folding.precision.lower import lower  # noqa: PLC0415

    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        lower(graph, "fp16")
        write_back(graph)
        result = onnx.ModelProto.FromString(onnxfile.to_bytes(file))
    onnx.checker.check_model(result)
    return result.graph


@pytest.mark.parametrize("form", ["beside", "over 2 GB"])
def test_17_files_with_external_data(tmp_path, form):
    """The large file has zeros, which are not stored, and its last column."""
    columns = 5 if form == "beside" else COLUMNS
    last = np.arange(1, columns + 1, dtype=np.float32)[-5:] / columns
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(ROWS * columns * 4)
        file.seek((ROWS * columns - last.size) * 4)
        file.write(last.tobytes())
    model = parsed(f"g (float[1,{ROWS}] x) => (float[1,{columns}] y) {{ a = MatMul(x, w) y = Relu(a) }}")
    tensor = model.graph.initializer.add(name="w", data_type=FLOAT, dims=[ROWS, columns], data_location=1)
    tensor.external_data.add(key="location", value="weights")
    (tmp_path / "out").mkdir()
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    options = Options(verify=form == "beside", precision="fp16")
    report = fold(tmp_path / "model.onnx", tmp_path / "out" / "half.onnx", options)
    assert {placed.dtype for placed in report.types} == {"float16"}
    result = onnx.load(tmp_path / "out" / "half.onnx", load_external_data=False)
    (weight,) = result.graph.initializer
    assert weight.data_type == HALF
    place = {entry.key: entry.value for entry in weight.external_data}
    where = int(place["offset"]) + int(place["length"]) - last.size * 2
    assert int(place["length"]) == ROWS * columns * 2
    with (tmp_path / "out" / place["location"]).open("rb") as file:
        file.seek(where)
        assert np.array_equal(np.frombuffer(file.read(last.size * 2), np.float16), last.astype(np.float16))


def test_22_every_clamp_is_reported():
    model = parsed("""g (float[3,4] x, bool[3,4] k, int64[2] n) => (float[3,4] y) {
        a = MatMul(x, w) f = ConstantOfShape<value = float[1] {-1000000000.0}>(n) b = Where(k, a, f)
        c = Where(k, b, low) s = Softmax<axis=-1>(c) d = MatMul(s, w) e = Clip(d, bottom, top) y = MatMul(e, w) }""",
                   w=M4, low=np.array([-3.4e38, 1, 2, -1e6]), bottom=np.array(-1e9), top=np.array(7e4))  # fmt: skip
    feeds = random_feeds(model) | {"n": np.array([3, 4])}
    m, outcome = lowered(model)
    assert casts(m) == 2
    assert {one.name: one.clamped for one in outcome.rounded() if one.clamped} == {
        "f": 1,
        "low": 2,
        "bottom": 1,
        "top": 1,
    }
    (change,) = [change for change in outcome.changes if "clamped" in change.kind]
    assert change.count == 4
    assert_close(model, m, feeds, 0.05)


def test_25_a_function_that_is_called_with_two_types():
    model = parsed(
        "g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Relu(a) m = MatMul(b, w) c = Relu(m) "
        "y = MatMul(c, w) }",
        w=M4,
    )
    body = [helper.make_node("Mul", ["p", "p"], ["q"]), helper.make_node("Tanh", ["q"], ["r"])]
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("local", "f", ["p"], ["r"], body, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    for node, name in zip(model.graph.node[1:4:2], ("first", "second"), strict=True):
        node.op_type, node.domain, node.name = "f", "local", name
    m, report = folded(model, "fp16", random_feeds(model), keep_fp32=("second*",))
    onnx.checker.check_model(m, full_check=True)
    assert not m.functions
    assert {placed.dtype for placed in report.types if placed.op == "Tanh"} == {"float16", "float32"}
    assert_close(model, m, random_feeds(model))


@pytest.mark.parametrize("io_types", ["keep", "lower"])
def test_27_a_cast_before_an_output_of_16_bits(io_types):
    model = parsed("g (float[2,4] x) => (float16[2,4] y, float[2,4] z) { a = MatMul(x, w) y = Cast<to=10>(a) "
                   "z = Relu(a) }", w=M4)  # fmt: skip
    m, _ = folded(model, "fp16", random_feeds(model), io_types=io_types)
    onnx.checker.check_model(m, full_check=True)
    assert [value.name for value in m.graph.output] == ["y", "z"]
    assert [types(m)[name] for name in "yz"] == [HALF, FLOAT if io_types == "keep" else HALF]
    assert folded(m, "fp16", random_feeds(model), io_types=io_types)[0] == m


@pytest.mark.parametrize(("target", "is_noted"), [("onnxruntime-cpu", True), ("onnxruntime-cuda", False)])
def test_29_a_target_that_computes_in_float32_anyway(target, is_noted):
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }", w=M4)
    _, report = folded(model, "fp16", random_feeds(model), target=target, allow_fallback=True)
    assert any("cost more than float16 saves" in note for note in report.notes) == is_noted


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_32_sqrt_and_div_of_numbers_whose_squares_vanish(precision):
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) p = Mul(a, a) v = ReduceSum(p, axes) "
                   "s = Sqrt(v) b = Div(a, s) y = MatMul(b, m) }", w=np.eye(4), m=M4, axes=np.array([-1]))  # fmt: skip
    feeds = {"x": np.array([[1e-4, -2e-4, 3e-5, 0], [1, 2, 3, 4]], np.float32)}
    m, _ = folded(model, precision, feeds)
    assert types(m)["v"] == types(m)["s"] == FLOAT
    assert_close(model, m, feeds)


@pytest.mark.parametrize("form", ["node", "sparse", "floats", "initializer"])
def test_18_constants_in_every_form(form):
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
def test_19_a_constant_of_both_types_has_a_copy_for_each(form):
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


def test_20_an_initializer_that_is_an_output_stays():
    m = settled("g (float[2,4] x) => (float[2,4] y, float[4,4] w) { a = MatMul(x, w) y = MatMul(a, w) }", w=M4)
    assert types(m)["w"] == FLOAT
    assert types(m)["w_float16"] == HALF


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
def test_21_types_that_attributes_name(text, io_types):
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


def test_23_captures_and_branches_of_one_type():
    m = settled("""g (float[2,4] x, bool c) => (float[2,4] y) {
        a = MatMul(x, w)
        b = If(c) <then_branch = t () => (float[2,4] p) { q = Mul(a, big) p = Div(q, big) },
                   else_branch = e () => (float[2,4] s) { s = MatMul(a, w) }>
        y = MatMul(b, w) }""", w=M4, big=np.array([1e6]))  # fmt: skip
    branches = {a.name: a.g for n in m.graph.node if n.op_type == "If" for a in n.attribute}
    assert {g.output[0].type.tensor_type.elem_type for g in branches.values()} == {HALF}
    assert [n.op_type for n in branches["then_branch"].node] == ["Mul", "Div", "Cast"]


def test_23_a_branch_that_returns_what_is_outside_or_constant():
    settled("""g (float[2,4] x, bool c) => (float[2,4] y) {
        a = MatMul(x, w)
        b = If(c) <then_branch = t () => (float[2,4] p) { p = Identity(x) },
                   else_branch = e () => (float[2,4] s) <float[2,4] s = {1,2,3,4,5,6,7,8}> { }>
        d = Add(a, b) y = MatMul(d, w) }""", w=M4)  # fmt: skip


def test_24_a_loop_with_carried_values_and_a_scalar_count():
    m = settled("""g (float[2,4] x, int64 n, bool go) => (float[2,4] y, float[k,2,4] z) {
        a = MatMul(x, w)
        y, z = Loop(n, go, a) <body = b (int64 i, bool c, float[2,4] s) => (bool d, float[2,4] t, float[2,4] u) {
            d = Identity(c) f = Cast<to=1>(i) v = MatMul(s, w) t = Add(v, f) u = Relu(t) }> }""",
                feeds={"x": np.ones((2, 4), np.float32), "n": np.array(3), "go": np.array(True)}, w=M4 / 2)  # fmt: skip
    body = next(a.g for n in m.graph.node if n.op_type == "Loop" for a in n.attribute)
    assert body.input[2].type.tensor_type.elem_type == HALF
    assert body.output[1].type.tensor_type.elem_type == HALF


def test_26_recorded_types_are_brought_up_to_date():
    model = parsed("g (float[2,4] x) => (float[2,4] y) <float[2,4] a, float[2,4] b> { a = MatMul(x, w) b = Relu(a) "
                   "y = MatMul(b, w) }", w=M4)  # fmt: skip
    assert {v.name for v in model.graph.value_info} == {"a", "b"}
    m, _ = lowered(model)
    assert {v.name: v.type.tensor_type.elem_type for v in m.graph.value_info} == {"a": HALF, "b": HALF}


def test_28_operators_of_other_domains_read_float32():
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }", w=M4)
    model.graph.node[1].domain = "com.microsoft"
    model.graph.node[1].op_type = "Gelu"
    model.opset_import.insert(0, helper.make_opsetid("com.microsoft", 1))
    graph = lowered_without_inference(model)
    gelu = next(n for n in graph.node if n.op_type == "Gelu")
    cast = next(n for n in graph.node if n.output[0] == gelu.input[0])
    assert cast.op_type == "Cast"
    assert cast.attribute[0].i == FLOAT


def test_30_an_export_in_half_with_an_island_is_completed():
    text = """g (float16[2,4] x) => (float16[2,4] y) {
        a = MatMul(x, w) b = Cast<to=1>(a) c = Relu(b) d = Add(c, one) e = Cast<to=10>(d) y = MatMul(e, w) }"""
    model = parsed(text, w=M4.astype(np.float16), one=np.array([1.0]))
    m, outcome = lowered(model)
    assert outcome.changes
    assert casts(m) == 0
    assert_close(model, m, random_feeds(model))


def test_30_an_island_that_needs_float32_stays():
    text = """g (float16[2,4] x) => (float16[2,4] y) {
        a = MatMul(x, w) b = Cast<to=1>(a) c = Mul(b, big) d = Div(c, big) e = Cast<to=10>(d) y = MatMul(e, w) }"""
    model = parsed(text, w=M4.astype(np.float16), big=np.array([1e6]))
    _, outcome = lowered(model)
    assert not outcome.changes


def test_31_weights_are_counted():
    w = M4.copy()
    w[0, 0], w[0, 1], w[0, 2] = 1e-9, 3e-6, 0.0
    model = parsed("g (float[2,4] x) => (float[2,4] y) { a = MatMul(x, w) y = Relu(a) }", w=w)
    _, outcome = lowered(model)
    (one,) = outcome.rounded()
    assert (one.name, one.elements, one.clamped, one.subnormal, one.flushed) == ("w", 16, 0, 1, 1)
    assert any("became zero" in change.kind for change in flushes(outcome.rounded()))


def test_33_an_input_that_nothing_reads():
    m = settled("g (float[2,4] x, float[3] unused) => (float[2,4] y) { y = MatMul(x, w) }", w=M4)
    assert types(m)["unused"] == FLOAT


def test_34_an_input_that_does_not_fit_keeps_its_first_operators():
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
