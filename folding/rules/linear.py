"""Gemm and MatMul with a constant side absorb on the side's free axis from behind, on its summed axis from before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.affine import Affine
from folding.plan import Edit, require
from folding.rules.rule import OperatorRule, along, mapped
from folding.weights import Weight

if TYPE_CHECKING:
    from folding.affine import Float64
    from folding.graph import Node

MATRIX = 2  # rank
LEGACY_BROADCAST = 7  # before Gemm-7 the attribute `broadcast` had to be set where C is smaller than the result


def _scaled(weight: Weight, axis: int, scale: Float64) -> Weight:
    shape = [1] * len(weight.shape)
    shape[axis] = -1
    return weight.scaled(weight.shape, scale.reshape(shape))


def _matrix(node: Node, index: int) -> Weight:
    weight = node.weight(index)
    rank = len(weight.shape)
    require(rank >= MATRIX and weight.size > 0, "parameters", f"the constant side has the shape {list(weight.shape)}")
    return weight


def _vector(values: Float64, rank: int, axis: int) -> Float64:
    """A vector as an array of this rank that varies along `axis`."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def matmul_absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * (X @ W) + shift = X @ (W * scale) + shift`` along the last axis; the shift is left over.

    With the constant on the left, ``W @ X``, the same along the last axis but one.
    """
    side, axis = (0, -2) if node.is_constant(0) and not node.is_constant(1) else (1, -1)
    weight = _matrix(node, side)
    require(node.rank(1 - side) >= MATRIX, "axis", "a product with a vector has no such axis")
    scale, shift = along(a, axis, weight.shape[axis], "the product's constant side")
    leftover = None if a.is_linear else Affine.of(np.ones((1,) * a.rank), _vector(shift, a.rank, axis))
    return Edit(node, {side: _scaled(weight, axis, scale)}, leftover=leftover)


def matmul_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``(scale * X + shift) @ W = X @ (scale * W) + shift @ W`` along the summed axis; the last term is left over."""
    side, axis, free = (1, -2, -1) if index == 0 else (0, -1, -2)
    weight = _matrix(node, side)
    require(a.rank >= MATRIX, "axis", "a product with a vector has no such axis")
    summed = along(a, -1 if index == 0 else -2, weight.shape[axis], "the product's constant side")
    scaled = Edit(node, {side: _scaled(weight, axis, summed[0])})
    if a.is_linear:
        return scaled
    require(len(weight.shape) == MATRIX, "shift-left", "each matrix of a batch would need a shift of its own")
    added = weight.contract(weight.shape, _vector(summed[1], MATRIX, axis), axes=(axis % MATRIX,))
    leftover = Affine.of(np.ones((1,) * a.rank), _vector(added, a.rank, free))
    return Edit(node, scaled.constants, leftover=leftover)


def gemm_absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * (alpha A' B' + beta C) + shift = alpha A' (scale * B') + beta (scale * C + shift / beta)``.

    A', B' are A, B or their transposes; scale lies along the columns, and where A is the constant along the rows.
    """
    axis = 0 if not node.is_constant(1) or (node.is_constant(0) and a.varies_only_along(0)) else 1
    weight = _matrix(node, axis)
    free = axis ^ bool(node.attribute("transB" if axis else "transA"))
    scale, shift = along(a, axis, weight.shape[free], "the product's constant side")
    bias = _bias(node, _vector(scale, MATRIX, axis), _vector(shift, MATRIX, axis), weight)
    return Edit(node, {axis: _scaled(weight, free, scale), **bias.constants}, bias.attributes)


def gemm_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``alpha (scale * A' + shift) B' + beta C = alpha A' (scale * B') + beta (C + alpha / beta * shift B')``.

    scale lies along the summed axis; the same with the roles of A and B exchanged.
    """
    require(index < 2, "not-data-input", "the value is the bias C")
    side = 1 - index
    weight = _matrix(node, side)
    turned = [bool(node.attribute("transA")), bool(node.attribute("transB"))]
    summed = (0 if side else 1) ^ turned[side]
    scale, shift = along(a, (1 if side else 0) ^ turned[index], weight.shape[summed], "the product's summed axis")
    edit = {side: _scaled(weight, summed, scale)}
    if a.is_linear:
        return Edit(node, edit)
    added = weight.contract(weight.shape, _vector(shift, MATRIX, summed), axes=(summed,))
    added = _vector(added, MATRIX, side) * float(node.attribute("alpha"))
    bias = _bias(node, np.ones((1, 1)), added, weight)
    return Edit(node, {**edit, **bias.constants}, bias.attributes)


def _bias(node: Node, scale: Float64, shift: Float64, like: Weight) -> Edit:
    """``beta * C`` becomes ``scale * beta * C + shift``, arrays of rank 2: as constants and attributes of an edit."""
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
    "MatMul": OperatorRule(absorb_backward=matmul_absorb_backward, absorb_forward=matmul_absorb_forward),
    "Gemm": OperatorRule(absorb_backward=gemm_absorb_backward, absorb_forward=gemm_absorb_forward),
}
