"""Products, normalizations and what scales with its input: older operator sets, further outputs, odd models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from folding import Options, fold_model
from tests.support.models import DIGITS, SITE, Model, assert_same_function, fold
from tests.support.rows.row import Kept, into, judge, out, start

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from tests.support.rows.row import Folded


def legacy(m: Model, op: str, x: str, values: Any = None, name: str = SITE) -> str:
    """A per-channel affine as it was written before opset 7."""
    constant = m.constant((m.at(x).shape[1],) if values is None else np.asarray(values))
    return m.op(op, x, constant, name=name, broadcast=1, axis=1)


def positive(m: Model, x: str) -> str:
    return legacy(m, "Mul", x, np.arange(float(m.at(x).shape[1])))


def twice(m: Model) -> tuple[str, str]:
    x = start(m)
    return m.conv(x, 6), m.conv(x, 6)


def bent(op: str, *slope: int) -> Callable[[Model], Any]:
    return lambda m: out(m, positive(m, m.op(op, m.conv(start(m), 4), *([m.constant(slope)] if slope else []))))


OLD: list[tuple[str, int, Callable[[Model], Any], Folded | Kept]] = [
    (
        "instance normalization",
        6,
        lambda m: out(m, m.bn(m.op("InstanceNormalization", start(m), m.constant((4,)), m.constant((4,))))),
        into("InstanceNormalization"),
    ),
    (
        "instance normalization 1",
        1,
        lambda m: out(
            m,
            legacy(
                m,
                "Mul",
                m.op("InstanceNormalization", m.x(2, 4, 5, 6), m.constant((4,)), m.constant((4,)), consumed_inputs=[0]),
            ),
        ),
        into("InstanceNormalization"),
    ),
    ("LeakyRelu", 6, bent("LeakyRelu"), into("Conv")),
    ("LeakyRelu 1", 1, bent("LeakyRelu"), into("Conv")),
    ("PRelu", 6, bent("PRelu", 4), into("Conv")),
    ("PRelu, one slope", 1, bent("PRelu", 1), into("Conv")),
    ("Abs", 6, bent("Abs"), into("Conv")),
    ("Mean", 6, lambda m: out(m, m.bn(m.op("Mean", *twice(m)))), into("Conv", "Conv")),
    ("Mean 1", 1, lambda m: out(m, legacy(m, "Add", m.op("Mean", *twice(m)))), Kept("unknown-shape", "unknown-shape")),
    ("Mul of equal shapes", 6, lambda m: out(m, legacy(m, "Mul", m.op("Mul", *twice(m)))), into("Conv")),
    (
        "Mul, broadcast",
        6,
        lambda m: out(m, legacy(m, "Mul", m.op("Mul", m.conv(start(m), 6), m.x(6), broadcast=1, axis=1))),
        Kept("old-opset", "barrier"),
    ),
    (
        "Div, broadcast",
        6,
        lambda m: out(m, legacy(m, "Mul", m.op("Div", m.conv(start(m), 6), m.x(6), broadcast=1, axis=1))),
        Kept("old-opset", "barrier"),
    ),
    (
        "Mul, broadcast from the right",
        6,
        lambda m: out(m, legacy(m, "Mul", m.op("Mul", m.conv(start(m), 6), m.x(4), broadcast=1))),
        Kept("old-opset", "barrier"),
    ),
    (
        "before Mul, broadcast",
        6,
        lambda m: out(m, m.conv(m.op("Mul", legacy(m, "Mul", start(m)), m.x(4), broadcast=1, axis=1), 6)),
        Kept("barrier", "old-opset"),
    ),
    (
        "before Div, broadcast",
        6,
        lambda m: out(m, m.conv(m.op("Div", legacy(m, "Mul", start(m)), m.x(4), broadcast=1, axis=1), 6)),
        Kept("barrier", "old-opset"),
    ),
    (
        "MatMul of values",
        6,
        lambda m: out(
            m,
            legacy(
                m, "Mul", m.op("MatMul", m.op("MatMul", start(m, 3, 4), m.constant((4, 4))), m.x(4, 5)), np.array([2.0])
            ),
        ),
        into("MatMul"),
    ),
    (
        "scale before MatMul",
        6,
        lambda m: out(m, m.op("MatMul", legacy(m, "Mul", start(m, 3, 4)), m.constant((4, 5)))),
        into("MatMul"),
    ),
    (
        "rows of Gemm",
        6,
        lambda m: out(
            m,
            m.op(
                "Mul",
                m.op(
                    "Gemm", m.op("MatMul", start(m, 4, 3), m.constant((3, 3))), m.x(4, 5), m.constant((3, 5)), transA=1
                ),
                m.constant((3, 1)),
                name=SITE,
                broadcast=1,
            ),
        ),
        into("MatMul", "Gemm"),
    ),
]


@pytest.mark.parametrize(("name", "opset", "build", "expected"), OLD, ids=[row[0] for row in OLD])
def test_older_operator_sets(name, opset, build, expected):
    m = Model(opset)
    build(m)
    before = m.build()
    after, report = fold(before)
    operators = {n.name: n.op_type for n in (*before.graph.node, *after.graph.node)}
    judge(next(o for o in report.outcomes if o.node == SITE), expected, operators)
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def codes(model: onnx.ModelProto) -> tuple[str, str]:
    _, report = fold_model(model, Options(verify=False))
    outcome = next(o for o in report.outcomes if o.node == SITE)
    assert outcome.backward is not None, outcome
    assert outcome.forward is not None, outcome
    return outcome.backward.code, outcome.forward.code


@pytest.mark.parametrize("opset", [18, 20])
def test_parameters_per_group_are_refused(opset):
    """The GroupNormalization of these operator sets is deprecated."""
    m = Model(opset)
    x = m.op("GroupNormalization", start(m), *(m.constant((2,)) for _ in range(2)), num_groups=2, like="v0")
    out(m, m.per_channel("Mul", x))
    assert codes(m.build()) == ("parameters", "barrier")
    m = Model(opset)
    x = m.op("Add", start(m), m.constant(()), name=SITE)
    out(m, m.op("GroupNormalization", x, *(m.constant((2,)) for _ in range(2)), num_groups=2, like=x))
    assert codes(m.build()) == ("barrier", "parameters")


def per_position(m: Model, x: str, name: str) -> str:
    """A BatchNormalization with parameters of every element, as opset 8 still had it."""
    shape = m.at(x).shape[1:]
    parameters = [m.constant(shape), m.constant(shape), m.constant(shape), m.constant(m.random.uniform(0.5, 2, shape))]
    return m.op("BatchNormalization", x, *parameters, name=name, spatial=0)


PER_POSITION: list[tuple[Callable[[Model], Any], Folded | Kept]] = [
    (lambda m: m.per_channel("Mul", per_position(m, start(m), "bn")), into("BatchNormalization", status="merged")),
    (
        lambda m: per_position(m, m.per_channel("Add", start(m), axis=3), "bn"),
        into("BatchNormalization", status="merged"),
    ),
    (lambda m: m.per_channel("Mul", per_position(m, start(m), "bn"), axis=0), Kept("axis", "barrier")),
    (lambda m: m.per_channel("Mul", m.bn(start(m), "bn"), axis=2), Kept("axis", "barrier")),
    (
        lambda m: m.op("Mul", per_position(m, start(m), "bn"), m.constant((4, 1, 6)), name=SITE),
        into("BatchNormalization", status="merged"),
    ),
]


@pytest.mark.parametrize(("build", "expected"), PER_POSITION)
def test_parameters_per_position(build, expected):
    m = Model(8)
    out(m, build(m))
    before = m.build()
    after, report = fold(before)
    judge(next(o for o in report.outcomes if o.node == SITE), expected, {n.name: n.op_type for n in after.graph.node})
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


# --- the mean of a LayerNormalization is an output ---------------------------------------------------------


def layer_with_mean(m: Model, x: str) -> str:
    y = m.op("LayerNormalization", x, m.constant((4,)), outputs=2)
    m.values[f"{y}_1"] = m.at(x).mean(axis=-1, keepdims=True)
    return y


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def test_the_mean_stays_where_the_result_changes():
    m = Model(dtype=np.float32)
    y = layer_with_mean(m, start(m, 3, 4))
    before = m.build(out(m, m.bn(y)), f"{y}_1")
    after, report = fold(before)
    judge(report.outcomes[0], into("LayerNormalization"), {n.name: n.op_type for n in after.graph.node})
    for expected, found in zip(run(before, m.feeds), run(after, m.feeds), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_shift_that_moves_the_mean_stays():
    m = Model()
    y = layer_with_mean(m, m.per_channel("Add", start(m, 3, 4), axis=0))
    assert codes(m.build(out(m, y), f"{y}_1")) == ("barrier", "extra-outputs")


# --- what no runtime would run -----------------------------------------------------------------------------


def test_a_zero_never_reaches_the_divisor():
    m = Model()
    x = m.op("Mul", start(m), m.constant(np.arange(4.0).reshape(4, 1, 1)), name=SITE)
    out(m, m.conv(m.op("Div", m.x(2, 4, 5, 6), x, like=x), 6))
    assert codes(m.build()) == ("barrier", "non-finite")


MALFORMED: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
    ("scale of rank 2", "InstanceNormalization", ((4, 1), (4,)), {}),
    ("bias of another length", "InstanceNormalization", ((4,), (3,)), {}),
    ("scale of another length", "LayerNormalization", ((3,),), {}),
    ("scale of higher rank", "LayerNormalization", ((1, 1, 1, 4),), {}),
    ("bias of another length", "LayerNormalization", ((4,), (3,)), {}),
    ("one operand with axes", "Einsum", ((4, 5),), {"equation": "bij,"}),
    ("letters fewer than axes", "Einsum", ((4, 5),), {"equation": "ij,jk->bik"}),
    ("letters more than axes", "Einsum", ((4, 5),), {"equation": "bcij...,jk->bik"}),
    ("output of another rank", "Einsum", ((4, 5),), {"equation": "bij,jk->bx"}),
    ("output of an axis twice", "Einsum", ((4, 5),), {"equation": "bij,jk->bii"}),
]


@pytest.mark.parametrize(("what", "op", "parameters", "attributes"), MALFORMED)
def test_malformed_operators_are_refused(what, op, parameters, attributes):
    """Their result has the shape (2, 4, 4), says the model."""
    m = Model()
    x = start(m, 2, 4, 4)
    y = m.op(op, x, *map(m.constant, parameters), like=x, **attributes)
    out(m, m.per_channel("Add", y, axis=1 if op == "InstanceNormalization" else 2))
    model = m.build()
    model.graph.value_info.append(helper.make_tensor_value_info(y, TensorProto.DOUBLE, [2, 4, 4]))
    assert codes(model)[0] == ("barrier" if "twice" in what else "parameters")


@pytest.mark.parametrize("shape", [(4,), (4, 4, 1), (0, 4)])
def test_a_gemm_of_anything_but_matrices_is_refused(shape):
    m = Model()
    x = start(m, 4, 4)
    y = m.op("Gemm", x, m.constant(shape), like=x)
    out(m, m.per_channel("Mul", y))
    model = m.build()
    model.graph.value_info.append(helper.make_tensor_value_info(y, TensorProto.DOUBLE, [4, 4]))
    assert codes(model)[0] == "parameters"


@pytest.mark.parametrize("groups", [3, 0])
def test_groups_that_do_not_divide_the_channels_are_refused(groups):
    m = Model(21)
    x = m.per_channel("Add", start(m))
    out(m, m.op("GroupNormalization", x, m.constant((4,)), m.constant((4,)), num_groups=groups, like=x))
    assert codes(m.build()) == ("barrier", "parameters")


# --- one scale on the way to another ------------------------------------------------------------------------


def test_a_scale_passes_one_that_is_not_selected():
    m = Model()
    out(m, m.per_channel("Mul", m.per_channel("Mul", m.conv(start(m), 6), "other")))
    before = m.build()
    after, report = fold(before, Options(verify=False, only=(SITE,)))
    assert [n.name for n in after.graph.node if n.op_type == "Mul"] == ["other"]
    judge(next(o for o in report.outcomes if o.node == SITE), into("Conv"), {before.graph.node[1].name: "Conv"})
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_scales_of_a_product_meet_in_one_of_its_factors():
    """Every scale around a product goes, whichever factor takes it."""
    m = Model()
    x = start(m)
    one = m.per_channel("Mul", m.conv(x, 6), "before")
    out(m, m.per_channel("Div", m.op("Mul", one, m.conv(x, 6))))
    before = m.build()
    after, _ = fold(before)
    assert [n.op_type for n in after.graph.node] == ["Asinh", "Conv", "Conv", "Mul", "Asinh"]
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
