"""Idioms are recognized in every spelling, left whole, and take a following map into gamma and beta where they can."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest

from folding import Options
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.graph import idioms
from folding.graph.idioms import BIAS, IDIOMS
from folding.onnxfile import from_bytes
from tests.support.models import Model, assert_same_function, fold
from tests.support.ready.idioms import (
    ACTIVATIONS,
    WRITERS,
    attention,
    gelu,
    group_norm,
    kinds,
    layer_norm,
    layer_norm_core,
    mish_written_out,
    number,
    product_with_bias,
    reduced,
    rms_norm,
    scaled,
)
from tests.support.rows.row import out, start

DIGITS = 1e-9


def index(model):
    graph = indexed(from_bytes(model.SerializeToString()))
    shapes.infer(graph)
    return graph


def found(model):
    return kinds(idioms.find(index(model)))


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
@pytest.mark.parametrize("name", WRITERS)
def test_idioms_are_recognized(name, opset):
    m = Model(opset=opset)
    kind, writer = WRITERS[name]
    m.op("Identity", writer(m, start(m)))
    assert found(m.build()) == [kind]


@pytest.mark.parametrize("name", WRITERS)
def test_idioms_are_left_whole(name):
    m = Model()
    kind, writer = WRITERS[name]
    out(m, m.conv(writer(m, m.conv(start(m), 4, 1)), 3, 1))
    model = m.build()
    folded, report = fold(model, Options(verify=False, clamp="always"))
    assert not report.changed, report.outcomes
    assert folded == model
    assert not report.outcomes
    assert (f"1 {kind}" in " ".join(report.notes)) == (
        name not in {"silu", "mish", "hard_swish_hard_sigmoid", "product_with_bias"}
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_constants_of_16_bits_are_recognized(dtype):
    m = Model(dtype=dtype)
    gelu(m, start(m))
    assert found(m.build()) == ["GELU"]


def test_casts_in_between_are_stepped_over():
    m = Model(dtype=np.float16)
    wide = m.op("Cast", start(m), to=onnx.TensorProto.FLOAT)
    normal = layer_norm_core(m, wide)
    scaled(m, m.op("Cast", normal, to=onnx.TensorProto.FLOAT16))
    for name, values in m.initializers.items():
        if values.shape == ():
            m.initializers[name] = values.astype(np.float32)
    assert "LayerNormalization" in found(m.build())


# --- near misses ----------------------------------------------------------


def wrong_constant(m, x):
    inner = m.op("Add", m.op("Erf", m.op("Div", x, number(m, 1.5))), number(m, 1))
    return m.op("Mul", m.op("Mul", x, inner), number(m, 0.5))


def other_value(m, x):
    return m.op("Mul", m.op("Relu", x), m.op("Sigmoid", x))


def other_axes(m, x):
    d = m.op("Sub", x, reduced(m, "ReduceMean", x, 1))
    variance = reduced(m, "ReduceMean", m.op("Pow", d, number(m, 2)), 1)
    return m.op("Div", d, m.op("Sqrt", m.op("Add", variance, number(m, 1e-5))))


def two_axes(m, x):
    d = m.op("Sub", x, reduced(m, "ReduceMean", x, 3))
    variance = reduced(m, "ReduceMean", m.op("Pow", d, number(m, 2)), 2)
    return m.op("Div", d, m.op("Sqrt", m.op("Add", variance, number(m, 1e-5))))


def constant_left(m, x):
    return m.op("Add", m.op("MatMul", m.constant((5, 5)), x), m.constant((6,)))


def bias_per_row(m, x):
    return m.op("Add", m.op("MatMul", x, m.constant((6, 6))), m.constant((5, 1)))


@pytest.mark.parametrize("writer", [wrong_constant, other_value, other_axes, two_axes, constant_left, bias_per_row])
def test_near_misses_are_no_idioms(writer):
    m = Model()
    m.op("Identity", writer(m, start(m)))
    assert found(m.build()) == []


@pytest.mark.parametrize("how", ["reader", "output", "body"])
def test_a_value_inside_that_others_see_makes_it_none(how):
    m = Model()
    last = gelu(m, start(m))
    inner = m.nodes[-3].output[0]
    if how == "reader":
        model = m.build(last, m.op("Sqrt", inner))
    elif how == "output":
        model = m.build(last, inner)
    else:
        model = m.build(last)
        body = onnx.helper.make_graph(
            [onnx.helper.make_node("Sqrt", [inner], ["inside"])],
            "body",
            [],
            [onnx.helper.make_tensor_value_info("inside", onnx.TensorProto.DOUBLE, None)],
        )
        always = onnx.numpy_helper.from_array(np.array(True), "always")
        model.graph.initializer.append(always)
        model.graph.node.append(onnx.helper.make_node("If", ["always"], ["both"], then_branch=body, else_branch=body))
        model.graph.output.append(onnx.helper.make_tensor_value_info("both", onnx.TensorProto.DOUBLE, None))
    assert found(model) == []


def test_an_overridable_constant_makes_it_none():
    m = Model()
    gelu(m, start(m))
    m.overridable.add(next(name for name, values in m.initializers.items() if values.shape == () and values == 0.5))
    assert found(m.build()) == []


@pytest.mark.parametrize("name", ["layer_norm", "hard_swish"])
def test_operators_of_an_unknown_operator_set_are_none(name):
    m = Model()
    m.op("Identity", WRITERS[name][1](m, start(m)))
    model = m.build()
    model.opset_import[0].version = 99
    assert found(model) == []


def test_a_near_miss_folds_as_ever():
    m = Model()
    out(m, m.conv(wrong_constant(m, start(m)), 3, 1))
    _, report = fold(m.build())
    assert [o.status for o in report.outcomes if o.absorbed_by] == ["folded"]


# --- maps behind and before ----------------------------------------------------------


def absorbed(m):
    """What becomes of the only normalization, and the model after it."""
    model = m.build()
    folded, report = fold(model)
    assert_same_function(model, folded, m.feeds, DIGITS)
    again, second = fold(folded)
    assert again == folded
    assert not second.changed
    return next(o for o in report.outcomes if o.operator == "BatchNormalization"), folded


@pytest.mark.parametrize(
    ("writer", "shape"), [(layer_norm, (3, 4)), (group_norm, (2, 4, 5)), (group_norm, (2, 4, 5, 6))]
)
def test_a_normalization_behind_goes_into_gamma_and_beta(writer, shape):
    m = Model()
    out(m, m.bn(writer(m, start(m, *shape))))
    before = len(m.nodes)
    outcome, folded = absorbed(m)
    assert (outcome.status, outcome.direction, len(outcome.absorbed_by)) == ("folded", "backward", 2)
    assert len(folded.graph.node) == before - 1
    assert len(found(folded)) == 1


def test_a_missing_beta_is_made():
    m = Model()
    out(m, m.bn(rms_norm(m, start(m, 3, 4))))
    before = len(m.nodes)
    outcome, folded = absorbed(m)
    assert outcome.direction == "backward"
    assert len(folded.graph.node) == before
    assert found(folded) == ["RMSNormalization"]


@pytest.mark.parametrize("name", [*ACTIVATIONS, "layer_norm_core", "l2_norm"])
def test_an_idiom_with_fixed_constants_takes_no_map(name):
    m = Model()
    out(m, m.bn(WRITERS[name][1](m, start(m, 4, 4))))
    outcome, _ = absorbed(m)
    assert (outcome.status, outcome.backward.code) == ("kept", "idiom") or name in {"silu", "mish"}


def test_a_map_along_another_axis_stays_behind_a_layer_normalization():
    m = Model()
    out(m, m.bn(layer_norm(m, start(m))))
    outcome, _ = absorbed(m)
    assert (outcome.status, outcome.backward.code) == ("kept", "idiom")


def test_a_map_before_an_idiom_does_not_move_into_it():
    m = Model()
    gelu(m, m.per_channel("Mul", start(m)))
    _, report = fold(m.build())
    assert [(o.backward.code, o.forward.code) for o in report.outcomes] == [("barrier", "idiom")]


def test_a_normalization_before_an_idiom_folds_away_from_it():
    m = Model()
    out(m, gelu(m, m.bn(m.conv(start(m), 3))))
    outcome, folded = absorbed(m)
    assert outcome.operator == "BatchNormalization"
    assert outcome.status == "folded"
    assert found(folded) == ["GELU"]


# --- a lone bias ----------------------------------------------------------


def test_a_lone_bias_is_not_listed_and_not_moved():
    m = Model()
    x = product_with_bias(m, m.op("Relu", product_with_bias(m, start(m, 3, 4))))
    out(m, x)
    for clamp in ("never", "always"):
        _, report = fold(m.build(), Options(verify=False, clamp=clamp))
        assert not report.changed
        assert not report.outcomes


def test_a_normalization_behind_goes_into_product_and_bias():
    m = Model()
    out(m, m.bn(product_with_bias(m, start(m, 3, 4))))
    _, folded = absorbed(m)
    assert [node.op_type for node in folded.graph.node].count("BatchNormalization") == 0
    assert found(folded) == [BIAS.name]


def test_the_shift_of_a_normalization_before_goes_into_the_bias():
    m = Model()
    x = product_with_bias(m, m.bn(start(m, 3, 4)))
    out(m, m.op("MatMul", x, m.constant((4, 2))))
    outcome, folded = absorbed(m)
    assert (outcome.status, outcome.direction) == ("folded", "forward")
    assert found(folded) == [BIAS.name]


# --- the table ----------------------------------------------------------


def test_every_anchor_is_in_every_form():
    assert [(i.name, form) for i in IDIOMS for form in i.forms if i.anchor not in form] == []


def test_every_idiom_of_the_table_is_written_by_the_tests():
    assert {idiom.name for idiom in IDIOMS} | {BIAS.name} == {name for name, _ in WRITERS.values()}


def test_finding_again_finds_the_same():
    m = Model()
    x = layer_norm(m, start(m, 3, 4))
    attention(m, mish_written_out(m, x))
    graph = index(m.build())
    first = idioms.find(graph)
    assert kinds(first) == kinds(idioms.find(graph))
    assert len(kinds(first)) == 3
