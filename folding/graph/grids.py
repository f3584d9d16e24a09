"""The grid of a QuantizeLinear or DequantizeLinear node, from its scale, zero point and attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.quantization import Grid
from folding.refusal import require

if TYPE_CHECKING:
    from folding.algebra.affine import Float64
    from folding.graph.node import Node

PER_AXIS = 13  # opset, both operators: before it, one scale for the whole tensor


def grid_of(node: Node, shape: tuple[int, ...], scale: Float64, zero_point: Float64 | None) -> Grid:
    """The grid of a QuantizeLinear or DequantizeLinear.

    Raises:
        Refused: "parameters" if scale and zero point do not fit the shape.
    """
    axis = _axis(node, len(shape))
    block = int(node.attribute("block_size") or 0)
    expected: tuple[int, ...] = (1,) * scale.ndim
    if scale.size != 1 or block:
        require(shape and node.version >= PER_AXIS, "parameters", f"the scale has the shape {list(scale.shape)}")
        expected = (shape[axis],)
    if block:
        expected = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
    zero = np.zeros(1) if zero_point is None else zero_point
    given = f"a scale of shape {list(scale.shape)} and a zero point of shape {list(zero.shape)}"
    fits = scale.shape == expected and (zero.size == 1 or zero.shape == expected)
    require(fits, "parameters", f"{given} do not fit values of shape {list(shape)}")
    same = zero.reshape(-1)[0] if zero.size == 1 else zero
    return Grid(shape, scale, np.broadcast_to(same, expected), axis, block)


def _axis(node: Node, rank: int) -> int:
    """The attribute `axis`, counted from the front. For a vector it is 0, whatever the default is."""
    axis = node.attribute("axis")
    if rank <= 1 or axis is None:
        return 0
    require(-rank <= axis < rank, "parameters", f"the quantization axis is {axis}, the value has rank {rank}")
    return int(axis) % rank
