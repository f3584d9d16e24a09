"""Quantized weights beyond the rows: integers that stay, operator sets, types, safety, and ONNX Runtime's answers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding import Options
from tests.support.models import SITE, Model, assert_same_function, fold
from tests.support.quantized import fake, grid, weight
from tests.support.rows.quantized import SHAPE, activation, all_of, bias, conv, quantized_graph
from tests.support.rows.row import out, start


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def quantization(model: onnx.ModelProto, op: str = "DequantizeLinear", number: int = 0) -> list[np.ndarray]:
    """The constants that one of the operators reads, and its axis last."""
    node = [node for node in model.graph.node if node.op_type == op][number]
    constants = initializers(model)
    axis = next((a.i for a in node.attribute if a.name == "axis"), None)
    return [*(numpy_helper.to_array(constants[name]) for name in node.input if name in constants), axis]


def codes(model: onnx.ModelProto) -> tuple[str, str]:
    after, report = fold(model)
    site = next(outcome for outcome in report.outcomes if outcome.node == SITE)
    assert site.status == "kept"
    assert after == model
    return site.backward.code, site.forward.code


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], *, optimize: bool, tmp_path=None) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if tmp_path is not None:
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def of_conv(m: Model, w: str, gamma: object = None) -> onnx.ModelProto:
    """A scale, or a normalization, behind a Conv with this weight."""
    y = conv(m, w)
    out(m, m.bn(y) if gamma is None else m.op("Mul", y, m.constant(np.asarray(gamma, float)), name=SITE))
    return m.build()


# --- what stays, what changes ------------------------------------------------------------------------------


def test_positive_factors_leave_the_integers_byte_for_byte():
    m = Model()
    before = of_conv(m, weight(m, SHAPE, values=all_of(-128, 127)), m.random.uniform(0.1, 2, (6, 1, 1)))
    after, _ = fold(before)
    name = before.graph.node[0].input[0]
    assert initializers(after)[name] == initializers(before)[name]
    _, scale, axis = quantization(after)
    assert (scale.shape, axis) == ((6,), 0)


def test_signs_and_zeros_go_to_the_integers():
    m = Model()
    w = weight(m, SHAPE, dtype=np.uint8, zero=100, values=all_of(0, 200))
    gamma = np.array([1, -1, 0, 2, -2, 0.5]).reshape(6, 1, 1)
    before = of_conv(m, w, gamma)
    after, _ = fold(before)
    q, scale, zero_point, axis = quantization(after)
    old, old_scale, old_zero, _ = quantization(before)
    np.testing.assert_array_equal(q[[0, 3, 5]], old[[0, 3, 5]])
    np.testing.assert_array_equal(q[[1, 4]], 200 - old[[1, 4]])
    np.testing.assert_array_equal(q[2], 100)
    np.testing.assert_allclose(scale, old_scale * [1, 1, 1, 2, 2, 0.5])
    assert (scale > 0).all()
    assert (q.dtype, zero_point.dtype, zero_point.tolist(), axis) == (np.uint8, old_zero.dtype, [100] * 6, 0)


def test_one_factor_leaves_one_scale():
    m = Model()
    after, _ = fold(of_conv(m, weight(m, SHAPE, (1,), np.int8, 7), 0.5))
    _, scale, zero_point, axis = quantization(after)
    assert (scale.shape, zero_point.tolist(), axis) == ((1,), [7], None)


def test_a_scaled_bias_keeps_the_product_of_scales():
    m = Model()
    y = conv(m, weight(m, SHAPE), bias(m, (), zero=0))
    out(m, m.per_channel("Mul", y))
    before = m.build()
    after, _ = fold(before)
    weights, biases = quantization(after), quantization(after, number=1)
    ratio = quantization(before, number=1)[1] / quantization(before)[1]
    np.testing.assert_allclose(biases[1], weights[1] * ratio)
    assert biases[0].dtype == biases[2].dtype == np.int32
    assert biases[-1] == 0


def test_two_folds_meet_in_one_scale():
    """The second fold sums over the weight: it must see the first one."""
    m = Model()
    w = weight(m, SHAPE, (6,), np.int8, 3, axis=0)
    out(m, m.bn(conv(m, w, x=m.per_channel("Add", start(m), "shift")), name="bn"))
    before = m.build()
    after, report = fold(before)
    assert [outcome.status for outcome in report.outcomes] == ["folded"] * 2
    assert_same_function(before, after, m.feeds, 1e-12)


def test_a_fake_quantized_weight_keeps_its_integers_in_any_arithmetic(tmp_path):
    m = Model(dtype=np.float32)
    x = m.x(1, 64, 8, 8)
    out(m, m.bn(conv(m, fake(m, (64, 64, 3, 3)), x=x)))
    before = m.build()
    after, _ = fold(before)
    w, scale, zero_point, axis = quantization(after, "QuantizeLinear")
    old, old_scale, _, _ = quantization(before, "QuantizeLinear")
    assert quantization(after)[0].tolist() == scale.tolist()
    assert (zero_point.shape, axis, quantization(after)[-1]) == ((64,), 0, 0)
    quotient = w / scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(quotient, np.rint(quotient), atol=1e-4)  # as far from a tie as can be
    np.testing.assert_array_equal(np.abs(np.rint(quotient)), np.abs(np.rint(old / old_scale)))
    expected = run(before, m.feeds, optimize=False)
    np.testing.assert_allclose(run(after, m.feeds, optimize=False), expected, atol=1e-4)


def test_a_fake_quantized_weight_refuses_to_lose_its_integers():
    m = Model()
    assert codes(of_conv(m, fake(m, SHAPE), 1e-322)) == ("underflow", "barrier")


# --- operator sets and types -------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23])
def test_operator_sets(opset):
    m = Model(opset)
    before = of_conv(m, weight(m, SHAPE, dtype=np.int8, zero=0))
    if opset < 13:
        before = of_conv(m := Model(opset), weight(m, SHAPE), np.arange(1.0, 7).reshape(6, 1, 1))
        assert codes(before) == ("old-opset", "barrier")
    else:
        after, report = fold(before)
        assert report.bn_after == 0
        assert_same_function(before, after, m.feeds, 1e-12)


def test_one_factor_needs_no_axis():
    m = Model(10)
    before = of_conv(m, weight(m, SHAPE), -0.5)
    after, _ = fold(before)
    assert len(after.graph.node) == len(before.graph.node) - 1
    assert_same_function(before, after, m.feeds, 1e-12)


def test_before_opset_13_a_vector_of_scales_is_an_error():
    m = Model(10)
    w = m.op("DequantizeLinear", m.constant(np.ones(SHAPE, np.int8)), m.constant((6,)), like=m.constant(SHAPE))
    assert codes(of_conv(m, w)) == ("parameters", "barrier")


@pytest.mark.parametrize(
    ("scales", "zero", "axis"), [((5,), None, 0), ((6,), (5,), 0), ((6,), None, 4), ((6,), None, -5), ((6, 1), None, 0)]
)
def test_parameters_that_do_not_fit(scales, zero, axis):
    m = Model(17)
    given = [m.constant(np.ones(SHAPE, np.int8)), m.constant(scales)]
    given += [] if zero is None else [m.constant(np.zeros(zero, np.int8))]
    w = m.op("DequantizeLinear", *given, axis=axis, like=m.constant(SHAPE))
    assert codes(of_conv(m, w)) == ("parameters", "barrier")


@pytest.mark.parametrize(
    "dtype",
    [np.int8, np.uint8, np.int16, np.uint16, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float8_e4m3fn, np.int32],
)
@pytest.mark.parametrize("zero", [None, 7, 0])
def test_types_of_integers(dtype, zero):
    m = Model(21)
    q = m.random.integers(1, 14, SHAPE).astype(dtype)
    zero = None if dtype in (np.int32, ml_dtypes.float8_e4m3fn, ml_dtypes.int4) else zero
    if dtype is ml_dtypes.int4:
        q = m.random.integers(-7, 8, SHAPE).astype(dtype)
    if zero == 0 and np.dtype(dtype).kind != "i":
        zero = 7
    before = of_conv(m, weight(m, SHAPE, (), dtype, zero, q), np.array([1, -1, 2, 0.5, -2, 0]).reshape(6, 1, 1))
    signed = zero is not None or "u" not in np.dtype(dtype).name
    if not signed:
        assert codes(before) == ("quantized-sign", "barrier")
        return
    after, report = fold(before)
    assert report.outcomes[0].status == "folded"
    assert quantization(after)[0].dtype == dtype
    assert_same_function(before, after, m.feeds, 1e-12)


@pytest.mark.parametrize("zero", [None, 8])
def test_an_odd_number_of_four_bit_integers(zero):
    m = Model(21)
    y = m.op("MatMul", start(m, 3, 5), weight(m, (5, 3), (), ml_dtypes.uint4 if zero else ml_dtypes.int4, zero))
    out(m, m.per_channel("Mul", y))
    before = m.build()
    after, _ = fold(before)
    assert len(initializers(after)[after.graph.node[1].input[0]].raw_data) == 8
    assert_same_function(before, after, m.feeds, 1e-12)


@pytest.mark.parametrize("axis", [0, -2])
@pytest.mark.parametrize("rows", [6, 7])
def test_blocks(axis, rows):
    m = Model(21)
    counts = (-(-rows // 3), 4)
    w = weight(m, (rows, 4), counts, ml_dtypes.uint4, 8, axis=axis, block_size=3)
    out(m, m.bn(m.op("MatMul", start(m, 2, rows), w)))
    before = m.build()
    after, report = fold(before)
    assert report.bn_after == 0
    assert quantization(after)[1].shape == counts
    assert_same_function(before, after, m.feeds, 1e-12)


@pytest.mark.parametrize(("scale", "folds"), [([2, 2, -2, 3, 3, -3, 4], True), ([2, 2, 1, 3, 3, 3, 4], False)])
def test_a_map_that_varies_between_or_within_blocks(scale, folds):
    m = Model(21)
    w = weight(m, (7, 4), (3, 4), axis=0, block_size=3)
    x = m.op("Mul", start(m, 2, 7), m.constant(np.array(scale, float)), name=SITE)
    out(m, m.op("MatMul", x, w))
    before = m.build()
    if folds:
        after, report = fold(before)
        assert report.outcomes[0].status == "folded"
        assert_same_function(before, after, m.feeds, 1e-12)
    else:
        assert codes(before) == ("barrier", "quantized-axis")


@pytest.mark.parametrize("columns", [6, 7])
def test_blocks_along_the_last_axis(columns):
    m = Model(21)
    w = weight(m, (4, columns), (4, -(-columns // 3)), axis=1, block_size=3)
    y = m.op("Gemm", m.per_channel("Add", start(m, 2, columns), name="shift"), w, m.constant((4,)), transB=1)
    out(m, m.bn(y))
    before = m.build()
    after, report = fold(before)
    assert [outcome.status for outcome in report.outcomes] == ["folded", "folded"]
    assert_same_function(before, after, m.feeds, 1e-12)


@pytest.mark.parametrize("rows", [6, 7])
def test_a_shift_through_blocks(rows):
    """What the shift adds is computed of the values that the blocks stand for."""
    m = Model(21)
    w = weight(m, (rows, 4), (-(-rows // 3), 4), axis=0, block_size=3)
    y = m.op("MatMul", m.per_channel("Add", start(m, 2, rows)), w)
    out(m, m.op("Add", y, m.constant((4,))))
    before = m.build()
    after, report = fold(before)
    assert report.outcomes[0].status != "kept"
    assert_same_function(before, after, m.feeds, 1e-12)


def test_blocks_that_do_not_fit():
    m = Model(21)
    given = [m.constant(np.ones((7, 4), np.int8)), m.constant((2, 4))]
    w = m.op("DequantizeLinear", *given, axis=0, block_size=3, like=m.constant((7, 4)))
    out(m, m.bn(m.op("MatMul", start(m, 2, 7), w)))
    assert codes(m.build()) == ("parameters", "barrier")


@pytest.mark.parametrize(("scales", "output_dtype"), [(np.float16, None), (ml_dtypes.bfloat16, None), (np.float32, 10)])
def test_the_scale_is_rounded_once_to_its_type(scales, output_dtype):
    m = Model(23, np.float16)
    q = m.constant(m.random.integers(-127, 128, SHAPE).astype(np.int8))
    exact = np.asarray(0.0123).astype(scales)
    extra = {} if output_dtype is None else {"output_dtype": output_dtype}
    w = m.op("DequantizeLinear", q, m.constant(exact, dtype=scales), **extra)
    gamma = m.random.uniform(0.5, 1.5, (6, 1, 1))
    m.dtype = np.dtype(np.float16 if scales is np.float32 else scales)
    after, _ = fold(of_conv(m, w, gamma))
    stored = gamma.astype(m.dtype).astype(np.float64).reshape(-1)
    expected = stored * np.float64(exact)
    _, scale, _ = quantization(after)
    assert scale.dtype == scales
    near = expected.astype(np.float32).astype(scales)
    np.testing.assert_array_equal(scale.astype(np.float64), near.astype(np.float64))


@pytest.mark.parametrize("case", ["float16", "precision", "float8"])
def test_integers_that_a_runtime_may_choose(case):
    m = Model(23, np.float16 if case == "float16" else np.float32)
    extra = {"precision": TensorProto.FLOAT} if case == "precision" else {}
    extra |= {"output_dtype": TensorProto.FLOAT8E4M3FN} if case == "float8" else {}
    scale, w = m.constant(np.array(0.02)), m.constant(SHAPE)
    w = m.op("QuantizeLinear", w, scale, like=w, **extra)
    assert codes(of_conv(m, m.op("DequantizeLinear", w, scale, like=w))) == ("quantized", "barrier")


def test_integers_without_a_zero_point_have_the_type_given():
    m = Model(21)
    scale, w = m.constant(np.array(0.02)), m.constant(SHAPE)
    q = m.op("QuantizeLinear", w, scale, output_dtype=TensorProto.INT16)
    before = of_conv(m, m.op("DequantizeLinear", q, scale))
    after, report = fold(before)
    assert report.bn_after == 0
    assert_same_function(before, after, m.feeds, 1e-12)


# --- safety ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op", ["QLinearAdd", "QGemm", "QuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention"]
)
def test_operators_of_onnx_runtime_are_recognized(op):
    m = Model()
    x = m.bn(start(m))
    m.nodes.append(helper.make_node(op, [x], ["y"], domain="com.microsoft"))
    m.values["y"] = m.at(x)
    before = m.build("y")
    before.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert codes(before)[1] == "quantized"


def test_dynamic_quantization_is_recognized():
    m = Model()
    x = m.bn(start(m))
    m.op("DynamicQuantizeLinear", x, outputs=3, like=x)
    assert codes(m.build()) == ("barrier", "quantized")


def test_a_dequantized_weight_that_is_an_output_stays():
    m = Model()
    w = weight(m, SHAPE)
    y = out(m, m.per_channel("Mul", conv(m, w)))
    assert codes(m.build(y, w)) == ("graph-output", "barrier")


def test_a_dequantized_weight_of_the_enclosing_graph_stays():
    m = Model()
    x, w = start(m), weight(m, SHAPE)
    outside = len(m.nodes)
    y = out(m, m.per_channel("Mul", conv(m, w, x=x)))
    body = m.nodes[outside:]
    result = helper.make_tensor_value_info(y, TensorProto.DOUBLE, m.at(y).shape)
    then, otherwise = (helper.make_graph(body, name, [], [result]) for name in ("then", "else"))
    condition = m.constant(np.array(True))
    choice = helper.make_node("If", [condition], ["chosen"], then_branch=then, else_branch=otherwise)
    m.nodes[outside:] = [choice]
    m.values["chosen"] = m.at(y)
    assert codes(m.build()) == ("outer-scope", "barrier")


def test_an_option_keeps_the_quantization():
    m = Model()
    before = of_conv(m, weight(m, SHAPE), 0.5)
    _, report = fold(before, Options(verify=False, keep=(before.graph.node[0].name,)))
    assert report.outcomes[0].backward.code == "kept-by-option"


# --- in ONNX Runtime ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_quantized_graph_is_still_computed_with_integers(opset, tmp_path):
    """The bias becomes a float constant, which ONNX Runtime quantizes itself: the Conv is still fused."""
    m = Model(opset, np.float32)
    quantized_graph(m)
    before = m.build()
    after, report = fold(before, Options())
    assert report.verification.status == "verified"
    assert report.bn_after == 0
    assert [n.op_type for n in after.graph.node].count("DequantizeLinear") == 3
    expected = run(before, m.feeds, optimize=False)
    step = quantization(before, number=3)[0]
    for optimize in (False, True):
        found = run(after, m.feeds, optimize=optimize, tmp_path=tmp_path)
        assert np.abs(found - expected).max() <= step * 1.01
    assert "QLinearConv" in [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda m: m.bn(conv(m, weight(m, SHAPE, (), np.uint8, 128))),
        lambda m: m.bn(conv(m, weight(m, SHAPE, (6,), np.int8, 0, axis=0), x=activation(m))),
        lambda m: m.bn(conv(m, fake(m, SHAPE), x=activation(m))),
        lambda m: m.bn(m.op("MatMul", start(m, 3, 4), weight(m, (4, 5), (2, 5), ml_dtypes.int4, axis=0, block_size=2))),
        lambda m: m.bn(
            m.op("Gemm", start(m, 3, 4), m.op("Transpose", weight(m, (5, 4), dtype=ml_dtypes.uint4, zero=8)))
        ),
        lambda m: m.per_channel("Mul", conv(m, weight(m, SHAPE), bias(m, (), zero=0), x=activation(m))),
    ],
)
def test_onnx_runtime_agrees(make, optimize):
    m = Model(21, np.float32, ir=10)
    out(m, make(m))
    before = m.build()
    after, report = fold(before)
    assert len(after.graph.node) <= len(before.graph.node)
    assert {outcome.status for outcome in report.outcomes} <= {"folded", "split"}
    expected = run(before, m.feeds, optimize=False)
    np.testing.assert_allclose(run(after, m.feeds, optimize=optimize), expected, atol=1e-4 * np.abs(expected).max())


def test_the_references_agree_with_onnx_runtime():
    m = Model(21, np.float32, ir=10)
    parameters = grid(m, (3, 2), np.uint8, 100)
    q = m.op("QuantizeLinear", m.x(6, 2), *parameters, axis=0, block_size=2)
    m.op("DequantizeLinear", q, *parameters, axis=0, block_size=2)
    model = m.build()
    np.testing.assert_allclose(run(model, m.feeds, optimize=False), m.at(m.nodes[-1].output[0]), atol=1e-6)
