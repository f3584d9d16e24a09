"""A quantized weight absorbs a scale into its quantization scale: the integers stay or change their sign.

No map passes a quantized or dequantized activation, because its integers were rounded for the current values.
So operators that round to integers or compute with them are barriers; they have their own refusal code.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.algebra.quantization import DEQUANTIZE, QUANTIZE, Grid, stored
from folding.algebra.regroup import regroup
from folding.analysis import constants
from folding.graph.grids import PER_AXIS, grid_of
from folding.graph.weights import Weight, rounded
from folding.refusal import require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, Passage

if TYPE_CHECKING:
    from folding.graph.node import Node
    from folding.rules.rule import Ways

# Names of operators that round to integers or compute with them, in the standard and in ONNX Runtime's domain.
COMPUTES_WITH_INTEGERS = re.compile(
    r"(.*::)?((Dynamic)?(Q|Deq)uantize|Q(Linear|Gemm|Attention|Embed|Ordered|MoE)|.*Integer)"
)


def factor(node: Node, index: int, weight: Weight) -> Affine | None:
    """The factor from the old to the new weight, if its quantization can absorb it; None if the weight is replaced.

    One scale may become one per output channel, but not one per input channel: if ONNX Runtime 1.32 computes a Conv or
    Gemm with the integers, it treats every vector of scales as one per output, whatever the attribute `axis` is.
    """
    origin = constants.origin(node.scope, node.inputs[index]) if node.is_constant(index) else None
    if origin is None:
        return None
    old = node.weight(index)
    if weight.base is not old.base:
        return None  # new values, which are not a multiple of the old ones
    a = Affine.identity(len(weight.shape))
    for part in weight.factors[len(old.factors) :]:
        a = regroup(Affine.of(part.values, 0.0), part.view, weight.shape).after(a)
    outputs = _output_axis(node, index)
    fits = outputs is None or _size(a).varies_only_along(outputs) or origin.array(1).size > 1
    require(fits, "quantized-axis", "the weight has one scale and would need one for every input channel")
    return a


def _output_axis(node: Node, index: int) -> int | None:
    """The axis of a weight that runs over output channels, None if there is none."""
    if node.op == "Gemm" and index < 2:  # A or B
        return index ^ bool(node.attribute("transB" if index else "transA"))
    return {("Conv", 1): 0, ("ConvTranspose", 1): 1, ("MatMul", 0): -2, ("MatMul", 1): -1}.get((node.op, index))


def dequantize_pass_backward(node: Node, a: Affine) -> Ways:
    """``f * s * (q - z) = abs(f) * s * (p(q) - z)`` with ``p(q) = sign(f) * (q - z) + z``; z is the zero point.

    So scales stay positive, as runtimes require, and the integers do not change where f is positive. Where f is
    negative, they are mirrored at the zero point. Where f is 0, they become the zero point, and the scale does not
    change. A bias whose scale is the product of the scales of data and weight, as in QLinearConv, keeps this property.

    If a QuantizeLinear produces the integers from a constant on the same grid, `a` itself passes on to it.
    """
    require(node.is_constant(0), "quantized", "an activation was rounded to the integers that are dequantized here")
    grid = _grid(node, constants.recipe(node.scope, node.inputs[0]).shape)
    edit = _edit(node, grid, _rescaled(node, grid, a))
    pair = constants.origin(node.scope, node.inputs[0])
    if pair is None:
        return [Passage({0: _of_integers(grid, a)}, edit)]
    same = pair.output == node.inputs[0] and grid.equals(_grid(pair, grid.shape))
    require(same, "quantized", f"{pair.label!r} quantizes the weight on another grid than it is dequantized on")
    return [Passage({0: a}, edit)]


def quantize_absorb_backward(node: Node, a: Affine) -> Edit:
    """Let the integers of a constant represent f times their values, as for DequantizeLinear.

    The constant becomes the exact values of its new integers. These lie in the middle of the ranges that are rounded to
    them, so every runtime obtains the same integers, whatever its way to divide.
    """
    weight, integers = node.weight(0), constants.array(node.scope, node.output)
    grid = _grid(node, weight.shape)
    new = _rescaled(node, grid, a)
    wanted = stored(_of_integers(grid, a)(integers), integers.dtype)
    values = new.dequantized(wanted.astype(np.float64))
    same = np.array_equal(new.quantized(rounded(values, weight.dtype), integers.dtype), wanted)
    require(same, "underflow", f"the quantized weight would lose its integers in {weight.dtype}")
    edit = _edit(node, grid, new)
    return replace(edit, constants={0: Weight.of(values, weight.dtype), **edit.constants})


def _grid(node: Node, shape: tuple[int, ...]) -> Grid:
    zero_point = constants.recipe(node.scope, node.inputs[2]).values() if node.has(2) else None
    return grid_of(node, shape, node.weight(1).values(), zero_point)


def _size(a: Affine) -> Affine:
    """The factor of the quantization scales: |scale|, but 1 where the scale of `a` is 0."""
    return Affine.of(np.where(a.scale == 0, 1.0, np.abs(a.scale)), 0.0)


def _of_integers(grid: Grid, a: Affine) -> Affine:
    """The map ``sign * (q - z) + z`` on the integers."""
    if (a.scale > 0).all():
        return Affine.identity(a.rank)
    sign = np.sign(a.scale)
    return Affine.of(sign, (1 - sign) * grid.zeros)


def _rescaled(node: Node, grid: Grid, a: Affine) -> Grid:
    """The grid with its scales times the absolute scale of `a`.

    Raises:
        Refused: "quantized-axis" if `a` varies where the scale cannot.
    """
    assert a.is_linear, "a constant that is shifted is written anew"  # noqa: S101  by the planner
    size = _size(a)
    if grid.block:
        first = (slice(None),) * grid.axis + (slice(None, None, grid.block),)
        of_blocks = size.scale[first]
        uniform = size.shape[grid.axis] == 1 or np.array_equal(grid.spread(of_blocks), size.scale)
        require(uniform, "quantized-axis", f"the map varies within a block of {grid.block}")
        return replace(grid, scale=grid.scale * of_blocks)
    axis = size.axes[0] if grid.is_per_tensor and size.axes else grid.axis
    reason = f"the map varies along axes {list(size.axes)} of the weight, its quantization "
    reason += "along none or one" if grid.is_per_tensor else f"along {axis}"
    require(set(size.axes) <= {axis}, "quantized-axis", reason)
    if not size.axes:
        return replace(grid, scale=grid.scale * size.scale.item())
    require(node.version >= PER_AXIS, "old-opset", f"{node.op} has one scale per tensor before opset {PER_AXIS}")
    scale = np.broadcast_to(grid.scale * size.scale.reshape(-1), grid.shape[axis])
    return replace(grid, scale=scale, zero_point=np.broadcast_to(grid.zero_point, scale.shape), axis=axis)


def _edit(node: Node, old: Grid, new: Grid) -> Edit:
    """The edit that gives an operator another grid."""
    edited = {}
    if not np.array_equal(old.scale, new.scale):
        edited[1] = Weight.of(new.scale, node.weight(1).dtype, is_scale=True)
    if node.has(2) and old.scale.shape != new.scale.shape:
        zero_point = stored(new.zero_point, node.array(2).dtype)
        edited[2] = Weight(zero_point.dtype, zero_point.shape, zero_point)
    moved = new.axis != old.axis or (old.is_per_tensor and not new.is_per_tensor)
    return Edit(node, edited, {"axis": new.axis} if moved else {})


RULES = {
    DEQUANTIZE: OperatorRule(pass_backward=dequantize_pass_backward),
    QUANTIZE: OperatorRule(absorb_backward=quantize_absorb_backward),
}
