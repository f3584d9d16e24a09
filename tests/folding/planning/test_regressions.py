"""Models that once came out wrong, invalid, or not at all; each row names what went wrong."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from folding import ModelError, Options, fold_model
from folding.graph import weights
from folding.graph.weights import Weight, rounded
from folding.pipeline import attempts
from tests.support import structures
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.row import Kept, into, judge, out, start

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def status(report, name=SITE):
    return next(o.status for o in report.outcomes if o.node == name)


@pytest.mark.parametrize(("dtype", "small"), [(np.float16, 1e-4), (np.float32, 1e-25), (BFLOAT16, 1e-25)])
def test_merged_scales_do_not_vanish(dtype, small):
    """Two small factors made a Mul by zero, and the samples were too small to show it."""
    m = Model(dtype=dtype, opset=22)
    x = m.op("Mul", start(m), m.constant(np.full((1, 4, 1, 1), small)), name=SITE)
    out(m, m.op("Mul", x, m.constant(np.full((1, 4, 1, 1), small))))
    before = m.build()
    after, report = fold(before)
    assert status(report) == "kept"
    assert after == before


def test_a_scale_merged_into_gamma_does_not_vanish():
    m = Model(dtype=np.float16)
    x = m.op("Mul", start(m), m.constant(np.full((1, 4, 1, 1), 1e-4)), name=SITE)
    parameters = [m.constant(np.full(4, v)) for v in (1e-4, 1.0, 0.0, 1.0)]
    out(m, m.op("BatchNormalization", x, *parameters, name="bn"))
    after, report = fold(m.build())
    assert status(report) == "kept"
    assert len(after.graph.node) == 4


def test_a_large_beta_does_not_swallow_the_bias():
    """C became shift / beta, which fp16 could not hold."""
    m = Model(dtype=np.float16)
    x = m.op("Gemm", start(m, 3, 4), m.constant((4, 4)), beta=1e6)
    parameters = [m.constant(np.full(4, v)) for v in (1.0, 1e-2, 0.0, 1.0)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE))
    after, report = fold(m.build())
    assert status(report) == "folded"
    bias = numpy_helper.to_array(next(t for t in after.graph.initializer if t.dims == [4]))
    np.testing.assert_array_equal(bias, np.float16(1e-2))


def test_underflow_is_judged_along_every_factor():
    """A factor on the inputs made one input channel subnormal; only the factor on the outputs was looked at."""
    m = Model(dtype=np.float16)
    c = np.ones((1, 4, 1))
    c[0, 0] = 1e-5
    w = m.constant(m.random.uniform(0.01, 0.02, (3, 4, 3)))
    x = m.op("Mul", start(m, 1, 4, 8), m.constant(c), name=SITE)
    out(m, m.op("Mul", m.op("Conv", x, w), m.constant(np.full((1, 3, 1), 0.9)), name="behind"))
    _, report = fold(m.build())
    assert (status(report), status(report, "behind")) == ("kept", "folded")


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_an_affine_does_not_pass_an_integer(kind):
    m = Model(dtype=np.float16)
    x = m.bn(start(m, 3, 4))
    x = m.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    m.dtype = np.dtype(np.float64)
    out(m, m.op("MatMul", m.op("Cast", x, to=onnx.TensorProto.DOUBLE), m.constant((4, 5))))
    _, report = fold(m.build())
    judge(report.outcomes[0], Kept("barrier", "narrower-type"), {})


def test_a_name_that_means_two_things_is_no_constant():
    """A body's own initializer hid the outer one from us, and the outer one hid it from ONNX Runtime."""
    m = Model()
    x = start(m)
    y = m.bn(m.conv(x, 6))
    body, m.nodes = m.nodes[-2:], m.nodes[:-2]
    inside = [numpy_helper.from_array(2 * m.initializers["c0"], "c0")]
    kind, shape = helper.np_dtype_to_tensor_dtype(m.dtype), m.at(y).shape
    branches = [
        helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(o, kind, shape)], tensors)
        for name, nodes, o, tensors in (
            ("then", body, y, inside),
            ("else", [], "zeros", [numpy_helper.from_array(np.zeros(shape), "zeros")]),
        )
    ]
    condition = m.constant(np.array(True), name="condition")
    m.nodes.append(helper.make_node("If", [condition], ["chosen"], then_branch=branches[0], else_branch=branches[1]))
    m.values["chosen"] = m.at(y)
    before = m.build("chosen")
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("weight-not-constant", "graph-output"), {})
    assert after == before


