"""An operator that only makes a constant is kept where an option says so, and everything that needs it gone stays."""

from __future__ import annotations

import numpy as np
import pytest

from folding import Options
from tests.support.models import DIGITS, SITE, Model, assert_same_function, fold
from tests.support.rows.row import out, start


def weight(m: Model) -> str:
    """A convolution whose weight an operator makes, before a normalization."""
    w = m.op("Identity", m.constant((6, 4, 1, 1)), name="maker")
    return m.bn(m.op("Conv", start(m), w))


def gamma(m: Model) -> str:
    """A normalization whose scale an operator makes, behind a convolution."""
    x = m.conv(start(m), 6)
    scale = m.op("Identity", m.constant((6,)), name="maker")
    others = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(3)]
    return m.op("BatchNormalization", x, scale, *others, name=SITE)


def chain(m: Model) -> str:
    """The operator that is kept makes what another one reads that makes the weight."""
    w = m.op("Transpose", m.op("Identity", m.constant((4, 6, 1, 1)), name="maker"), perm=[1, 0, 2, 3], name="last")
    return m.bn(m.op("Conv", start(m), w))


def branches(m: Model) -> str:
    """A sum of parallel branches, of which one has such a weight."""
    x = start(m)
    w = m.op("Identity", m.constant((4, 4, 1, 1)), name="maker")
    return m.op("Add", m.op("Conv", x, w), m.bn(x))


def alone(m: Model) -> str:
    """A normalization that no fold takes, with such a scale."""
    scale = m.op("Identity", m.constant((4,)), name="maker")
    others = [m.constant(m.random.uniform(0.5, 1.5, 4)) for _ in range(3)]
    return m.op("BatchNormalization", start(m), scale, *others, name=SITE)


KEEP = ("maker",)


@pytest.mark.parametrize("leftover", ["keep", "affine", "conv"])
@pytest.mark.parametrize("build", [weight, gamma, chain, branches, alone])
def test_what_makes_a_constant_is_kept(build, leftover):
    m = Model(dtype=np.float32)  # ONNX Runtime has no Conv in float64
    out(m, build(m))
    before = m.build()
    kept = next(node for node in before.graph.node if node.name == "maker")
    after, _ = fold(before, Options(verify=False, keep=KEEP, leftover=leftover))
    assert kept in after.graph.node
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    gone, _ = fold(before, Options(verify=False, leftover=leftover))
    assert (kept in gone.graph.node) == (build is alone and leftover == "keep")


@pytest.mark.parametrize("build", [weight, gamma, chain])
def test_the_report_says_so(build):
    m = Model()
    out(m, build(m))
    _, report = fold(m.build(), Options(verify=False, keep=KEEP))
    (site,) = [one for one in report.outcomes if one.node == SITE]
    assert site.backward is not None
    assert (site.backward.code, site.backward.at) == ("kept-by-option", "maker")


def test_one_that_others_read_may_stay_and_the_fold_go_on():
    m = Model(dtype=np.float32)
    x = start(m)
    w = m.op("Identity", m.constant((6, 4, 1, 1)), name="maker")
    out(m, m.op("Add", m.bn(m.op("Conv", x, w)), m.op("Asinh", m.op("Conv", x, w))))
    after, report = fold(m.build(), Options(verify=False, keep=KEEP))
    assert "maker" in {node.name for node in after.graph.node}
    assert [one.status for one in report.outcomes if one.node == SITE] == ["folded"]


@pytest.mark.parametrize("values", [np.ones(4), np.full(4, 2.0)])
def test_what_makes_the_constant_of_a_map_that_could_vanish(values):
    """An identity, or a map of which nothing is read, stays with the operator that makes its constant."""
    m = Model()
    x = start(m, 3, 4)
    m.op("Mul", x, m.op("Identity", m.constant(values), name="maker"), name=SITE)
    out(m, m.nodes[-1].output[0] if values[0] == 1 else x)
    before = m.build()
    after, report = fold(before, Options(verify=False, keep=("maker",)))
    assert after == before
    assert report.outcomes[0].status == "kept"
    _, report = fold(before)
    assert report.outcomes[0].status == "removed"
