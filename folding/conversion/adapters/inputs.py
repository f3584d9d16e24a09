"""Operators of which an attribute became an input: Squeeze, Unsqueeze, Split, ReduceX, Slice, Pad, TopK, Reshape, DFT.

Upwards the attribute's value becomes a constant; downwards the input has to be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.conversion.adapters.node import (
    NoFormError,
    attribute,
    connect,
    drop,
    given,
    label,
    leave,
    put,
    take,
    text,
)
from folding.conversion.here import dtype_of

if TYPE_CHECKING:
    import onnx

    from folding.conversion.adapters.node import Adapter, Table
    from folding.conversion.here import Here

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
KEEPING = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"})  # the reduction of one number


def to_input(name: str, index: int) -> Adapter:
    """The integers of an attribute become an input."""

    def adapt(node: onnx.NodeProto, here: Here) -> None:
        values = take(node, name)
        if values is not None:
            connect(node, index, here.constant(np.asarray(values, np.int64), f"{label(node)}.{name}"))

    return adapt


def to_attribute(name: str, index: int) -> Adapter:
    """A constant input becomes an attribute."""

    def adapt(node: onnx.NodeProto, here: Here) -> None:
        if given(node, index):
            put(node, name, integers(node, here, index, name))
            leave(node, index)

    return adapt


def integers(node: onnx.NodeProto, here: Here, index: int, what: str) -> list[int]:
    """The values of an input; raises NoFormError if they are computed."""
    values = here.integers(given(node, index))
    if values is None:
        raise NoFormError(f"its {what} are computed")
    return values


def _reduce_down(node: onnx.NodeProto, here: Here) -> None:
    """No axes mean all axes, unless `noop_with_empty_axes`: then the operator reduces nothing."""
    axes = integers(node, here, 1, "axes") if given(node, 1) else []
    if take(node, "noop_with_empty_axes", 0) and not axes:
        if node.op_type not in KEEPING:
            raise NoFormError("it reduces along no axis")
        node.op_type = "Identity"
        drop(node, "keepdims")
    elif axes:
        put(node, "axes", axes)
    leave(node, 1)


# --- Split ---------------------------------------------------------------------------------------------------


def _count_outputs(node: onnx.NodeProto, here: Here) -> None:
    """From opset 18 on equal parts need their number."""
    if not given(node, 1):
        put(node, "num_outputs", len(node.output))


def _equal_parts(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 18 the parts were equal, not the last one smaller."""
    count = take(node, "num_outputs")
    if count is None or given(node, 1):
        return
    length = here.length(given(node, 0), attribute(node, "axis", 0))
    if length is None:
        raise NoFormError("the length of its input is unknown, and the last part may be smaller")
    if length % count:
        size = -(-length // count)
        sizes = [min(size, length - start) for start in range(0, length, size)]
        connect(node, 1, here.constant(np.asarray(sizes, np.int64), f"{label(node)}.split"))


def _split_sizes(node: onnx.NodeProto, here: Here) -> None:
    """Opset 1 has the sizes as an input, too, and no default axis."""
    if given(node, 1):
        put(node, "split", integers(node, here, 1, "sizes"))
        leave(node, 1)
    if attribute(node, "axis") is None:
        put(node, "axis", 0)


def _first_axis(node: onnx.NodeProto, here: Here) -> None:
    if attribute(node, "axis") is None:
        put(node, "axis", 0)


# --- Slice, Pad, TopK, Reshape, Tile, DFT --------------------------------------------------------------------


def _slice_up(node: onnx.NodeProto, here: Here) -> None:
    for index, name in enumerate(("starts", "ends", "axes"), 1):
        to_input(name, index)(node, here)


def _slice_down(node: onnx.NodeProto, here: Here) -> None:
    if given(node, 4) and any(step != 1 for step in integers(node, here, 4, "steps")):
        raise NoFormError("its steps are not 1")
    found = {
        name: integers(node, here, index, name)
        for index, name in enumerate(("starts", "ends", "axes"), 1)
        if given(node, index)
    }
    for name, values in found.items():
        put(node, name, values)
    leave(node, 1)


def _pad_up(node: onnx.NodeProto, here: Here) -> None:
    to_input("pads", 1)(node, here)
    value = take(node, "value", 0.0)
    if value and text(node, "mode", "constant") == "constant":
        dtype = dtype_of(here.code(given(node, 0)))
        if dtype is None:
            raise NoFormError("the type of its input is unknown")
        connect(node, 2, here.constant(np.asarray(value, dtype), f"{label(node)}.value"))


def _pad_down(node: onnx.NodeProto, here: Here) -> None:
    pads = integers(node, here, 1, "pads")
    value = here.array(given(node, 2)) if given(node, 2) else np.zeros(())
    if value is None:
        raise NoFormError("its constant_value is computed")
    if given(node, 2):
        put(node, "value", float(value.reshape(-1)[0]))
    put(node, "pads", pads)
    leave(node, 1)


def _pad_all_axes(node: onnx.NodeProto, here: Here) -> None:
    """Before opset 18 there are pads for every axis."""
    if not given(node, 3):
        return
    rank, axes, pads = here.rank(given(node, 0)), integers(node, here, 3, "axes"), integers(node, here, 1, "pads")
    if rank is None:
        raise NoFormError("the rank of its input is unknown")
    whole = [0] * (2 * rank)
    for index, axis in enumerate(axes):
        whole[axis % rank], whole[rank + axis % rank] = pads[index], pads[len(axes) + index]
    leave(node, 3)
    connect(node, 1, here.constant(np.asarray(whole, np.int64), f"{label(node)}.pads"))
    connect(node, 2, given(node, 2))


def _pad_no_wrap(node: onnx.NodeProto, here: Here) -> None:
    if text(node, "mode") == "wrap":
        raise NoFormError("its mode is wrap")


def _rename(old: str, new: str) -> Adapter:
    def adapt(node: onnx.NodeProto, here: Here) -> None:
        put(node, new, list(take(node, old, ())))

    return adapt


def _top_k_up(node: onnx.NodeProto, here: Here) -> None:
    connect(node, 1, here.constant(np.asarray([take(node, "k")], np.int64), f"{label(node)}.k"))


def _top_k_down(node: onnx.NodeProto, here: Here) -> None:
    put(node, "k", integers(node, here, 1, "k")[0])
    leave(node, 1)


def _no_allowed_zero(node: onnx.NodeProto, here: Here) -> None:
    """From opset 14 on a 0 in the sizes is a length if `allowzero` says so; else it copies the input's."""
    if take(node, "allowzero", 0) and 0 in integers(node, here, 1, "sizes"):
        raise NoFormError("it makes an axis of length 0 (allowzero)")


def _tile_up(node: onnx.NodeProto, here: Here) -> None:
    tiles, axis = (integers(node, here, index, "tiles and axis")[0] for index in (1, 2))
    rank = here.rank(given(node, 0))
    if rank is None:
        raise NoFormError("the rank of its input is unknown")
    leave(node, 1)
    repeats = [tiles if i == axis % rank else 1 for i in range(rank)]
    connect(node, 1, here.constant(np.asarray(repeats, np.int64), f"{label(node)}.repeats"))


def _tile_down(node: onnx.NodeProto, here: Here) -> None:
    repeats = integers(node, here, 1, "repeats")
    axes = [axis for axis, times in enumerate(repeats) if times != 1] or [0]
    if len(axes) > 1:
        raise NoFormError("it repeats along more than one axis")
    leave(node, 1)
    for index, (name, value) in enumerate((("tiles", repeats[axes[0]]), ("axis", axes[0])), 1):
        dtype = dtype_of(here.code(given(node, 0))) or np.float32
        connect(node, index, here.constant(np.asarray([value], dtype), f"{label(node)}.{name}"))


def _dft_up(node: onnx.NodeProto, here: Here) -> None:
    axis = take(node, "axis", 1)
    connect(node, 2, here.constant(np.asarray(axis, np.int64), f"{label(node)}.axis"))


def _dft_down(node: onnx.NodeProto, here: Here) -> None:
    axis = integers(node, here, 2, "axis")[0] if given(node, 2) else -2
    leave(node, 2)
    put(node, "axis", axis)


UP: Table = {
    ("Squeeze", 13): to_input("axes", 1),
    ("Unsqueeze", 13): to_input("axes", 1),
    ("ReduceSum", 13): to_input("axes", 1),
    **{(f"Reduce{kind}", 18): to_input("axes", 1) for kind in REDUCTIONS},
    ("Split", 2): _split_sizes,
    ("Split", 13): to_input("split", 1),
    ("Split", 18): _count_outputs,
    ("Slice", 10): _slice_up,
    ("Pad", 2): _rename("paddings", "pads"),
    ("Pad", 11): _pad_up,
    ("TopK", 10): _top_k_up,
    ("Reshape", 5): to_input("shape", 1),
    ("Tile", 6): _tile_up,
    ("DFT", 20): _dft_up,
}
DOWN: Table = {
    ("Squeeze", 13): to_attribute("axes", 1),
    ("Unsqueeze", 13): to_attribute("axes", 1),
    ("ReduceSum", 13): _reduce_down,
    **{(f"Reduce{kind}", 18): _reduce_down for kind in REDUCTIONS},
    ("Split", 2): _first_axis,
    ("Split", 13): to_attribute("split", 1),
    ("Split", 18): _equal_parts,
    ("Slice", 10): _slice_down,
    ("Pad", 2): _rename("pads", "paddings"),
    ("Pad", 11): _pad_down,
    ("Pad", 18): _pad_all_axes,
    ("Pad", 19): _pad_no_wrap,
    ("TopK", 10): _top_k_down,
    ("Reshape", 5): to_attribute("shape", 1),
    ("Reshape", 14): _no_allowed_zero,
    ("Tile", 6): _tile_down,
    ("DFT", 20): _dft_down,
}