def test_functions_named_add_or_mul_keep_folds_from_making_such_nodes():
    m = Model()
    out(m, m.bn(m.op("MatMul", start(m, 3, 4), m.constant((4, 5)))))
    before = m.build()
    body = [helper.make_node("Identity", ["x"], ["y"])]
    before.functions.append(helper.make_function("", "Add", ["x", "w"], ["y"], body, [helper.make_opsetid("", 17)]))
    _, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("custom-domain", "barrier"), {})


def test_what_is_declared_of_a_constant_of_another_shape_goes():
    m = Model()
    out(m, m.bn(m.op("Gemm", start(m, 3, 4), m.constant((4, 5)), m.constant((1,)))))
    before = m.build()
    before.graph.value_info.append(helper.make_tensor_value_info("c1", 11, (1,)))
    after, _ = fold(before)
    onnx.checker.check_model(after, full_check=True)


@pytest.mark.parametrize("form", ["affine", "conv"])
def test_empty_trailing_outputs_do_not_survive_a_rewrite(form):
    m = Model(dtype=np.float32)
    out(m, m.bn(start(m)))
    before = m.build()
    before.graph.node[1].output.extend(["", ""])
    after, _ = fold(before, Options(verify=False, leftover=form))
    assert all(len(node.output) == 1 for node in after.graph.node)


def test_before_ir_4_bodies_gain_no_initializers():
    m = Model(opset=8, ir=3)
    x = start(m)
    y = m.bn(m.conv(x, 6))
    body, m.nodes = m.nodes[-2:], m.nodes[:-2]
    kind, shape = helper.np_dtype_to_tensor_dtype(m.dtype), m.at(y).shape
    then = helper.make_graph(body, "then", [], [helper.make_tensor_value_info(y, kind, shape)])
    zeros = helper.make_node("Constant", [], ["zeros"], value=numpy_helper.from_array(np.zeros(shape), "z"))
    otherwise = helper.make_graph([zeros], "else", [], [helper.make_tensor_value_info("zeros", kind, shape)])
    condition = m.constant(np.array(True), name="condition")
    m.nodes.append(helper.make_node("If", [condition], ["chosen"], then_branch=then, else_branch=otherwise))
    m.values["chosen"] = m.at(y)
    before = m.build("chosen")
    after, report = fold(before)
    assert status(report) == "folded"
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_no_convolution_of_a_type_the_operator_set_lacks():
    m = Model(dtype=BFLOAT16, opset=17)
    out(m, m.bn(start(m)))
    after, _ = fold(m.build(), Options(verify=False, leftover="conv"))
    assert [n.op_type for n in after.graph.node] == ["Asinh", "BatchNormalization", "Asinh"]


def test_before_opset_7_no_operator_that_needs_numpys_broadcasting_is_made():
    m = Model(6)
    out(m, m.bn(m.op("MatMul", start(m, 3, 4), m.constant((4, 5)))))
    _, report = fold(m.build())
    judge(report.outcomes[0], Kept("old-opset", "barrier"), {})


@pytest.mark.parametrize("form", ["keep", "affine", "conv"])
def test_leftovers_that_do_not_fit_their_type_end(form):
    """The rewritten constants overflowed, nobody was to blame, and planning began again forever."""
    m = Model(dtype=np.float16)
    x = start(m)
    parameters = [m.constant(np.full(4, v), dtype=np.float32) for v in (1e5, 0.0, 0.0, 1e-2)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE))
    before = m.build()
    after, report = fold(before, Options(verify=False, leftover=form))
    assert status(report) == "kept"
    assert after == before


def test_shared_constants_are_looked_at_once():
    """k(n) = k(n-1) + k(n-1): every path was followed, two to the power of n of them."""
    m = Model()
    k = m.constant(np.ones(()))
    for _ in range(40):
        k = m.op("Add", k, k)
    out(m, m.op("Mul", m.conv(start(m), 6), k, name=SITE))
    _, report = fold(m.build())
    assert status(report) == "folded"


def test_subnormal_values_are_judged_block_by_block(monkeypatch):
    monkeypatch.setattr(weights, "BLOCK_ELEMENTS", 64)
    monkeypatch.setattr(weights, "VALUES_LIMIT", 100)
    m = Model(dtype=np.float16)
    w = m.constant(m.random.standard_normal((40, 40)) * 1e-3)
    out(m, m.op("Mul", m.op("MatMul", start(m, 3, 40), w), m.constant(np.array(0.11)), name=SITE))
    _, report = fold(m.build())
    assert status(report) == "folded"


