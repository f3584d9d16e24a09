"""Operators whose axes changed: Softmax over one axis, not all later ones (from 13 on); negative axes (from 11 on)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.conversion.adapters.node import NoFormError, attribute, connect, given, label, put, text
from folding.conversion.here import INT64

if TYPE_CHECKING:
    import onnx

    from folding.algebra.shape import Shape
    from folding.conversion.adapters.node import Table
    from folding.conversion.here import Here

SOFTMAX = ("Hardmax", "LogSoftmax", "Softmax")
# The operators that take negative axes from opset 11 on, with the default of `axis`
ONE_AXIS = {
    **dict.fromkeys(("ArgMax", "ArgMin", "Gather", "Split"), 0),
    **dict.fromkeys(("Concat", "Flatten", *SOFTMAX), 1),
    "Compress": None,
}
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
SEVERAL_AXES = (*(f"Reduce{kind}" for kind in REDUCTIONS), "Squeeze", "Unsqueeze")


def _rank(node: onnx.NodeProto, here: Here) -> int:
    rank = here.rank(given(node, 0))
    if rank is None:
        raise NoFormError("the rank of its input is unknown")
    return rank


def _is_last(axis: int, shape: Shape | None) -> bool:
    """Whether all axes behind this one have the length 1, or there are none."""
    return axis == -1 or (shape is not None and all(n == 1 for n in shape[axis % len(shape) :][1:]))


def _softmax_up(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto]:
    """Before opset 13: ``reshape(softmax(flatten(x, axis), -1), shape(x))``; one axis where no other has a length."""
    axis, shape = attribute(node, "axis", 1), here.shape(given(node, 0))
    if _is_last(axis, shape):
        put(node, "axis", -1 if shape is None or axis % len(shape) == len(shape) - 1 else axis)
        return [node]
    source, wish = given(node, 0), label(node)
    sizes = here.new("Shape", [source], f"{wish}.shape", (None if shape is None else len(shape),), INT64)
    flat = here.new("Flatten", [source], f"{wish}.flat", (None, None), axis=axis)
    final = here.behind(node, "flat")
    here.note(node.output[0], here.code(source), (None, None))
    connect(node, 0, flat.output[0])
    put(node, "axis", -1)
    back = here.new("Reshape", [node.output[0], sizes.output[0]], f"{wish}.back", shape)
    back.output[0] = final
    return [sizes, flat, node, back]


def _softmax_down(node: onnx.NodeProto, here: Here) -> list[onnx.NodeProto]:
    """Over an axis with others behind it: ``transpose(softmax(transpose(x), last))``."""
    axis, shape = attribute(node, "axis", -1), here.shape(given(node, 0))
    if _is_last(axis, shape):
        put(node, "axis", axis)
        return [node]
    rank = _rank(node, here)
    order = [i for i in range(rank) if i != axis % rank] + [axis % rank]
    source, wish = given(node, 0), label(node)
    moved = None if shape is None else tuple(shape[i] for i in order)
    first = here.new("Transpose", [source], f"{wish}.moved", moved, perm=order)
    final = here.behind(node, "moved")
    here.note(node.output[0], here.code(source), moved)
    connect(node, 0, first.output[0])
    put(node, "axis", rank - 1)
    last = here.new("Transpose", [node.output[0]], f"{wish}.back", shape, perm=[order.index(i) for i in range(rank)])
    last.output[0] = final
    return [first, node, last]


def _one_axis(node: onnx.NodeProto, here: Here) -> None:
    axis = attribute(node, "axis", ONE_AXIS[node.op_type])
    if axis is not None and axis < 0:
        put(node, "axis", axis + _rank(node, here))


def _several_axes(node: onnx.NodeProto, here: Here) -> None:
    axes = attribute(node, "axes")
    if axes is not None and any(axis < 0 for axis in axes):
        rank = _rank(node, here) + (len(axes) if node.op_type == "Unsqueeze" else 0)
        put(node, "axes", [axis % rank for axis in axes])


def _slice_axes(node: onnx.NodeProto, here: Here) -> None:
    axes = here.integers(given(node, 3)) if given(node, 3) else []
    if axes is None:
        raise NoFormError("its axes are computed")
    if any(axis < 0 for axis in axes):
        rank = _rank(node, here)
        connect(node, 3, here.constant(np.asarray([axis % rank for axis in axes], np.int64), f"{label(node)}.axes"))


def _top_k(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 11 the k largest ones, sorted; its axis may have been negative already."""
    if not attribute(node, "largest", 1):
        raise NoFormError("it takes the smallest elements")
    for name in ("largest", "sorted"):  # sorted ones are right where any order is
        if attribute(node, name) is not None:
            del_attribute(node, name)


def del_attribute(node: onnx.NodeProto, name: str) -> None:
    """Remove one attribute."""
    index = next(i for i, one in enumerate(node.attribute) if one.name == name)
    del node.attribute[index]


def _depth_to_space(node: onnx.NodeProto, here: Here) -> None:
    if (mode := text(node, "mode", "DCR")) != "DCR":
        raise NoFormError(f"its mode is {mode}")
    if attribute(node, "mode") is not None:
        del_attribute(node, "mode")


UP: Table = {(op, 13): _softmax_up for op in SOFTMAX}
DOWN: Table = {
    **{(op, 13): _softmax_down for op in SOFTMAX},
    **{(op, 11): _one_axis for op in ONE_AXIS},
    **{(op, 11): _several_axes for op in SEVERAL_AXES},
    ("Slice", 11): _slice_axes,
    ("TopK", 11): _top_k,
    ("DepthToSpace", 11): _depth_to_space,
}
