"""Pooling, resampling and selection in the operator sets that rows do not have, and in models that are broken."""

# ruff: noqa: E501  a case is one line, as in the tables of rows
from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from folding import fold_model
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.pooling import pool
from tests.support.rows.resampling import resize, resize_to, tiled
from tests.support.rows.row import Kept, into, judge, out, start
from tests.support.rows.selection import cut, halves, index, pad, scalar, split


def averaged(m, **attributes):
    out(m, m.per_channel("Add", pool(m, "AveragePool", m.conv(start(m), 6), **attributes)))


def shifted(m, x, channels=6):
    """One Add, before opset 7 by attributes."""
    return m.op("Add", x, m.constant((channels,)), axis=1, broadcast=1, name=SITE)


def old_bn(m, x):
    """BatchNormalization-1."""
    return m.bn(x, consumed_inputs=[0, 0, 0, 1, 1])


def tiled_once(m, x):
    """Tile-1: how often, and along which axis."""
    out(m, m.conv(m.op("Tile", x, m.constant(np.array(2.0)), m.constant(np.array(3.0))), 6))


def upsampled(m, scales):
    x = m.conv(start(m), 6)
    if m.opset < 7:
        return m.op("Upsample", x, height_scale=scales[2], width_scale=scales[3])
    if m.opset < 9:
        return m.op("Upsample", x, scales=scales)
    given = m.constant(np.array(scales, np.float32), dtype=np.float32)
    return m.op("Upsample" if m.opset < 10 else "Resize", x, given)


def resized(m, **attributes):
    """To sizes of all axes, or of those that `axes` names."""
    sizes = [2, 6, 6, 8][-len(attributes.get("axes", range(4))) :]
    out(m, m.bn(resize_to(m, m.conv(start(m), 6), *sizes, **attributes)))


def for_nearest(m, site):
    """A position is looked up half an element aside, even where the scale is 1."""
    roi, scales = (m.constant(np.array(v, np.float32), dtype=np.float32) for v in ([], [1, 1, 2, 2]))
    how = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    out(m, site(m.op("Resize", m.conv(start(m), 6), roi, scales, **how)))


def second_part(m, first, second):
    m.op("Concat", out(m, first), out(m, m.bn(second)), axis=1)


def attributes(m, **given):
    first = m.op("Split", m.conv(start(m), 6), outputs=2, **given)
    second_part(m, first, f"{first}_1")


def wrapped(m, axis):
    x = m.op("Pad", m.conv(start(m), 6), index(m, 1, 0), "", index(m, axis), mode="wrap")
    out(m, m.bn(x))


FRAME = [0, 0, 1, 0, 0, 0, 2, 1]

