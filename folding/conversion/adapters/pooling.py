"""Pools that round the number of windows up: from opset 22 on no window may start in the padding at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.conversion.adapters.node import NoFormError, attribute, drop, given, text

if TYPE_CHECKING:
    import onnx

    from folding.conversion.adapters.node import Table
    from folding.conversion.here import Here

POOLS = ("AveragePool", "LpPool", "MaxPool")


def _same_windows(node: onnx.NodeProto, here: Here) -> None:
    """Refuse a pool that has another number of windows on the other side.

    The last of ``1 + ceil((length + pads - extent) / stride)`` windows starts before the padding at the end, whatever
    the length is, if ``pad_at_the_end + stride <= extent``.
    """
    kernel = attribute(node, "kernel_shape") or []
    padding = text(node, "auto_pad", "NOTSET")
    if not attribute(node, "ceil_mode", 0) or padding not in {"NOTSET", "VALID"}:
        return
    axes = len(kernel)
    strides, dilations = (attribute(node, name) or [1] * axes for name in ("strides", "dilations"))
    none = [0] * (2 * axes)
    pads = none if padding == "VALID" else attribute(node, "pads") or none
    for axis in range(axes):
        extent, stride, (start, end) = (kernel[axis] - 1) * dilations[axis] + 1, strides[axis], pads[axis::axes]
        if end + stride <= extent:
            continue
        length = here.length(given(node, 0), axis + 2)
        if length is None:
            raise NoFormError("its last window may start in the padding, and the length of its input is unknown")
        last = -(-(length + start + end - extent) // stride) * stride
        if last >= length + start:
            raise NoFormError("its last window starts in the padding, which opset 22 changed (ceil_mode)")


def _no_dilations(node: onnx.NodeProto, here: Here) -> None:
    """Dilations of 1 are none."""
    if all(n == 1 for n in attribute(node, "dilations") or ()):
        drop(node, "dilations")


UP: Table = {(op, 22): _same_windows for op in POOLS}
DOWN: Table = {
    **UP,
    ("AveragePool", 19): _no_dilations,
    ("LpPool", 18): _no_dilations,
    ("MaxPool", 10): _no_dilations,
}
