"""CastLike reads the values of its first input and the type of its second; PyTorch exports it unoptimized."""

from __future__ import annotations

import numpy as np
import pytest

from folding import Options
from tests.support.models import DIGITS, SITE, Model, assert_same_function, fold
from tests.support.rows.row import out, start

NO_VERIFY = Options(verify=False)


def statuses(m: Model) -> dict[str, str]:
    before = m.build()
    after, report = fold(before, NO_VERIFY)
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    return {one.node: one.status for one in report.outcomes}


@pytest.mark.parametrize("parameter", range(4))
def test_a_constant_in_the_type_of_a_value_is_a_constant(parameter):
    m = Model(dtype=np.float32)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    wide = m.constant(m.random.uniform(0.5, 1.5, 6), dtype=np.float64)
    parameters[parameter] = m.op("CastLike", wide, x)
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE))
    assert statuses(m) == {SITE: "folded"}


def test_a_value_that_is_cast_is_no_constant():
    m = Model(dtype=np.float32)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(3)]
    computed = m.op("CastLike", m.op("Abs", m.x(6)), x)
    out(m, m.op("BatchNormalization", x, computed, *parameters, name=SITE))
    assert statuses(m) == {SITE: "kept"}


def test_a_value_that_is_read_for_its_type_may_change():
    """Another reader of the convolution's result would keep the normalization from going into it."""
    m = Model(dtype=np.float32)
    x = m.conv(start(m), 6)
    out(m, m.op("Add", m.bn(x), m.op("CastLike", m.op("Asinh", m.x(2, 6, 3, 4)), x)))
    assert statuses(m)[SITE] == "folded"


def test_a_value_that_is_read_for_its_values_may_not():
    m = Model(dtype=np.float32)
    x = m.conv(start(m), 6)
    out(m, m.op("Add", m.bn(x), m.op("CastLike", x, m.x(1))))
    assert statuses(m)[SITE] != "folded"
