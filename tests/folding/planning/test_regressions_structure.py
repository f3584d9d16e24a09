"""What an attack found in the structure of graphs: bodies, types, names, constants. Each was a wrong or broken file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding import Options, fold_model
from folding.verification.samples import Guess, Spec, generate
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.row import out, start


def loads(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime takes the model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_a_body(m: Model, y: str, build) -> onnx.ModelProto:
    """If over a value: the one branch is built behind it, the other one is a barrier."""
    outside = len(m.nodes)
    end = build(y)
    body = m.nodes[outside:]
    result = helper.make_tensor_value_info("r", TensorProto.DOUBLE, m.at(end).shape)
    body.append(helper.make_node("Identity", [end], ["r"]))
    other = helper.make_node("Asinh", [y], ["r"])
    branches = [helper.make_graph(nodes, name, [], [result]) for name, nodes in (("then", body), ("else", [other]))]
    m.nodes[outside:] = [
        helper.make_node("If", ["taken"], ["chosen"], then_branch=branches[0], else_branch=branches[1])
    ]
    m.inputs.append(helper.make_tensor_value_info("taken", TensorProto.BOOL, []))
    m.values["chosen"] = m.at(end)
    m.feeds["taken"] = np.array(True)
    return m.build("chosen")


@pytest.mark.parametrize("taken", [True, False])
def test_a_graph_and_its_body_are_folded_together(taken):
    """The body's changes were lost with the copy of the operator that holds it."""
    m = Model()
    y = out(m, m.bn(m.conv(start(m), 4, pads=[1] * 4), name="outer"))
    before = with_a_body(
        m, y, lambda x: m.op("Asinh", m.bn(m.conv(m.bn(x, name="first"), 4, pads=[0] * 4, kernel=1), name="last"))
    )
    after, report = fold(before)
    assert report.bn_after == 0
    assert_same_function(before, after, {**m.feeds, "taken": np.array(taken)}, DIGITS[m.dtype])
    again, second = fold(after)
    assert again == after
    assert not second.changed


def test_samples_take_both_branches():
    spec = Spec("taken", np.dtype(np.bool_), ())
    assert {bool(generate([spec], Guess({}, 2), number)["taken"]) for number in range(3)} == {True, False}


@pytest.mark.parametrize("op", ["Shape", "Size"])
def test_a_branch_whose_shape_is_read_stays(op):
    m = Model()
    x = start(m)
    first, second = m.bn(m.conv(x, 4, pads=[1] * 4), name="one"), m.bn(m.conv(x, 4, kernel=1))
    end = out(m, m.op("Add", first, second))
    shape = m.op(op, second, like=x)
    m.values[shape] = np.asarray(m.at(second).shape if op == "Shape" else m.at(second).size, np.int64)
    before = m.build(end, shape)
    after, _ = fold(before)
    loads(after) if m.dtype == np.float32 else onnx.checker.check_model(after, full_check=True)


@pytest.mark.parametrize("seen", ["output", "body"])
def test_a_constant_operator_with_another_output_stays(seen):
    m = Model()
    x = m.conv(start(m), 4)
    node = helper.make_node("Split", [m.constant((8, 1, 1))], ["k", "extra"], axis=0)
    m.nodes.insert(0, node)
    m.values["k"], m.values["extra"] = np.split(m.at(node.input[0]), 2)
    y = out(m, m.op("Mul", x, "k", name=SITE))
    if seen == "output":
        before = m.build(y, "extra")
    else:
        before = with_a_body(m, y, lambda x: m.op("Asinh", m.op("Mul", x, "extra")))
    after, report = fold(before)
    assert report.changed
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_what_is_left_has_the_type_of_the_absorber():
    """A quantized weight: its constants do not show the type of the product."""
    m = Model(17, np.float32)
    w = m.op("DequantizeLinear", m.constant(np.ones((4, 5), np.int8)), m.constant(np.full(5, 0.01)), axis=1)
    x = m.op("Cast", m.op("MatMul", m.x(3, 4), w), to=TensorProto.FLOAT16)
    half = Model(17, np.float16)
    half.values, half.nodes, half.inputs, half.initializers = m.values, m.nodes, m.inputs, m.initializers
    half.bn(x)
    after, report = fold(half.build())
    assert report.bn_after == 0
    loads(after)