VERSIONS = {
    "AveragePool-1": (6, averaged, into("Conv")),
    "AveragePool-1 counts no padding": (6, lambda m: averaged(m, pads=[1, 0, 0, 1]), into("Conv")),
    "AveragePool-1 of padding alone": (6, lambda m: averaged(m, pads=[2, 0, 0, 1]), Kept("zero-padding", "barrier")),
    "AveragePool-7": (7, lambda m: averaged(m, pads=[1, 0, 0, 1]), into("Conv")),
    "AveragePool, dilated": (22, lambda m: averaged(m, dilations=[2, 1]), into("Conv")),
    "AveragePool, dilated and padded": (22, lambda m: averaged(m, dilations=[2, 1], pads=[1, 0, 1, 0]), into("Conv")),
    "AveragePool, dilated beyond the image": (22, lambda m: averaged(m, dilations=[4, 1], pads=[1, 0, 1, 0]), Kept("zero-padding", "barrier")),
    "AveragePool, dilated and padded, that counts": (22, lambda m: averaged(m, dilations=[2, 1], pads=[1, 0, 1, 0], count_include_pad=1), Kept("zero-padding", "barrier")),
    "AveragePool, dilated by 1 and padded": (22, lambda m: averaged(m, dilations=[1, 1], pads=[1, 0, 1, 0]), into("Conv")),
    "MaxPool-1": (6, lambda m: out(m, shifted(m, pool(m, "MaxPool", m.conv(start(m), 6)))), into("Conv")),
    "LpPool-2": (6, lambda m: out(m, shifted(m, pool(m, "LpPool", m.conv(start(m), 6)))), Kept("shift-left", "barrier")),
    "ReduceSum-1": (6, lambda m: out(m, m.conv(m.op("ReduceSum", m.bn(start(m)), axes=[2]), 6, kernel=(1, 2))), into("Conv")),
    "ReduceSum-11": (11, lambda m: out(m, m.bn(m.op("ReduceSum", m.conv(start(m), 6), axes=[-1], keepdims=0))), into("Conv")),
    "ReduceMean-18 of nothing": (22, lambda m: out(m, m.conv(m.op("ReduceMean", m.bn(start(m)), noop_with_empty_axes=1), 6)), into("Conv")),
    "ReduceMean-18 of all": (22, lambda m: out(m, m.op("ReduceMean", m.bn(start(m)))), Kept("barrier", "axis")),
    "Upsample-1": (6, lambda m: out(m, m.bn(upsampled(m, [1, 1, 2.0, 1.5]))), Kept("unknown-shape", "unknown-shape")),
    "before Upsample-1": (6, lambda m: out(m, m.conv(m.op("Upsample", m.bn(start(m)), height_scale=2.0, width_scale=1.5), 6)), into("Conv")),
    "Upsample-7": (8, lambda m: out(m, m.bn(upsampled(m, [1.0, 1.0, 2.0, 1.5]))), into("Conv")),
    "Upsample-9": (9, lambda m: out(m, m.bn(upsampled(m, [1, 1, 2, 1.5]))), into("Conv")),
    "Upsample-9, a map along the image": (9, lambda m: out(m, m.per_channel("Mul", upsampled(m, [1, 1, 2, 1]), axis=2)), Kept("axis", "barrier")),
    "Resize-10": (10, lambda m: out(m, m.bn(upsampled(m, [1, 1, 2, 1.5]))), into("Conv")),
    "Resize-11, half a position aside": (11, lambda m: for_nearest(m, m.bn), Kept("axis", "barrier")),
    "Resize-11, half a position aside, one map": (11, lambda m: for_nearest(m, lambda x: scalar(m, "Add", x)), into("Conv")),
    "Resize-18 of some axes": (22, lambda m: resized(m, axes=[2, 3]), into("Conv")),
    "Resize-18 of some axes, in another order": (22, lambda m: out(m, m.bn(resize(m, m.conv(start(m), 6), 2, 1, axes=[3, 1]))), into("Conv")),
    "Resize-18 of the channels": (22, lambda m: out(m, m.bn(resize(m, m.conv(start(m), 3), 1, 2, axes=[2, 1]))), Kept("axis", "barrier")),
    "Resize-18 that keeps the aspect ratio": (22, lambda m: resized(m, keep_aspect_ratio_policy="not_larger"), Kept("axis", "barrier")),
    "Resize-18 that keeps the ratio of the image": (22, lambda m: resized(m, axes=[-2, -1], keep_aspect_ratio_policy="not_smaller"), into("Conv")),
    "Resize-18 with antialias": (22, lambda m: out(m, m.bn(resize(m, m.conv(start(m), 6), 1, 1, 0.6, 0.5, antialias=1, mode="cubic"))), into("Conv")),
    "DepthToSpace-1": (10, lambda m: out(m, m.bn(m.op("DepthToSpace", m.conv(start(m), 12), blocksize=2))), into("Conv")),
    "SpaceToDepth-28, CRD": (28, lambda m: out(m, tiled(m, m.op("SpaceToDepth", m.conv(start(m, 2, 4, 6, 6), 3), blocksize=2, mode="CRD"), -4)), into("Conv")),
    "SpaceToDepth-28, the other order": (28, lambda m: out(m, tiled(m, m.op("SpaceToDepth", m.conv(start(m, 2, 4, 6, 6), 3), blocksize=2, mode="CRD"))), Kept("axis", "barrier")),
    "Slice-1": (9, lambda m: out(m, m.bn(m.op("Slice", m.conv(start(m), 6), starts=[1], ends=[-1], axes=[1]))), into("Conv")),
    "Slice-1 without axes": (9, lambda m: out(m, m.bn(m.op("Slice", m.conv(start(m), 6), starts=[0, 1], ends=[2, 4]))), into("Conv")),
    "Split-1": (1, lambda m: m.op("Concat", *(m.conv(p, 3) for p in halves(m, old_bn(m, start(m)))), axis=1), Kept("barrier", "old-opset")),
    "Split-2": (11, lambda m: attributes(m, axis=1, split=[2, 4]), into("Conv")),
    "Split-2 into halves": (11, lambda m: attributes(m, axis=1), into("Conv")),
    "Split-18, uneven": (22, lambda m: second_part(m, *halves(m, m.conv(start(m), 5))), into("Conv")),
    "Pad-1": (1, lambda m: out(m, m.conv(m.op("Pad", old_bn(m, start(m)), paddings=[0, 1, 0, 0, 0, 0, 0, 0]), 6)), into("Conv")),
    "Pad-2": (10, lambda m: out(m, m.per_channel("Mul", m.op("Pad", m.conv(start(m), 6), pads=FRAME))), into("Conv")),
    "Pad-2 has a value of one type": (10, lambda m: out(m, scalar(m, "Add", m.op("Pad", m.conv(start(m), 6), pads=FRAME, value=0.5))), Kept("old-opset", "barrier")),
    "Pad-18, axes": (22, lambda m: out(m, m.bn(m.op("Pad", m.conv(start(m), 6), index(m, 1, 0), "", index(m, -1), mode="reflect"))), into("Conv")),
    "Pad-19, wrap": (22, lambda m: wrapped(m, -1), into("Conv")),
    "Pad-19, wrap of the channels": (22, lambda m: wrapped(m, 1), Kept("axis", "barrier")),
    "Pad-18, axes, with a number": (22, lambda m: out(m, scalar(m, "Add", m.op("Pad", m.conv(start(m), 6), index(m, 1, 0), "", index(m, -1)))), into("Conv", "Pad")),
    "Tile-1": (5, lambda m: tiled_once(m, m.op("Mul", start(m), m.constant((1,)), broadcast=1, name=SITE)), into("Conv")),
    "Tile-1, a map per channel": (5, lambda m: tiled_once(m, shifted(m, start(m), 4)), Kept("barrier", "old-opset")),
    "Gather-1": (10, lambda m: out(m, m.bn(m.op("Gather", m.conv(start(m), 6), index(m, 5, 1), axis=1))), into("Conv")),
}  # fmt: skip


