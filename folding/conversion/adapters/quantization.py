"""QuantizeLinear and DequantizeLinear: an axis from opset 13 on, a type of the result from 21 on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.conversion.adapters.node import NoFormError, connect, drop, given, label, take
from folding.conversion.here import dtype_of

if TYPE_CHECKING:
    import onnx

    from folding.conversion.adapters.node import Table
    from folding.conversion.here import Here


def _one_scale(node: onnx.NodeProto, here: Here) -> None:
    shape = here.shape(given(node, 1))
    if shape is None or any(n != 1 for n in shape):
        raise NoFormError("it has a scale for every channel, or their number is unknown")
    drop(node, "axis")


def _quantized_type(node: onnx.NodeProto, here: Here) -> None:
    """The zero point has the type of the result; an absent one means uint8."""
    if take(node, "block_size", 0):
        raise NoFormError("it has a scale for every block")
    code = take(node, "output_dtype", 0)
    if not code or given(node, 2):
        return
    shape, dtype = here.shape(given(node, 1)), dtype_of(code)
    if shape is None or dtype is None or not all(isinstance(n, int) for n in shape):
        raise NoFormError("the shape of its scale is unknown")
    zeros = np.zeros([n for n in shape if isinstance(n, int)], dtype)
    connect(node, 2, here.constant(zeros, f"{label(node)}.zero_point"))


def _dequantized_type(node: onnx.NodeProto, here: Here) -> None:
    code = take(node, "output_dtype", 0)
    if code and code != here.code(given(node, 1)):
        raise NoFormError("its result has another type than its scale")


UP: Table = {}
DOWN: Table = {
    ("QuantizeLinear", 13): _one_scale,
    ("DequantizeLinear", 13): _one_scale,
    ("QuantizeLinear", 21): _quantized_type,
    ("DequantizeLinear", 23): _dequantized_type,
}
