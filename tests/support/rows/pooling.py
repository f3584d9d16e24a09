"""Rows of the rules for operators that pool or reduce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.models import SITE, Model
from tests.support.rows.row import Kept, gemm, into, out, start

if TYPE_CHECKING:
    from tests.support.rows.row import Row


def rising(m: Model, x: str, least: float = 0.5) -> str:
    """A BatchNormalization with scales that are not negative; `least` is the one of its first channel."""
    c = m.at(x).shape[1]
    gamma = m.random.uniform(0.5, 2, c)
    gamma[0] = least
    parameters = [m.constant(gamma), m.constant((c,)), m.constant((c,)), m.constant(m.random.uniform(0.5, 2, c))]
    return m.op("BatchNormalization", x, *parameters, name=SITE)


def scale(m: Model, x: str, axis: int = 1, least: float = 0.5) -> str:
    """A Mul along one axis with constants that are not negative unless `least`, the first of them, is."""
    shape = [1] * m.at(x).ndim
    shape[axis] = m.at(x).shape[axis]
    values = m.random.uniform(0.5, 2, shape)
    values.flat[0] = least
    return m.op("Mul", x, m.constant(values), name=SITE)


def pool(m: Model, op: str, x: str, kernel: tuple[int, ...] = (2, 2), **attributes: Any) -> str:
    return m.op(op, x, kernel_shape=list(kernel), **attributes)


def average(m: Model, x: str, **attributes: Any) -> str:
    return pool(m, "AveragePool", x, **attributes)


def reduce(m: Model, op: str, x: str, axes: list[int] | None = None, **attributes: Any) -> str:
    """A reduction, its axes given as the operator set asks for."""
    if axes is None:
        return m.op(op, x, **attributes)
    if op == "ReduceSum" or m.opset >= 18:
        return m.op(op, x, m.constant(np.array(axes, np.int64)), **attributes)
    return m.op(op, x, axes=axes, **attributes)


def with_indices(m: Model, least: float) -> None:
    y = m.op("MaxPool", rising(m, m.conv(start(m), 6), least), kernel_shape=[2, 2], outputs=2)
    m.op("Add", out(m, y), m.op("Cast", f"{y}_1", to=11))


def indices_behind(m: Model, least: float) -> None:
    y = m.op("MaxPool", m.conv(start(m), 6), kernel_shape=[2, 2], outputs=2)
    m.op("Add", out(m, rising(m, y, least)), m.op("Cast", f"{y}_1", to=11))


def unknown(m: Model, op: str) -> None:
    """The sum over a length that only the caller knows."""
    x = m.op("Conv", m.x(2, 4, 5, 6, declare=[2, 4, 5, "W"]), m.constant((6, 4, 3, 3)))
    out(m, m.per_channel(op, reduce(m, "ReduceSum", x, [3])))


AVERAGE: list[Row] = [
    ("AveragePool", lambda m: out(m, m.bn(average(m, m.conv(start(m), 6)))), into("Conv", direction="backward")),
    ("AveragePool, strided", lambda m: out(m, m.bn(average(m, m.conv(start(m), 6), strides=[2, 1]))), into("Conv")),
    ("before AveragePool", lambda m: out(m, m.conv(average(m, m.bn(start(m))), 6)), into("Conv", direction="forward")),
    ("AveragePool, padded", lambda m: out(m, m.bn(average(m, m.conv(start(m), 6), pads=[1, 0, 0, 1]))), into("Conv")),
    ("before AveragePool, padded", lambda m: out(m, m.conv(average(m, m.bn(start(m)), pads=[1, 1, 1, 1]), 6)), into("Conv")),
    ("AveragePool that counts zeros", lambda m: out(m, m.per_channel("Add", average(m, m.conv(start(m), 6), pads=[1, 0, 0, 1], count_include_pad=1))), Kept("zero-padding", "barrier")),
    ("before AveragePool that counts zeros", lambda m: out(m, m.conv(average(m, m.per_channel("Add", start(m)), pads=[0, 0, 0, 1], count_include_pad=1), 6)), Kept("barrier", "zero-padding")),
    ("scale, AveragePool that counts zeros", lambda m: out(m, m.per_channel("Mul", average(m, m.conv(start(m), 6), pads=[1, 0, 0, 1], count_include_pad=1))), into("Conv")),
    ("AveragePool that would count zeros", lambda m: out(m, m.bn(average(m, m.conv(start(m), 6), count_include_pad=1))), into("Conv")),
    ("AveragePool, VALID", lambda m: out(m, m.bn(average(m, m.conv(start(m), 6), count_include_pad=1, auto_pad="VALID"))), into("Conv")),
    ("AveragePool, SAME", lambda m: out(m, m.bn(average(m, m.conv(start(m), 6), auto_pad="SAME_UPPER"))), into("Conv")),
    ("AveragePool, SAME, that counts zeros", lambda m: out(m, m.per_channel("Add", average(m, m.conv(start(m), 6), count_include_pad=1, auto_pad="SAME_LOWER"))), Kept("zero-padding", "barrier")),
    ("AveragePool, ceil_mode", lambda m: out(m, m.bn(average(m, m.conv(start(m), 6), strides=[2, 2], ceil_mode=1))), into("Conv")),
    ("AveragePool, ceil_mode, that counts", lambda m: out(m, m.per_channel("Add", average(m, m.conv(start(m), 6), strides=[2, 2], ceil_mode=1, count_include_pad=1))), Kept("zero-padding", "barrier")),
    ("AveragePool of padding alone", lambda m: out(m, m.per_channel("Add", average(m, m.conv(start(m), 6), pads=[2, 0, 0, 0]))), Kept("zero-padding", "barrier")),
    ("AveragePool, a map along the image", lambda m: out(m, m.per_channel("Mul", average(m, m.conv(start(m), 6)), axis=3)), Kept("axis", "barrier")),
    ("AveragePool, channels = height", lambda m: out(m, m.per_channel("Mul", average(m, m.conv(start(m, 2, 4, 7, 7), 4)), axis=2)), Kept("axis", "barrier")),
    ("before AveragePool, a map along the image", lambda m: out(m, m.conv(average(m, m.per_channel("Mul", start(m), axis=2)), 6)), Kept("barrier", "axis")),
    ("GlobalAveragePool", lambda m: out(m, m.bn(m.op("GlobalAveragePool", m.conv(start(m), 6)))), into("Conv")),
    ("before GlobalAveragePool", lambda m: out(m, m.conv(m.op("GlobalAveragePool", m.bn(start(m))), 6, kernel=1)), into("Conv")),
    ("GlobalAveragePool, Flatten, Gemm", lambda m: out(m, gemm(m, m.op("Flatten", m.op("GlobalAveragePool", m.bn(start(m)))))), into("Gemm", direction="forward")),
    ("AveragePool, Flatten, Gemm", lambda m: out(m, gemm(m, m.op("Flatten", average(m, m.bn(start(m)), strides=[2, 2])))), into("Gemm", direction="forward")),
    ("before GlobalAveragePool, a map along the image", lambda m: out(m, m.conv(m.op("GlobalAveragePool", m.per_channel("Mul", start(m), axis=2)), 6, kernel=1)), Kept("barrier", "axis")),
]  # fmt: skip

MAXIMUM: list[Row] = [
    ("MaxPool", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6), pads=[1, 0, 0, 1]))), into("Conv", direction="backward")),
    ("before MaxPool", lambda m: out(m, m.conv(pool(m, "MaxPool", rising(m, start(m)), pads=[1, 1, 1, 1]), 6)), into("Conv", direction="forward")),
    ("shift, MaxPool", lambda m: out(m, m.per_channel("Sub", pool(m, "MaxPool", m.conv(start(m), 6), pads=[1, 1, 1, 1]))), into("Conv")),
    ("MaxPool, a negative scale", lambda m: out(m, scale(m, pool(m, "MaxPool", m.conv(start(m), 6)), least=-0.5)), Kept("sign", "barrier")),
    ("before MaxPool, a negative scale", lambda m: out(m, m.conv(pool(m, "MaxPool", scale(m, start(m), least=-0.5)), 6)), Kept("barrier", "sign")),
    ("MaxPool, a dead channel", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6)), 0.0)), into("Conv")),
    ("MaxPool with Indices", lambda m: indices_behind(m, 0.5), into("Conv")),
    ("MaxPool with Indices, a dead channel", lambda m: indices_behind(m, 0.0), Kept("sign", "barrier")),
    ("before MaxPool with Indices", lambda m: with_indices(m, 0.5), into("Conv")),
    ("MaxPool, dilated", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6), dilations=[2, 1]))), into("Conv")),
    ("MaxPool, dilated and padded", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6), dilations=[2, 1], pads=[1, 0, 1, 0]))), into("Conv")),
    ("MaxPool, dilated beyond the image", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6), dilations=[4, 1], pads=[1, 0, 1, 0]))), Kept("zero-padding", "barrier")),
    ("MaxPool, dilated and padded, of unknown height", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(m.op("Asinh", m.x(2, 4, 5, 6, declare=[2, 4, "H", 6])), 6), dilations=[2, 1], pads=[1, 0, 1, 0]))), Kept("zero-padding", "barrier")),
    ("MaxPool, padded by a window that holds elements", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6), (1, 3), pads=[0, 0, 0, 2], dilations=[1, 2]))), into("Conv")),
    ("MaxPool, a last window in the padding", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6), (1, 2), pads=[0, 0, 0, 4], strides=[1, 4], ceil_mode=1))), Kept("zero-padding", "barrier")),
    ("MaxPool of padding alone", lambda m: out(m, rising(m, pool(m, "MaxPool", m.conv(start(m), 6), pads=[0, 0, 0, 2]))), Kept("zero-padding", "barrier")),
    ("MaxPool, a map along the image", lambda m: out(m, scale(m, pool(m, "MaxPool", m.conv(start(m), 6)), axis=3)), Kept("axis", "barrier")),
    ("GlobalMaxPool", lambda m: out(m, rising(m, m.op("GlobalMaxPool", m.conv(start(m), 6)))), into("Conv")),
    ("GlobalMaxPool, a negative scale", lambda m: out(m, scale(m, m.op("GlobalMaxPool", m.conv(start(m), 6)), least=-0.5)), Kept("sign", "barrier")),
    ("before GlobalMaxPool", lambda m: out(m, gemm(m, m.op("Flatten", m.op("GlobalMaxPool", rising(m, start(m)))))), into("Gemm")),
    ("ReduceMax", lambda m: out(m, rising(m, reduce(m, "ReduceMax", m.conv(start(m), 6), [2, 3], keepdims=0))), into("Conv")),
    ("before ReduceMax", lambda m: out(m, gemm(m, reduce(m, "ReduceMax", rising(m, start(m)), [2, 3], keepdims=0))), into("Gemm")),
    ("ReduceMax, a negative scale", lambda m: out(m, scale(m, reduce(m, "ReduceMax", m.conv(start(m), 6), [2]), least=-0.5)), Kept("sign", "barrier")),
    ("ReduceMin", lambda m: out(m, rising(m, reduce(m, "ReduceMin", m.conv(start(m), 6), [-1]))), into("Conv")),
    ("before ReduceMin, a negative scale", lambda m: out(m, m.conv(reduce(m, "ReduceMin", scale(m, start(m), least=-0.5), [2]), 6, kernel=(1, 2))), Kept("barrier", "sign")),
]  # fmt: skip

NORM: list[Row] = [
    ("LpPool", lambda m: out(m, scale(m, pool(m, "LpPool", m.conv(start(m), 6), pads=[1, 0, 0, 1]))), into("Conv")),
    ("before LpPool", lambda m: out(m, m.conv(pool(m, "LpPool", scale(m, start(m)), p=3), 6)), into("Conv")),
    ("LpPool, a negative scale", lambda m: out(m, scale(m, pool(m, "LpPool", m.conv(start(m), 6)), least=-0.5)), Kept("sign", "barrier")),
    ("LpPool, a shift", lambda m: out(m, m.per_channel("Add", pool(m, "LpPool", m.conv(start(m), 6)))), Kept("shift-left", "barrier")),
    ("LpPool, a map along the image", lambda m: out(m, scale(m, pool(m, "LpPool", m.conv(start(m), 6)), axis=2)), Kept("axis", "barrier")),
    ("GlobalLpPool", lambda m: out(m, scale(m, m.op("GlobalLpPool", m.conv(start(m), 6)))), into("Conv")),
    ("before GlobalLpPool", lambda m: out(m, m.conv(m.op("GlobalLpPool", scale(m, start(m)), p=1), 6, kernel=1)), into("Conv")),
    ("GlobalLpPool, a negative scale", lambda m: out(m, scale(m, m.op("GlobalLpPool", m.conv(start(m), 6)), least=-0.5)), Kept("sign", "barrier")),
    ("ReduceL1", lambda m: out(m, scale(m, reduce(m, "ReduceL1", m.conv(start(m), 6), [2]))), into("Conv")),
    ("before ReduceL1, a negative scale", lambda m: out(m, gemm(m, reduce(m, "ReduceL1", scale(m, start(m), least=-0.5), [2, 3], keepdims=0))), Kept("barrier", "sign")),
    ("ReduceL2", lambda m: out(m, scale(m, reduce(m, "ReduceL2", m.conv(start(m), 6), [2, 3], keepdims=0))), into("Conv")),
    ("before ReduceL2", lambda m: out(m, gemm(m, reduce(m, "ReduceL2", scale(m, start(m)), [2, 3], keepdims=0))), into("Gemm")),
    ("before ReduceL2, a shift", lambda m: out(m, gemm(m, reduce(m, "ReduceL2", m.per_channel("Add", start(m)), [2, 3], keepdims=0))), Kept("barrier", "shift-left")),
]  # fmt: skip

REDUCTION: list[Row] = [
    ("ReduceMean", lambda m: out(m, m.bn(reduce(m, "ReduceMean", m.conv(start(m), 6), [2, 3]))), into("Conv")),
    ("ReduceMean, keepdims 0", lambda m: out(m, m.bn(reduce(m, "ReduceMean", m.conv(start(m), 6), [-1, 2], keepdims=0))), into("Conv")),
    ("ReduceMean of the batch", lambda m: out(m, m.per_channel("Mul", reduce(m, "ReduceMean", m.conv(start(m), 6), [0], keepdims=0), axis=0)), into("Conv")),
    ("ReduceMean of all", lambda m: out(m, m.op("Mul", reduce(m, "ReduceMean", m.conv(start(m), 6), keepdims=0), m.constant(np.array(0.3)), name=SITE)), into("Conv")),
    ("ReduceMean, T = C", lambda m: out(m, m.per_channel("Mul", reduce(m, "ReduceMean", m.op("MatMul", start(m, 2, 4, 4), m.constant((4, 4))), [1], keepdims=0))), into("MatMul")),
    ("ReduceMean, T = C, channels first", lambda m: out(m, m.per_channel("Mul", reduce(m, "ReduceMean", m.op("MatMul", start(m, 2, 4, 4), m.constant((4, 4))), [2], keepdims=0))), Kept("barrier", "barrier")),
    ("before ReduceMean", lambda m: out(m, gemm(m, reduce(m, "ReduceMean", m.bn(start(m)), [2, 3], keepdims=0))), into("Gemm")),
    ("before ReduceMean, keepdims 1", lambda m: out(m, m.conv(reduce(m, "ReduceMean", m.bn(start(m)), [2]), 6, kernel=(1, 2))), into("Conv")),
    ("before ReduceMean of the channels", lambda m: out(m, gemm(m, reduce(m, "ReduceMean", m.bn(start(m, 3, 4, 5)), [1], keepdims=0))), Kept("barrier", "axis")),
    ("a shift behind ReduceMean of the batch", lambda m: out(m, m.op("Add", reduce(m, "ReduceMean", m.conv(start(m), 6), [0], keepdims=0), m.constant(np.array(0.3)), name=SITE)), into("Conv")),
    ("a shift behind ReduceMean of a batch that may be empty", lambda m: out(m, m.op("Add", reduce(m, "ReduceMean", m.conv(m.op("Asinh", m.x(2, 4, 5, 6, declare=["n", 4, 5, 6])), 6), [0], keepdims=0), m.constant(np.array(0.3)), name=SITE)), Kept("unknown-shape", "barrier")),
    ("a scale behind ReduceMean of a batch that may be empty", lambda m: out(m, m.op("Mul", reduce(m, "ReduceMean", m.conv(m.op("Asinh", m.x(2, 4, 5, 6, declare=["n", 4, 5, 6])), 6), [0], keepdims=0), m.constant(np.array(0.3)), name=SITE)), into("Conv")),
    ("before ReduceMean of a batch that may be empty", lambda m: out(m, m.op("MatMul", reduce(m, "ReduceMean", m.op("Add", m.op("Asinh", m.x(2, 4, 5, 6, declare=["n", 4, 5, 6])), m.constant(np.array(0.3)), name=SITE), [0], keepdims=0), m.constant((6, 3)))), Kept("barrier", "unknown-shape")),
    ("before ReduceMean of all", lambda m: out(m, reduce(m, "ReduceMean", m.bn(start(m)))), Kept("barrier", "axis")),
    ("ReduceSum", lambda m: out(m, m.bn(reduce(m, "ReduceSum", m.conv(start(m), 6), [2, 3]))), into("Conv")),
    ("ReduceSum, keepdims 0", lambda m: out(m, m.bn(reduce(m, "ReduceSum", m.conv(start(m), 6), [-2], keepdims=0))), into("Conv")),
    ("ReduceSum of nothing", lambda m: out(m, m.bn(m.op("ReduceSum", m.conv(start(m), 6), keepdims=0, noop_with_empty_axes=1))), into("Conv")),
    ("before ReduceSum of nothing", lambda m: out(m, m.conv(m.op("ReduceSum", m.bn(start(m)), m.constant(np.zeros(0, np.int64)), noop_with_empty_axes=1), 6)), into("Conv")),
    ("before ReduceSum", lambda m: out(m, gemm(m, reduce(m, "ReduceSum", m.bn(start(m)), [2, 3], keepdims=0))), into("Gemm")),
    ("scale before ReduceSum", lambda m: out(m, gemm(m, reduce(m, "ReduceSum", m.per_channel("Mul", start(m)), [2, 3], keepdims=0))), into("Gemm")),
    ("scale, ReduceSum of an unknown length", lambda m: unknown(m, "Mul"), into("Conv")),
    ("shift, ReduceSum of an unknown length", lambda m: unknown(m, "Add"), Kept("unknown-shape", "barrier")),
    ("before ReduceSum, axes unknown", lambda m: out(m, m.op("ReduceSum", m.bn(start(m)), m.op("Shape", m.x(1, 2, declare=["S", "T"])))), Kept("barrier", "unknown-shape")),
    ("CumSum", lambda m: out(m, m.per_channel("Mul", m.op("CumSum", m.conv(start(m), 6), m.constant(np.array(-1)), exclusive=1))), into("Conv")),
    ("before CumSum", lambda m: out(m, m.conv(m.op("CumSum", m.per_channel("Mul", start(m)), m.constant(np.array(2)), reverse=1), 6)), into("Conv")),
    ("CumSum, a shift", lambda m: out(m, m.per_channel("Add", m.op("CumSum", m.conv(start(m), 6), m.constant(np.array(2))))), Kept("shift-left", "barrier")),
    ("CumSum of the channels", lambda m: out(m, m.per_channel("Mul", m.op("CumSum", m.conv(start(m), 6), m.constant(np.array(1))))), Kept("axis", "barrier")),
    ("CumSum, axis unknown", lambda m: out(m, m.per_channel("Mul", m.op("CumSum", m.conv(start(m), 6), m.op("Shape", m.x(2, declare=["S"]))))), Kept("unknown-shape", "barrier")),
]  # fmt: skip

ROWS = AVERAGE + MAXIMUM + NORM + REDUCTION
