"""Gemm: a constant operand absorbs a following map on its free axis, a preceding map on its summed axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.graph.weights import Weight
from folding.refusal import require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, along, fits_input, mapped, possible

if TYPE_CHECKING:
    from folding.algebra.affine import Float64
    from folding.graph.node import Node
    from folding.rules.rule import Ways

MATRIX = 2  # rank
LEGACY_BROADCAST = 7  # before Gemm-7 the attribute `broadcast` had to be set where C is smaller than the result


def _matrix(node: Node, index: int) -> Weight:
    weight = node.weight(index)
    fits = len(weight.shape) == MATRIX and weight.size > 0
    require(fits, "parameters", f"the constant side has the shape {list(weight.shape)}")
    return weight


def _vector(values: Float64, axis: int) -> Float64:
    """A vector as a matrix that varies along `axis`."""
    return values.reshape((1, -1) if axis else (-1, 1))


def absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * (alpha A' B' + beta C) + shift = alpha A' (scale * B') + beta (scale * C + shift / beta)``.

    A', B' are A, B or their transposes. The scale lies along the columns, or, if A is the constant, along the rows.
    """
    axis = 0 if not node.is_constant(1) or (node.is_constant(0) and a.varies_only_along(0)) else 1
    weight = _matrix(node, axis)
    free = axis ^ bool(node.attribute("transB" if axis else "transA"))
    scale, shift = along(a, axis, weight.shape[free], "the product's constant side")
    bias = _bias(node, _vector(scale, axis), _vector(shift, axis), weight)
    return Edit(node, {axis: weight.scaled(weight.shape, _vector(scale, free)), **bias.constants}, bias.attributes)


def absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``alpha (scale * A' + shift) B' + beta C = alpha A' (scale * B') + beta (C + alpha / beta * shift B')``.

    The scale lies along the summed axis. The same holds with the roles of A and B exchanged.
    """
    require(index < 2, "not-data-input", "the value is the bias C")
    side = 1 - index
    weight = _matrix(node, side)
    turned = [bool(node.attribute("transA")), bool(node.attribute("transB"))]
    summed = (0 if side else 1) ^ turned[side]
    scale, shift = along(a, (1 if side else 0) ^ turned[index], weight.shape[summed], "the product's summed axis")
    edit = {side: weight.scaled(weight.shape, _vector(scale, summed))}
    if a.is_linear:
        return Edit(node, edit)
    added = weight.contract(weight.shape, _vector(shift, summed), axes=(summed,))
    added = _vector(added, side) * float(node.attribute("alpha"))
    bias = _bias(node, np.ones((1, 1)), added, weight)
    return Edit(node, {**edit, **bias.constants}, bias.attributes)


def pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * (alpha A' B' + beta C) + shift = alpha (scale * A') B' + beta (scale * C + shift / beta)``.

    The scale lies along the rows, or along the columns as a scale of B'. Without C a shift cannot be absorbed.
    """
    beta = float(node.attribute("beta"))
    has_bias = node.has(2) and beta != 0
    require(a.is_linear or has_bias, "shift-left", "a shift of a product is none of its factors")
    bias = {2: fits_input(node, 2, Affine.of(a.scale, a.shift / beta))} if has_bias else {}
    found = possible(
        lambda index: fits_input(node, index, _turned(node, index, _of_factor(a.linear_part(), index))),
        [index for index in range(2) if not node.is_constant(index)],
    )
    return [{index: fitted, **bias} for index, fitted in found.items()]


def pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``alpha (scale * A') B' = scale * (alpha A' B')``, and ``beta (C + shift) = beta C + beta * shift``."""
    if index == 2:
        require(a.is_shift, "scale-left", "a scale on the bias alone does not pass the sum")
        return Affine.of(a.scale, a.shift * float(node.attribute("beta"))).with_rank(MATRIX)
    require(a.is_linear, "shift-left", "a shift of a factor is multiplied by the other one")
    require(not node.has(2) or not node.attribute("beta"), "scale-left", "a scale of the product does not scale C")
    return _of_factor(_turned(node, index, a), index)


def _turned(node: Node, index: int, a: Affine) -> Affine:
    """Convert a map of A' to one of A or back; the same for B' and B."""
    return a.transpose((1, 0)) if node.attribute("transB" if index else "transA") else a


def _of_factor(a: Affine, index: int) -> Affine:
    """The map, if it applies to A' or B' and the product alike."""
    require(a.varies_only_along(index), "axis", f"the map varies along the axis {1 - index} of a product")
    return a


def _bias(node: Node, scale: Float64, shift: Float64, like: Weight) -> Edit:
    """The edit that turns ``beta * C`` into ``scale * beta * C + shift``; `scale` and `shift` have rank 2."""
    beta, given = float(node.attribute("beta")), node.has(2)
    old = node.weight(2) if given and beta else None
    if (old is None and not shift.any()) or (np.all(scale == 1) and not shift.any()):
        return Edit(node)
    new = Weight.of(shift, like.dtype) if old is None else mapped(node, 2, scale, shift / beta)
    attributes: dict[str, float | int] = {"beta": 1.0} if old is None else {}
    if len(new.shape) == MATRIX > len(node.weight(2).shape if given else (1,)) and new.shape[0] == 1:
        new = Weight.of(new.values().reshape(-1), like.dtype)
    if node.version < LEGACY_BROADCAST:
        require(len(new.shape) == 1, "old-opset", "Gemm broadcast only a row before opset 7")
        attributes["broadcast"] = 1
    return Edit(node, {2: new}, attributes)


RULES = {
    "Gemm": OperatorRule(
        absorb_backward=absorb_backward,
        absorb_forward=absorb_forward,
        pass_backward=pass_backward,
        pass_forward=pass_forward,
    ),
}