@pytest.mark.parametrize("name", VERSIONS)
def test_other_operator_sets(name):
    opset, build, expected = VERSIONS[name]
    m = Model(opset)
    build(m)
    before = m.build()
    after, report = fold(before)
    outcome = next(o for o in report.outcomes if o.node == SITE)
    judge(outcome, expected, {n.name: n.op_type for n in (*before.graph.node, *after.graph.node)})
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def before(m, op, x, *inputs, **attributes):
    """A broken operator behind a normalization, and a convolution behind it."""
    y = m.op(op, m.bn(x), *inputs, like=x, **attributes)
    m.op("Conv", y, m.constant((3, 4, 1, 1)), like=x)


def behind(m, op, x, *inputs, channels=4, outputs=1, **attributes):
    """A broken operator, and a map behind it."""
    y = m.op(op, x, *inputs, like=x, outputs=outputs, **attributes)
    m.op("Asinh", m.op("Mul", y, m.constant((channels, 1, 1)), name=SITE, like=x), like=x)


def unknown(m):
    return m.op("Sum", *(m.x(2, 4, 5, 6, declare=[2, "C", 5, 6]) for _ in range(2)))


def declared(m):
    """What inference cannot know, and the file declares: a million positions and more."""
    return m.op("Asinh", m.x(2, 4, 5, 6, declare=[2, 2**30, 5, 6]))


