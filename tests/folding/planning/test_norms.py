"""Gamma and beta of a normalization go into the products that read it, all or nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from folding import Options
from folding.planning.norms import KEY, fold_norms
from tests.support.models import Model
from tests.support.ready import idioms
from tests.support.ready.fusing import assert_equal, operators, rewritten
from tests.support.rows.row import start

OPTIONS = Options(verify=False)


def layer(m, x):
    return m.op("LayerNormalization", x, m.constant((4,)), m.constant((4,)), like=x, epsilon=1e-3)


def layer_without_beta(m, x):
    return m.op("LayerNormalization", x, m.constant((4,)), like=x)


def rms(m, x):
    return m.op("RMSNormalization", x, m.constant((4,)), like=x)


NORMS = {
    "operator": layer,
    "operator without beta": layer_without_beta,
    "rms operator": rms,
    "written out": idioms.layer_norm,
    "rms written out": idioms.rms_norm,
}
LINEAR = {"operator without beta", "rms operator", "rms written out"}


def product(m, x, *, bias):
    y = m.op("MatMul", x, m.constant((4, 4)))
    return m.op("Add", y, m.constant((4,))) if bias else y


def projected(norm, *, bias=True, opset=23, dtype=np.float32, count=3):
    """A normalization before the projections of attention."""
    m = Model(opset=opset, dtype=dtype, ir=10)
    x = NORMS[norm](m, start(m, 2, 3, 4))
    outs = [m.op("Asinh", product(m, x, bias=bias)) for _ in range(count)]
    m.op("Sum", *outs)
    return m, m.build()


def ones(model):
    """Whether the scale of each normalization operator is 1, and nothing is added."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type.endswith("Normalization")]
    return all(len(node.input) == 2 and np.all(values[node.input[1]] == 1) for node in norms)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("norm", NORMS)
def test_gamma_and_beta_go_into_the_projections(norm, dtype):
    m, model = projected(norm, dtype=dtype)
    after, (change,) = rewritten(fold_norms, model, OPTIONS)
    gone = 0 if "operator" in norm else 1 if norm in LINEAR else 2
    assert len(after.graph.node) == len(model.graph.node) - gone
    assert ones(after)
    what = "gamma" if norm in LINEAR else "gamma and beta"
    kind = "RMSNormalization" if "rms" in norm else "LayerNormalization"
    assert (change.stage, change.kind) == ("fused", f"{what} of {kind} moved into the next products")
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize("norm", NORMS)
def test_a_shift_needs_a_bias(norm):
    m, model = projected(norm, bias=False)
    after, changes = rewritten(fold_norms, model, OPTIONS)
    assert bool(changes) == (norm in LINEAR)
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize("norm", NORMS)
def test_gemm_takes_both(norm):
    m = Model(opset=23, dtype=np.float32, ir=10)
    x = NORMS[norm](m, start(m, 3, 4))
    m.op("Asinh", m.op("Gemm", x, m.constant((4, 5))))
    model = m.build()
    after, changes = rewritten(fold_norms, model, OPTIONS)
    assert len(changes) == 1
    assert ones(after)
    assert_equal(model, after, m.feeds)


def residual(m, x):
    return m.op("Add", x, m.op("Asinh", product(m, x, bias=True)))


def activation(m, x):
    return m.op("Sum", m.op("Tanh", x), product(m, x, bias=True))


def product_with_data(m, x):
    return m.op("MatMul", m.op("Asinh", x), x)


@pytest.mark.parametrize("reader", [residual, activation])
@pytest.mark.parametrize("norm", NORMS)
def test_one_reader_that_does_not_absorb_keeps_all(norm, reader):
    m = Model(opset=23, dtype=np.float32, ir=10)
    m.op("Identity", reader(m, NORMS[norm](m, start(m, 2, 3, 4))))
    model = m.build()
    assert rewritten(fold_norms, model, OPTIONS) == (model, [])


@pytest.mark.parametrize("norm", NORMS)
def test_an_output_keeps_all(norm):
    m = Model(opset=23, dtype=np.float32, ir=10)
    x = NORMS[norm](m, start(m, 2, 3, 4))
    model = m.build(x, product(m, x, bias=True))
    assert rewritten(fold_norms, model, OPTIONS) == (model, [])


def test_an_overridable_gamma_stays():
    m, model = projected("operator")
    m.overridable.add(model.graph.node[1].input[1])
    model = m.build()
    assert rewritten(fold_norms, model, OPTIONS) == (model, [])


@pytest.mark.parametrize("norm", ["operator", "written out"])
def test_what_the_user_keeps_stays(norm):
    _, model = projected(norm)
    end = "layernormalization*" if norm == "operator" else "mul*"
    assert rewritten(fold_norms, model, Options(verify=False, keep=(end,))) == (model, [])


@pytest.mark.parametrize("norm", ["operator", "written out"])
def test_one_can_be_left_out(norm):
    _, model = projected(norm)
    _, (change,) = rewritten(fold_norms, model, OPTIONS)
    assert change.key.startswith(KEY)
    assert rewritten(fold_norms, model, OPTIONS, [change.key]) == (model, [])


def test_each_of_two_is_decided_by_itself():
    m = Model(opset=23, dtype=np.float32, ir=10)
    x = m.op("Asinh", product(m, layer(m, start(m, 2, 3, 4)), bias=True))
    m.op("Identity", residual(m, layer(m, x)))
    model = m.build()
    after, changes = rewritten(fold_norms, model, OPTIONS)
    assert len(changes) == 1
    assert operators(after) == operators(model)
    assert_equal(model, after, m.feeds)


def test_a_weight_that_others_read_is_copied():
    m = Model(opset=23, dtype=np.float32, ir=10)
    x, w = start(m, 2, 3, 4), m.constant((4, 4))
    m.op("Sum", m.op("Asinh", m.op("MatMul", rms(m, x), w)), m.op("MatMul", x, w))
    model = m.build()
    after, changes = rewritten(fold_norms, model, OPTIONS)
    assert len(changes) == 1
    assert_equal(model, after, m.feeds)
