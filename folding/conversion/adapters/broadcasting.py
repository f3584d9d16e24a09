"""Operands that broadcast: along `axis` before opset 7, as in NumPy from 7 on (Max, Min, Sum, Mean: from 8 on)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.conversion.adapters.node import NoFormError, connect, drop, given, label, put, take
from folding.conversion.here import dtype_of

if TYPE_CHECKING:
    import onnx

    from folding.algebra.shape import Shape
    from folding.conversion.adapters.node import Table
    from folding.conversion.here import Here

BINARY = ("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor")
SEVERAL = ("Max", "Mean", "Min", "Sum")
NOT_BOUND = "the shapes of its operands are unknown, and they broadcast in another way"


def _binary_up(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto] | None:
    """The second operand gets the axes behind its own: ``add(a, unsqueeze(b))``."""
    broadcast, axis = take(node, "broadcast", 0), take(node, "axis")
    if not broadcast or axis is None:
        return None  # the shapes are the same, or those of NumPy: the last axes
    one, two = here.shape(given(node, 0)), here.shape(given(node, 1))
    if two is not None and all(n == 1 for n in two):
        return None
    if one is None or two is None:
        raise NoFormError(NOT_BOUND)
    behind = len(one) - (axis % len(one)) - len(two)
    if behind <= 0:
        return None
    axes = list(range(len(two), len(two) + behind))
    wider = here.new("Unsqueeze", [given(node, 1)], f"{label(node)}.operand", (*two, *(1,) * behind), axes=axes)
    connect(node, 1, wider.output[0])
    return [wider, node]


def _binary_down(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto] | None:
    """The second operand loses its axes of length 1 in front and behind: ``add(a, squeeze(b))`` along `axis`."""
    one, two = here.shape(given(node, 0)), here.shape(given(node, 1))
    if one is None or two is None:
        raise NoFormError(NOT_BOUND)
    if _same(one, two):
        return None
    kept = [axis for axis, n in enumerate(two) if n != 1]
    if not kept and len(two) <= len(one):
        put(node, "broadcast", 1)
        return None
    first, last = (kept[0], kept[-1] + 1) if kept else (0, 0)
    core, axis = two[first:last], len(one) - len(two) + first
    if axis < 0 or not _same(one[axis : axis + len(core)], core):
        raise NoFormError("its operands broadcast as opset 7 lets them")
    put(node, "broadcast", 1)
    put(node, "axis", axis)
    if len(core) == len(two):
        return None
    axes = [*range(first), *range(last, len(two))]
    flat = here.new("Squeeze", [given(node, 1)], f"{label(node)}.operand", core, axes=axes)
    connect(node, 1, flat.output[0])
    return [flat, node]


def _same(one: Shape, two: Shape) -> bool:
    return len(one) == len(two) and None not in one and one == two


def _several_down(node: onnx.NodeProto, here: Here) -> None:
    shapes = [here.shape(name) for name in node.input]
    if any(shape is None or not _same(shape, shapes[0] or ()) for shape in shapes):
        raise NoFormError("its operands have different or unknown shapes, which broadcast from opset 8 on")


def _gemm_down(node: onnx.NodeProto, here: Here) -> None:
    bias = here.shape(given(node, 2))
    if bias is None:
        raise NoFormError(NOT_BOUND)
    if len(bias) > 1 and 1 in bias and math.prod(n for n in bias if isinstance(n, int)) != 1:
        raise NoFormError("its third operand broadcasts as opset 7 lets it")
    put(node, "broadcast", 1)


def _gemm_up(node: onnx.NodeProto, here: Here) -> None:
    drop(node, "broadcast")


def _gemm_bias(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 11 the third operand is no option."""
    if given(node, 2):
        return
    dtype = dtype_of(here.code(given(node, 0)))
    if dtype is None:
        raise NoFormError("the type of its input is unknown")
    connect(node, 2, here.constant(np.zeros(1, dtype), f"{label(node)}.bias"))


def _slope_up(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto] | None:
    """Before opset 7 a slope of one axis is one number per channel: ``prelu(x, unsqueeze(slope))``."""
    slope, rank = here.shape(given(node, 1)), here.rank(given(node, 0))
    if slope is not None and all(n == 1 for n in slope):
        return None
    if slope is None or rank is None or len(slope) != 1:
        raise NoFormError(NOT_BOUND)
    if rank <= 2:
        return None
    axes = list(range(1, rank - 1))
    wider = here.new("Unsqueeze", [given(node, 1)], f"{label(node)}.slope", (*slope, *(1,) * (rank - 2)), axes=axes)
    connect(node, 1, wider.output[0])
    return [wider, node]


def _slope_down(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto] | None:
    slope, rank = here.shape(given(node, 1)), here.rank(given(node, 0))
    if slope is None or rank is None:
        raise NoFormError(NOT_BOUND)
    if all(n == 1 for n in slope) or (len(slope) == 1 and rank == 2):
        return None
    if len(slope) != rank - 1 or any(n != 1 for n in slope[1:]):
        raise NoFormError("its slope is not one number per channel")
    axes = list(range(1, len(slope)))
    flat = here.new("Squeeze", [given(node, 1)], f"{label(node)}.slope", slope[:1], axes=axes)
    connect(node, 1, flat.output[0])
    return [flat, node]


UP: Table = {
    **{(op, 7): _binary_up for op in BINARY},
    ("Gemm", 7): _gemm_up,
    ("PRelu", 7): _slope_up,
}
DOWN: Table = {
    **{(op, 7): _binary_down for op in BINARY},
    **{(op, 8): _several_down for op in SEVERAL},
    ("Gemm", 7): _gemm_down,
    ("Gemm", 11): _gemm_bias,
    ("PRelu", 7): _slope_down,
}