def test_an_unknown_type_is_not_guessed():
    """Since BatchNormalization-15 its parameters may be of another type than the data, which a custom operator hides."""
    m = Model(17, np.float32)
    m.nodes.append(
        helper.make_node("Custom", [m.x(1, 4, 5, 5, dtype=np.float16)], ["hidden"], domain="custom", name="custom")
    )
    m.values["hidden"] = m.at("x0")
    x = m.op("Reshape", "hidden", m.constant(np.array([1, 4, 5, 5])))
    m.nodes.append(
        helper.make_node(
            "Conv", [m.bn(x, gamma=1.0), m.constant((3, 4, 3, 3), dtype=np.float16)], ["y"], pads=[1] * 4, name="conv"
        )
    )
    m.values["y"] = np.zeros((1, 3, 5, 5))
    m.op("Cast", "y", to=1)
    before = m.build()
    before.opset_import.append(helper.make_opsetid("custom", 1))
    _, report = fold_model(before, NO_VERIFY)
    outcome = next(o for o in report.outcomes if o.node == SITE)
    assert outcome.status == "kept"
    _, rewritten = fold_model(before, Options(verify=False, leftover="affine"))
    assert rewritten.bn_after == 1


def test_new_operators_have_names_of_their_own():
    m = Model(17, np.float32)
    x = m.bn(m.op("MatMul", m.x(3, 4), m.constant((4, 5)), name="mm"))
    m.op("Relu", x, name="mm.add")
    after, _ = fold(m.build())
    names = [node.name for node in after.graph.node]
    assert len(names) == len(set(names))
    loads(after)


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_a_clip_that_no_runtime_computes_is_not_made(opset):
    m = Model(opset, np.float64)
    x = m.op("Relu", m.op("Gemm", m.x(3, 4), m.constant((4, 5)), m.constant((5,))))
    m.op("Add", x, m.constant(np.array(2.0)), name=SITE)
    after, report = fold(m.build())
    assert report.changed == (opset >= 12)
    loads(after)


@pytest.mark.parametrize("opset", [14, 17])
def test_a_normalization_of_a_constant_in_training_mode_is_a_constant(opset):
    """Standardized weights."""
    m = Model(opset, np.float32)
    w = m.constant((1, 4, 27))
    made = m.bn(w, name="standardized", outputs=3, training_mode=1)
    kernel = m.op("Reshape", made, m.constant(np.array([4, 3, 3, 3])))
    m.op("Relu", m.bn(m.op("Conv", m.x(2, 3, 5, 5), kernel), name="bn"))
    before = m.build()
    for freeze in (False, True):
        after, report = fold(before, replace(NO_VERIFY, freeze_training=freeze))
        assert [node.op_type for node in after.graph.node] == ["Conv", "Relu"]
        assert [(o.node, o.status) for o in report.outcomes] == [("standardized", "removed"), ("bn", "folded")]
        found, wanted = (loads(model).run(None, m.feeds)[0] for model in (after, before))
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_normalization_of_a_constant_that_goes_with_the_constant_is_listed():
    """An option does not select it, and the weight that it makes absorbs another one."""
    m = Model()
    w = m.bn(m.constant((1, 4, 27)), name="standardized")
    kernel = m.op("Reshape", w, m.constant(np.array([4, 3, 3, 3])))
    m.op("Relu", m.bn(m.op("Conv", m.x(2, 3, 5, 5), kernel), name=SITE))
    after, report = fold(m.build(), replace(NO_VERIFY, only=(SITE,)))
    assert [node.op_type for node in after.graph.node] == ["Conv", "Relu"]
    assert {(o.node, o.status) for o in report.outcomes} == {("standardized", "removed"), (SITE, "folded")}


def test_statistics_of_a_constant_that_are_read_keep_its_normalization():
    m = Model(17, np.float32)
    made = m.bn(m.constant((1, 4, 27)), name="standardized", outputs=3, training_mode=1)
    m.values[f"{made}_1"] = np.zeros(4)
    before = m.build(m.op("Relu", made), f"{made}_1")
    after, report = fold(before)
    assert after == before
    assert report.outcomes[0].backward.code == "constant-input"


def test_a_normalization_of_a_constant_that_is_an_output_stays():
    m = Model()
    m.bn(m.constant((2, 4, 6, 6)))
    before = m.build()
    after, report = fold(before)
    assert after == before
    assert report.outcomes[0].backward.code == "constant-input"