@pytest.mark.parametrize("form", ["affine", "conv"])
def test_leftovers_are_rewritten_after_everything_was_reported(form):
    m = Model()
    out(m, m.bn(m.op("Mul", start(m, 2, 4, 6), m.constant((1, 1, 6)), name="mul")))
    before = m.build()
    after, _ = fold(before, Options(verify=False, leftover=form))
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_empty_constants_are_left_alone():
    m = Model()
    m.op("Asinh", m.op("Mul", m.x(2, 0), m.constant(np.zeros(0)), name=SITE))
    _, report = fold(m.build())
    judge(report.outcomes[0], Kept("parameters", "parameters"), {})


MALFORMED = [
    ("no input", lambda n: n.ClearField("input")),
    ("no output", lambda n: n.ClearField("output")),
    ("a string for a number", lambda n: n.attribute.append(helper.make_attribute("group", "x"))),
]


@pytest.mark.parametrize("op", ["Conv", "BatchNormalization", "Neg", "Identity", "Transpose", "Reshape", "Add", "Cast"])
@pytest.mark.parametrize(("name", "change"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_malformed_operators_are_refused_not_stumbled_over(op, name, change):
    m = Model()
    x = m.conv(start(m), 4)
    before = m.build(out(m, m.bn(x)))
    odd = helper.make_node(op, ["x0"], ["odd"], name="odd")
    change(odd)
    before.graph.node.append(odd)
    try:
        _, report = fold_model(before, NO_VERIFY)
    except ModelError:
        return  # the reader may refuse it
    assert report.bn_before >= 1


@pytest.mark.parametrize(("op", "attributes"), [("Transpose", {"perm": [0, 0]}), ("Flatten", {"axis": 9})])
def test_attributes_out_of_range_are_refused(op, attributes):
    m = Model()
    x = m.op("Gemm", start(m, 3, 4), m.constant((4, 5)))
    out(m, m.per_channel("Mul", m.op(op, x, like=x, **attributes)))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert status(report) == "kept"


def test_element_types_nobody_knows_are_no_floats():
    m = Model()
    m.op("Asinh", m.op("Neg", m.x(2, 3), name=SITE))
    before = m.build()
    before.graph.input[0].type.tensor_type.elem_type = 999
    after, _ = fold_model(before, NO_VERIFY)
    assert after == before


def test_a_chain_of_affines_becomes_one():
    m = Model()
    x = start(m)
    for number in range(60):
        x = m.per_channel("Mul", x, name=f"mul{number}")
    out(m, x)
    after, _ = fold(m.build())
    assert [n.op_type for n in after.graph.node] == ["Asinh", "Mul", "Asinh"]


def test_a_product_that_rounds_to_one_goes_at_once():
    """It went only the second time, when it was read back as exactly one."""
    m = Model(dtype=np.float32)
    x = m.op("Mul", start(m), m.constant(np.full((4, 1, 1), 3.0)))
    out(m, m.op("Mul", x, m.constant(np.full((4, 1, 1), 1 / 3))))
    after, _ = fold(m.build())
    assert [n.op_type for n in after.graph.node] == ["Asinh", "Asinh"]


@pytest.mark.parametrize("form", ["affine", "conv"])
def test_rewritten_leftovers_fold_as_far_as_they_can(form):
    m = Model()
    out(m, m.per_channel("Div", m.bn(m.per_channel("Mul", start(m), axis=3, name="other")), axis=3, name="div"))
    options = Options(verify=False, leftover=form)
    after, _ = fold(m.build(), options)
    again, _ = fold(after, options)
    assert again == after


def test_only_the_last_straw_is_refused():
    """One weight, two affines: the one that fits folds although the other does not."""
    m = Model(dtype=np.float16)
    scale = np.ones((1, 4, 1, 1))
    scale[0, 0] = 1e-6
    x = m.op("Mul", start(m), m.constant(scale), name="small")
    out(m, m.bn(m.conv(x, 6)))
    _, report = fold(m.build())
    assert (status(report, "small"), status(report)) == ("kept", "folded")


def test_a_pure_scale_needs_no_constant_bias():
    m = Model()
    x, bias = m.per_channel("Mul", start(m)), m.x(6)
    out(m, m.op("Conv", x, m.constant((6, 4, 3, 3)), bias))
    _, report = fold(m.build())
    judge(report.outcomes[0], into("Conv"), {"conv2": "Conv"})


def test_a_pure_shift_leaves_the_weight_alone():
    m = Model()
    x, w = start(m), m.constant((4, 4, 3, 3))
    first = m.per_channel("Add", m.op("Conv", x, w))
    m.op("Add", out(m, first), out(m, m.op("Conv", x, w)))
    after, _ = fold(m.build())
    assert sorted(len(t.dims) for t in after.graph.initializer) == [1, 4]


def test_freezing_training_respects_keep():
    m = Model(22)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE, outputs=3, training_mode=1))
    before = m.build()
    after, _ = fold(before, Options(verify=False, freeze_training=True, keep=(SITE,)))
    assert after == before


