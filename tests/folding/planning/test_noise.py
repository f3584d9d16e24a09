"""A shift that is large against the values does not move forward: the difference would lose its digits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnxruntime
import pytest

from folding.planning.noise import limit_of
from tests.support.models import Model, fold
from tests.support.rows.row import out

STEP = 1.01  # from one side of a limit to the other


def normalized(dtype, mean, *, std=1.0, gamma=1.0, beta=0.0):
    """A normalization of features with this mean and deviation, before a product."""
    m = Model(dtype=dtype)
    x = m.x(16, 4)
    m.feeds[x] = (mean + std * m.random.standard_normal((16, 4))).astype(dtype)
    m.values[x] = m.feeds[x].astype(np.float64)
    parameters = [m.constant(np.full(4, value, float)) for value in (gamma, beta, mean, std**2)]
    y = m.op("BatchNormalization", x, *parameters, name="site", epsilon=0.0)
    out(m, m.op("Gemm", y, m.constant((4, 5)), m.constant((5,))))
    return m


def outcome(m):
    after, report = fold(m.build())
    again, second = fold(after)
    assert again == after
    assert not second.changed
    return next(o for o in report.outcomes if o.node == "site")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_half_of_the_digits_may_be_lost(dtype):
    limit = limit_of(np.dtype(dtype))
    std = 2.0**-4 if dtype == np.float16 else 1.0
    assert outcome(normalized(dtype, std * limit / STEP, std=std)).status == "folded"
    kept = outcome(normalized(dtype, std * limit * STEP, std=std))
    assert kept.status == "kept"
    assert kept.forward.code == "cancellation"
    assert f"the rounding noise of {np.dtype(dtype)} would grow" in kept.forward.reason
    assert f"{limit:,.0f}-fold is the limit" in kept.forward.reason


def test_limits_are_half_of_the_significant_bits():
    assert limit_of(np.dtype(np.float32)) == 2.0**12
    assert limit_of(np.dtype(np.float16)) == 2.0**5.5
    assert limit_of(np.dtype(ml_dtypes.bfloat16)) == 2.0**4
    assert limit_of(np.dtype(np.float64)) == 2.0**26.5


def test_what_matters_is_the_size_of_the_result():
    """A large beta hides the rounding of a large mean."""
    assert outcome(normalized(np.float32, 7e4)).status == "kept"
    assert outcome(normalized(np.float32, 7e4, beta=100.0)).status == "folded"
    assert outcome(normalized(np.float32, 7e4, gamma=0.0)).status == "folded"


def test_backward_nothing_cancels_that_did_not_before():
    m = Model(dtype=np.float32)
    x = m.op("Gemm", m.x(16, 4), m.constant((4, 5)), m.constant(np.full(5, 7e4)))
    out(m, m.op("BatchNormalization", x, *[m.constant(np.full(5, v)) for v in (1.0, 0.0, 7e4, 1.0)], name="site"))
    assert outcome(m).direction == "backward"


@pytest.mark.parametrize(("op", "status"), [("Sub", "kept"), ("Add", "kept"), ("Mul", "folded"), ("Div", "folded")])
def test_elementwise_maps(op, status):
    m = Model(dtype=np.float32)
    out(m, m.op("Gemm", m.op(op, m.x(16, 4), m.constant(np.full(4, 7e4)), name="site"), m.constant((4, 5))))
    assert outcome(m).status == status


def test_an_affine_on_the_way_does_not_take_a_large_shift_along():
    m = Model(dtype=np.float32)
    x = m.op("Sub", m.op("Mul", m.x(16, 4), m.constant((4,)), name="site"), m.constant(np.full(4, 7e4)))
    out(m, m.op("Gemm", x, m.constant((4, 5))))
    after, _ = fold(m.build())
    assert [node.op_type for node in after.graph.node] == ["Add", "Gemm", "Asinh"]  # the difference, then its scale


def test_the_limit_keeps_the_error_small():
    """Just below the limit three digits and more are right."""
    m = normalized(np.float32, limit_of(np.dtype(np.float32)) / STEP)
    model = m.build()
    after, _ = fold(model)
    exact = m.at(model.graph.output[0].name)
    assert len(after.graph.node) < len(model.graph.node)
    assert np.abs(run(after, m.feeds) - exact).max() < 1e-3 * np.abs(exact).max()


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0].astype(np.float64)
