"""A move adds large constants to the file for a normalization only, and a file that grows says why."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support.models import Model, fold
from tests.support.rows.row import out

LARGE = 160  # a product of this many rows and columns takes 205 kB as float64


def product(m, x, weight, *, name=""):
    return m.op("MatMul", x, weight, name=name)


def shared(site, length):
    """A map before one of two products with the same weight."""
    m = Model()
    weight = m.constant((length, length), name="W")
    x = m.op("Asinh", m.x(3, length))
    scaled = m.bn(x) if site == "BatchNormalization" else m.per_channel(site, x)
    out(m, m.op("Add", m.op("Asinh", product(m, scaled, weight)), product(m, x, weight)))
    return m


def outcome(m):
    after, report = fold(m.build())
    return after, report, next(o for o in report.outcomes if o.node == "site")


def test_a_large_shared_weight_is_not_copied_for_a_scale():
    _, report, found = outcome(shared("Mul", LARGE))
    assert (found.status, found.forward.code) == ("kept", "no-gain")
    assert "it would add a constant of 205 kB to the file" in found.forward.reason
    assert not report.notes


def test_a_small_shared_weight_is_copied_for_a_scale():
    _, report, found = outcome(shared("Mul", 16))
    assert found.status == "folded"
    assert (
        report.notes[0]
        == "the constants of the file grow by 1.92 kB: 'W_folded' 2.05 kB (a copy, because others read 'W' too)"
    )


def test_a_large_shared_weight_is_copied_for_a_normalization():
    _, report, found = outcome(shared("BatchNormalization", LARGE))
    assert found.status == "split"
    assert report.notes[0].startswith("the constants of the file grow by 201 kB: 'W_folded' 205 kB (a copy, because")


def test_a_large_weight_of_one_reader_is_scaled_where_it_is():
    m = Model()
    out(m, product(m, m.per_channel("Mul", m.op("Asinh", m.x(3, LARGE))), m.constant((LARGE, LARGE))))
    _, report, found = outcome(m)
    assert found.status == "folded"
    assert not report.notes


def test_a_computed_weight_of_one_reader_takes_the_place_of_its_source():
    m = Model()
    weight = m.op("Transpose", m.constant((LARGE, LARGE)), perm=[1, 0])
    out(m, product(m, m.per_channel("Mul", m.op("Asinh", m.x(3, LARGE))), weight))
    _, report, found = outcome(m)
    assert found.status == "folded"
    assert not report.notes


@pytest.mark.parametrize(("site", "status"), [("Mul", "kept"), ("BatchNormalization", "folded")])
def test_a_constant_of_a_shape_is_written_out_for_a_normalization_only(site, status):
    m = Model(opset=17)
    shape = m.constant(np.array([1, 4, 100, 100], np.int64))
    filled = m.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([0.5])))
    x = m.op("Concat", m.conv(m.op("Asinh", m.x(1, 3, 100, 100)), 4, 1), filled, axis=1)
    out(m, m.bn(x) if site == "BatchNormalization" else m.per_channel(site, x))
    _, report, found = outcome(m)
    assert found.status == status
    assert bool(report.notes) == (status == "folded")
