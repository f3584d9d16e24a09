"""Parallel branches become one convolution: exactly where they read one value and one of them held a normalization."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from folding import Options, fold_model
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.row import barrier, out, start


def check(m: Model, *, one: bool = True, options: Options = NO_VERIFY, outputs: tuple[str, ...] = ()) -> list[str]:
    """Fold; the operators that are left, without the nonlinear ends. With `one`: a single Conv."""
    before = m.build(*outputs)
    after, report = fold(before, options)
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    again, second = fold(after, options)
    assert again == after
    assert not second.changed
    left = [n.op_type for n in after.graph.node if n.op_type not in {"Asinh", "Elu"}]
    outcome = next(o for o in report.outcomes if o.node == SITE)
    assert (left == ["Conv"]) == one
    if one:
        assert outcome.status == "folded"
    return left


def repvgg(m: Model, group: int = 1, channels: int = 4, **conv: object) -> str:
    x = start(m, 2, channels, 5, 6)
    first = m.bn(m.conv(x, channels, pads=[1] * 4, bias=False, group=group, **conv), name="three")
    second = m.bn(m.conv(x, channels, kernel=1, bias=False, group=group), name="one")
    return out(m, m.op("Add", m.op("Add", first, second), m.bn(x)))


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16], ids=str)
def test_a_repvgg_block_is_one_conv(group, dtype):
    m = Model(17, dtype)
    repvgg(m, group)
    check(m)


def test_all_forms_of_one_dimension_and_three():
    m = Model()
    x = start(m, 2, 4, 9)
    out(m, m.op("Sum", m.conv(x, 4, kernel=5, pads=[2, 2]), m.bn(x), m.conv(x, 4, kernel=1), m.conv(x, 4, pads=[1, 1])))
    check(m)
    m = Model()
    x = start(m, 1, 2, 3, 4, 3)
    out(m, m.op("Sub", m.conv(x, 2, pads=[1] * 6), m.bn(x)))
    check(m)


def test_strided_branches_without_identity():
    m = Model()
    x = start(m)
    first = m.bn(m.conv(x, 6, pads=[1] * 4, strides=[2, 2]))
    out(m, m.op("Add", first, m.conv(x, 6, kernel=1, strides=[2, 2])))
    check(m)


def test_a_reparameterized_mixer():
    """FastViT: x + scale * (mixer(x) - norm(x))."""
    m = Model()
    x = start(m)
    mixer = m.op("Add", m.bn(m.conv(x, 4, pads=[1] * 4, group=4), name="mixer"), m.bn(x, name="skip"))
    inner = m.op("Sub", mixer, m.bn(x))
    out(m, m.op("Add", x, m.per_channel("Mul", inner, name="layer_scale")))
    check(m)


def test_dilation_and_uneven_kernels():
    m = Model()
    x = start(m, 2, 4, 9, 8)
    wide = m.conv(x, 4, kernel=(3, 1), dilations=[2, 1], pads=[2, 0, 2, 0])
    out(m, m.op("Add", m.op("Add", wide, m.conv(x, 4, pads=[1] * 4)), m.bn(x)))
    left = check(m, one=False)  # five rows and three columns are more work than 3 + 9 + 1
    assert left.count("Conv") == 2
    m = Model()
    x = start(m, 2, 4, 9, 8)
    wide = m.conv(x, 4, kernel=(3, 2), dilations=[2, 3], pads=[1, 1, 3, 2])
    out(m, m.op("Add", wide, m.bn(x)))
    check(m, one=False)  # the identity does not lie on the grid of the kernel: six columns for two


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_that_the_operator_chooses(auto_pad):
    m = Model()
    x = start(m)
    out(m, m.op("Add", m.conv(x, 4, kernel=2, auto_pad=auto_pad), m.bn(x)))
    check(m)


def test_a_shared_weight_is_copied():
    m = Model()
    x = start(m)
    w = m.constant((4, 4, 3, 3))
    merged = out(m, m.op("Add", m.op("Conv", x, w, pads=[1] * 4), m.bn(x)))
    other = out(m, m.op("Conv", x, w))
    before = m.build(merged, other)
    after, _ = fold(before)
    assert [n.op_type for n in after.graph.node].count("Conv") == 2
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_the_sum_may_be_an_output():
    m = Model()
    x = start(m)
    y = m.op("Add", m.conv(x, 4, pads=[1] * 4), m.bn(x))
    check(m, outputs=(y,))


def residual(m: Model, **conv: object) -> str:
    x = start(m)
    return m.op("Add", m.conv(x, 4, **{"pads": [1] * 4, **conv}), m.bn(x))


KEPT = {
    "without a normalization": lambda m: (lambda x: out(m, m.op("Add", m.conv(x, 4, pads=[1] * 4), m.per_channel("Mul", x))))(start(m)),
    "of two values": lambda m: out(m, m.op("Add", m.conv(start(m), 4, pads=[1] * 4), m.bn(start(m)))),
    "of different length": lambda m: (lambda x: out(m, m.op("Add", m.conv(x, 4, kernel=(5, 6)), m.bn(x))))(start(m)),
    "with a stride and an identity": lambda m: (lambda x: out(m, m.op("Add", m.conv(x, 4, kernel=1, strides=[5, 6]), m.bn(x))))(start(m)),
    "of one channel and many": lambda m: (lambda x: out(m, m.op("Add", m.conv(x, 1, pads=[1] * 4), m.bn(x))))(start(m)),
    "of one output channel and many": lambda m: (lambda x: out(m, m.op("Add", m.conv(x, 1, kernel=1), m.bn(m.conv(x, 4, kernel=1)))))(start(m)),
    "of different strides": lambda m: (lambda x: out(m, m.op("Add", m.conv(x, 4, kernel=1, strides=[2, 2]), m.bn(m.conv(x, 4)))))(start(m, 2, 4, 5, 5)),
    "that vary in space": lambda m: (lambda x: out(m, m.op("Add", m.per_channel("Mul", m.op("Sub", m.conv(x, 4, pads=[1] * 4), m.bn(x)), name="rows", axis=2), m.conv(x, 4, kernel=1))))(start(m)),
    "with a barrier": lambda m: (lambda x: out(m, m.op("Add", barrier(m, m.conv(x, 4, pads=[1] * 4)), m.bn(x))))(start(m)),
    "of different groups": lambda m: (lambda x: out(m, m.op("Add", m.op("Add", m.conv(x, 4, pads=[1] * 4, group=2), m.conv(x, 4, kernel=1)), m.bn(x))))(start(m)),
    "of a computed weight": lambda m: (lambda x: out(m, m.op("Add", m.op("Conv", x, m.x(4, 4, 1, 1)), m.bn(x))))(start(m)),
    "whose sizes choose the padding": lambda m: (lambda x: out(m, m.op("Add", m.conv(x, 4, auto_pad="SAME_UPPER", strides=[2, 2]), m.bn(m.conv(x, 4, kernel=1, strides=[2, 2])))))(start(m)),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_branches_that_stay(name):
    m = Model()
    KEPT[name](m)
    left = check(m, one=False)
    assert "Conv" in left
    assert {"Add", "Sub"} & set(left)


def test_a_malformed_convolution_stays():
    m = Model()
    x = start(m)
    y = m.conv(x, 4, kernel=1)
    out(m, m.op("Add", y, m.bn(x)))
    before = m.build()
    conv = next(n for n in before.graph.node if n.op_type == "Conv")
    conv.attribute.append(onnx.helper.make_attribute("pads", [0, 0, 0]))
    _, report = fold_model(before, NO_VERIFY)
    assert {o.node: o.status for o in report.outcomes}[SITE] == "kept"


def test_a_branch_that_another_reads_stays():
    m = Model()
    x = start(m)
    y = m.conv(x, 4, pads=[1] * 4)
    end = out(m, m.op("Add", y, m.bn(x)))
    check(m, one=False, outputs=(end, out(m, y)))


@pytest.mark.parametrize("options", [
    Options(verify=False, merge_branches=False), Options(verify=False, keep=("add*",)), Options(verify=False, keep=("conv*",)),
    Options(verify=False, only=("nothing", "relu*", "conv*")),
])  # fmt: skip
def test_options_keep_branches(options):
    m = Model()
    out(m, residual(m))
    m.op("Relu", m.nodes[-1].output[0], name="nothing")
    m.op("Relu", m.nodes[-1].output[0], name="relu")
    before = m.build()
    after, _ = fold(before, options)
    assert "Add" in {n.op_type for n in after.graph.node}
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_a_sum_that_does_not_fit_its_type_stays():
    m = Model(17, np.float16)
    x = start(m)
    conv = m.op("Conv", x, m.constant(np.full((4, 4, 1, 1), 6e4)))
    out(m, m.op("Add", conv, m.bn(x, gamma=6e4)))
    before = m.build()
    after, report = fold(before)
    assert report.bn_after == 1
    assert {o.node: o.status for o in report.outcomes}[SITE] == "kept"
    assert "Add" in {n.op_type for n in after.graph.node}


def test_the_report_names_what_is_there():
    """Three branches absorbed their normalizations before they became one: all are reported to be in that one."""
    m = Model()
    repvgg(m)
    after, report = fold(m.build())
    present = {node.name for node in after.graph.node}
    assert all(set(outcome.absorbed_by) <= present for outcome in report.outcomes)
    assert report.notes == ("1 sum of parallel branches became one convolution",)