BROKEN = {
    "ReduceSum of an axis it has not": (lambda m: before(m, "ReduceSum", start(m), index(m, 4)), Kept("barrier", "parameters")),
    "ReduceSum of an axis twice": (lambda m: before(m, "ReduceSum", start(m), index(m, 1, -3)), Kept("barrier", "parameters")),
    "Slice by nothing": (lambda m: before(m, "Slice", start(m), index(m, 0), index(m, 2), index(m, 1), index(m, 0)), Kept("barrier", "parameters")),
    "Slice without ends": (lambda m: before(m, "Slice", start(m), index(m, 0), index(m), index(m, 1)), Kept("barrier", "parameters")),
    "Split into other parts": (lambda m: before(m, "Split", start(m), index(m, 1, 1, 2), axis=1), Kept("barrier", "parameters")),
    "Split into a negative part": (lambda m: before(m, "Split", start(m), index(m, -1), axis=1), Kept("barrier", "parameters")),
    "Split of too much": (lambda m: before(m, "Split", start(m), index(m, 5), axis=1), Kept("barrier", "parameters")),
    "Split, a map of another length": (lambda m: behind(m, "Split", unknown(m), index(m, 2, 2), channels=3, outputs=2, axis=1), Kept("unknown-shape", "unknown-shape")),
    "Gather of what is not there": (lambda m: before(m, "Gather", start(m), index(m, 4), axis=1), Kept("barrier", "parameters")),
    "Gather from before the start": (lambda m: before(m, "Gather", start(m), index(m, -5), axis=1), Kept("barrier", "parameters")),
    "Pad by too few numbers": (lambda m: before(m, "Pad", start(m), index(m, 0, 0, 0, 0)), Kept("barrier", "parameters")),
    "Pad that crops everything": (lambda m: before(m, "Pad", start(m), index(m, 0, -4, 0, 0, 0, 0, 0, 0)), Kept("barrier", "parameters")),
    "Pad by a billion": (lambda m: before(m, "Pad", start(m), index(m, 0, 2**30, 0, 0, 0, 0, 0, 0)), Kept("barrier", "too-large")),
    "Pad with two numbers": (lambda m: before(m, "Pad", start(m), index(m, *FRAME), m.constant((2,))), Kept("barrier", "non-finite")),
    "Pad with infinity": (lambda m: before(m, "Pad", start(m), index(m, *FRAME), m.constant(np.array(np.inf))), Kept("barrier", "non-finite")),
    "Tile for fewer axes": (lambda m: before(m, "Tile", start(m), index(m, 2, 2)), Kept("barrier", "parameters")),
    "Tile by zero": (lambda m: before(m, "Tile", start(m), index(m, 1, 0, 1, 1)), Kept("barrier", "parameters")),
    "Tile by a billion": (lambda m: before(m, "Tile", start(m), index(m, 1, 2**30, 1, 1)), Kept("barrier", "too-large")),
    "SpaceToDepth by a thousand": (lambda m: before(m, "SpaceToDepth", start(m), blocksize=2**12), Kept("barrier", "too-large")),
    "SpaceToDepth by nothing": (lambda m: before(m, "SpaceToDepth", start(m), blocksize=0), Kept("barrier", "parameters")),
    "DepthToSpace of three axes": (lambda m: before(m, "DepthToSpace", start(m, 2, 4, 5), blocksize=2), Kept("barrier", "parameters")),
    "DepthToSpace of too few channels": (lambda m: before(m, "DepthToSpace", start(m, 2, 6, 5, 4), blocksize=2), Kept("barrier", "parameters")),
    "Resize by too few scales": (lambda m: before(m, "Resize", start(m), "", m.constant(np.ones(1, np.float32), dtype=np.float32)), Kept("barrier", "axis")),
    "Slice of a length that the file declares": (lambda m: behind(m, "Slice", declared(m), index(m, 0), index(m, 4), index(m, 1)), Kept("too-large", "barrier")),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_left_alone(name):
    build, expected = BROKEN[name]
    m = Model(22)
    build(m)
    model = m.build()
    after, report = fold_model(model, NO_VERIFY)
    judge(next(o for o in report.outcomes if o.node == SITE), expected, {})
    assert after == model


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [("ReduceSum", [[1]], {"keepdims": 0}), ("Gather", [[0, 1]], {"axis": 1}), ("Split", [[4]], {"axis": 1})],
)
def test_shapes_that_contradict_each_other_are_no_crash(op, inputs, attributes):
    """Behind a foreign operator nothing is inferred, and what the file declares may be wrong."""
    m = Model(22)
    x = start(m)
    m.op("Identity", x)
    m.nodes[-1].domain, m.nodes[-1].op_type = "elsewhere", "Foreign"
    y = m.op(op, "v1", *(index(m, *v) for v in inputs), like=x, **attributes)
    out(m, m.per_channel("Add", y, axis=3))
    model = m.build()
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    model.graph.value_info.extend(
        helper.make_tensor_value_info(v, 11, s) for v, s in (("v1", [2, 4]), (y, [2, 4, 5, 6]))
    )
    after, report = fold_model(model, NO_VERIFY)
    assert report.outcomes[0].status == "kept"
    assert after == model


def test_two_cuts_of_one_value_keep_each_other():
    m = Model()
    x = m.conv(start(m), 6)
    m.op("Concat", out(m, m.bn(cut(m, x, [0], [2], [1]))), out(m, cut(m, x, [2], [6], [1])), axis=1)
    _, report = fold(m.build())
    judge(report.outcomes[0], Kept("other-consumer", "barrier"), {})


def test_the_pad_value_is_rewritten_in_its_own_type():
    m = Model(dtype=np.float16)
    out(m, scalar(m, "Add", pad(m, m.conv(start(m), 6), FRAME, 0.25)))
    after, _ = fold(m.build())
    assert {t.data_type for t in after.graph.initializer if not t.dims} == {10}


def test_a_part_of_a_split_that_nobody_names():
    m = Model()
    parts = split(m, m.bn(start(m)), 1, 3)
    m.nodes[-1].output[0] = ""
    out(m, m.conv(parts[1], 6))
    model = m.build()
    after, report = fold(model)
    judge(report.outcomes[0], into("Conv"), {n.name: n.op_type for n in after.graph.node})