@pytest.mark.parametrize(("op", "bound"), [("Max", np.inf), ("Min", -np.inf)])
@pytest.mark.parametrize("clamp", ["never", "always"])
def test_infinite_bounds_on_the_wrong_side_are_refused(op, bound, clamp):
    m = Model()
    values = np.array([bound, 1.0, 2.0, -1.0]).reshape(4, 1, 1)
    out(m, m.bn(m.op(op, m.conv(start(m), 4), m.constant(values))))
    _, report = fold(m.build(), Options(verify=False, clamp=clamp))
    assert "non-finite" in {report.outcomes[0].backward.code}


def test_a_clip_to_infinity_is_no_clip_without_bounds():
    m = Model()
    x = m.op("Clip", m.conv(start(m), 4), m.constant(np.array(np.inf)))
    out(m, m.op("Mul", x, m.constant(np.array(-2.0)), name=SITE))
    before = m.build()
    after, _ = fold(before)
    assert after == before


def test_a_bound_beyond_float32_is_a_bound_in_double():
    m = Model(17)
    x = m.op("Clip", m.conv(start(m), 4), "", m.constant(np.array(1e39)))
    out(m, m.op("Mul", x, m.constant(np.array(0.5)), name=SITE))
    after, _ = fold(m.build())
    clip = next(n for n in after.graph.node if n.op_type == "Clip")
    values = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    assert values[clip.input[2]] == 5e38


def test_branches_of_quantized_weights_stay():
    m = Model()
    x = start(m)
    scale = m.constant(np.array(0.02))
    weights = [
        m.op("DequantizeLinear", m.constant(m.random.integers(-9, 9, s).astype(np.int8)), scale)
        for s in ((4, 4, 3, 3), (4, 4, 1, 1))
    ]
    first = m.bn(m.op("Conv", x, weights[0], pads=[1] * 4))
    out(m, m.op("Add", first, m.op("Conv", x, weights[1])))
    before = m.build()
    after, _ = fold(before)
    assert [n.op_type for n in after.graph.node].count("DequantizeLinear") == 2
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_operators_without_names_are_reported_by_their_outputs_of_today():
    m = Model()
    out(m, m.bn(m.conv(start(m), 4)))
    before = m.build()
    for node in before.graph.node:
        node.name = ""
    after, report = fold(before)
    outputs = {node.output[0] for node in after.graph.node}
    assert set(report.outcomes[0].absorbed_by) <= outputs


@pytest.mark.parametrize("op", ["MatMul", "Add", "Gemm", "Conv"])
def test_too_few_inputs_are_no_crash(op):
    m = Model()
    x = start(m, 3, 4)
    y = m.op(op, x, like=x)
    out(m, m.bn(y))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert report.outcomes[0].status == "kept"


def test_a_bias_of_another_length_is_no_crash():
    m = Model()
    x = m.op("Gemm", start(m, 3, 4), m.constant((4, 5)), m.constant((4,)), like=m.constant((3, 5)))
    out(m, m.per_channel("Mul", x))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert report.outcomes[0].status == "kept"


def test_a_reshape_to_another_size_is_no_crash():
    m = Model()
    x = m.conv(start(m), 6)
    y = m.op("Reshape", x, m.constant(np.array([2, 3, 3, 3, 4])), like=m.constant((2, 3, 3, 3, 4)))
    out(m, m.op("Mul", y, m.constant((3, 3, 1, 1)), name=SITE))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert report.outcomes[0].status == "kept"


def test_a_bias_that_became_a_scale_in_the_same_round_keeps_it():
    """The scale of the normalization was lost: the Add was still known as the bias of its MatMul."""
    m = Model()
    doubled = m.op("Mul", start(m, 2, 6, 6), m.constant(np.array(2.0)))
    sizes = m.constant(np.array([3, 3]), dtype=np.int64)
    one = m.op("Split", doubled, sizes, axis=1, outputs=2)
    other = f"{one}_1"
    joined = m.op("Concat", other, m.op("Conv", one, m.constant((3, 3, 1))), axis=1)
    product = m.op("MatMul", joined, m.constant((6, 6)))
    out(m, m.bn(m.op("Add", product, m.constant((6,)))))
    before = m.build()
    after, report = fold(before)
    assert report.bn_after == 0
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