def test_bfloat16_is_rounded_once():
    values = np.array([1 + 2**-8 + 2**-40, 1 + 2**-8, 1 + 2**-8 - 2**-40, -1 - 2**-8 - 2**-40, 0.0, np.inf, 3.14])
    found = rounded(values, BFLOAT16).astype(np.float64)
    np.testing.assert_array_equal(found, [1 + 2**-7, 1, 1, -1 - 2**-7, 0, np.inf, 3.140625])
    weight = Weight.of(values[:5], BFLOAT16)
    written = np.frombuffer(weight.evaluate(0, weight.nbytes), BFLOAT16).astype(np.float64)
    np.testing.assert_array_equal(written, found[:5])


def test_two_versions_of_the_standard_operators_are_a_contradiction():
    m = Model()
    out(m, m.bn(start(m)))
    before = m.build()
    before.opset_import.add(domain="ai.onnx", version=13)
    with pytest.raises(ModelError, match="versions"):
        fold_model(before, NO_VERIFY)


def test_a_scalar_has_no_axis_to_normalize():
    m = Model()
    x = m.op("ReduceSum", start(m), keepdims=0)
    x = m.op("Mul", x, m.constant(np.array(2.0)), name=SITE)
    out(m, m.op("LayerNormalization", x, m.constant(np.array(1.0)), like=x))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert status(report) == "kept"


def test_what_is_chosen_may_vary_less():
    """Two of four channels, whose maps are the same along the height: the map that follows has fewer entries."""
    m = Model()
    values = np.arange(1.0, 21).reshape(4, 5, 1)
    values[1:3] = [[[2.0]], [[3.0]]]
    x = m.op("Mul", start(m), m.constant(values), name=SITE)
    out(m, m.conv(m.op("Gather", x, m.constant(np.array([1, 2])), axis=1), 6))
    before = m.build()
    after, report = fold(before)
    assert status(report) == "folded"
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_a_fold_may_make_a_shape_known():
    """In a function nothing is inferred; the Add hides the rank that the convolution's weight shows."""
    m = Model()
    x = m.per_channel("Add", m.conv(start(m), 4), name="between")
    y = m.op("Mul", m.op("Abs", m.bn(x, name="bn")), m.constant(np.array(2.0)), name=SITE)
    m.op("Concat", out(m, x), out(m, y), axis=1)
    before = structures.in_function(m.build(), list(m.initializers))
    after, report = fold(before)
    again, second = fold(after)
    assert again == after
    assert not second.changed
    assert {o.node: o.status for o in report.outcomes}[f"wrapped/{SITE}"] == "merged"


def test_many_straws_are_refused_together():
    """Each refusal costs another plan: a chain of factors that overflow must not cost one for each."""
    m = Model(dtype=np.float32)
    x = start(m)
    for number in range(80):
        x = m.op("Mul", x, m.constant(np.full((4, 1, 1), 2000.0 if number % 2 else 1 / 3)), name=f"mul{number}")
    out(m, x)
    plans = []
    with pytest.MonkeyPatch.context() as patch:
        honest = attempts.fold_graph

        def counted(*given, **more):
            plans.append(1)
            return honest(*given, **more)

        patch.setattr("folding.pipeline.attempts.fold_graph", counted)
        fold(m.build(), Options(verify=False))
    assert len(plans) < 22  # 25 one by one


def test_an_image_of_size_0_is_no_convolutions():
    """ONNX Runtime's Conv refuses it, its BatchNormalization does not."""
    m = Model(dtype=np.float32)
    x = m.op("Asinh", m.x(2, 4, 0, 6))
    out(m, m.bn(x))
    after, _ = fold(m.build(), Options(verify=False, leftover="conv"))
    assert "BatchNormalization" in {node.op_type for node in after.graph.node}
