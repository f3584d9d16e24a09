"""Activations that scale with their input: LeakyRelu for non-negative scales, PRelu and Abs for negative ones too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.graph.sites import MULTIDIRECTIONAL
from folding.graph.weights import Weight
from folding.refusal import require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, Passage, data_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from folding.algebra.affine import Float64
    from folding.graph.node import Node
    from folding.rules.rule import Ways


def pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * f(x) = f(scale * x)`` for scale >= 0, because f is linear on each side of zero.

    The slope of PRelu broadcasts to x, and x never to the slope, so any slope is possible and stays unchanged.
    """
    _require_scale(node, a)
    _require_sign(a)
    return [{0: a}]


def pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """The same identity in the forward direction."""
    data_only(index)
    _require_scale(node, a)
    _require_sign(a)
    return a


def prelu_pass_backward(node: Node, a: Affine) -> Ways:
    """As for LeakyRelu; if the scale is negative, ``scale * f(x, k) = f(scale * k * x, 1 / k)`` for a slope k > 0."""
    if np.all(a.scale >= 0):
        return pass_backward(node, a)
    _require_scale(node, a)
    turned, slope = np.broadcast_arrays(a.scale < 0, _slope(node, a))
    require(np.all(slope[turned] > 0), "sign", "a slope that is not positive cannot exchange the two sides of zero")
    return [Passage({0: _scaled(a, turned, slope)}, _turned(node, turned, slope))]


def prelu_pass_forward(node: Node, index: int, a: Affine) -> Affine | Passage:
    """As for LeakyRelu; if the scale is negative, ``f(scale * x, k) = scale * k * f(x, 1 / k)`` for a slope k != 0."""
    data_only(index)
    if np.all(a.scale >= 0):
        return pass_forward(node, index, a)
    _require_scale(node, a)
    turned, slope = np.broadcast_arrays(a.scale < 0, _slope(node, a))
    require(np.all(slope[turned] != 0), "sign", "with a slope of zero one side of zero is lost")
    return Passage({0: _scaled(a, turned, slope)}, _turned(node, turned, slope))


def _slope(node: Node, a: Affine) -> Float64:
    """The slope of PRelu as an array of the value's rank."""
    require(node.version >= MULTIDIRECTIONAL, "old-opset", "the slope of PRelu did not broadcast before opset 7")
    weight = node.weight(1)
    require(len(weight.shape) <= a.rank, "parameters", f"its slope has the shape {list(weight.shape)}")
    return weight.values().reshape((1,) * (a.rank - len(weight.shape)) + weight.shape)


def _scaled(a: Affine, turned: NDArray[np.bool_], slope: Float64) -> Affine:
    return Affine.of(np.where(turned, a.scale * slope, a.scale), 0.0)


def _turned(node: Node, turned: NDArray[np.bool_], slope: Float64) -> Edit:
    """The edit that sets the inverse slope where the two sides of zero are exchanged."""
    values = np.where(turned, 1 / np.where(turned, slope, 1.0), slope)
    old = node.weight(1)
    while values.ndim > len(old.shape) and values.shape[0] == 1:
        values = values[0]
    return Edit(node, {1: Weight.of(values, old.dtype)})


def abs_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``|scale * x| = |scale| * |x|``."""
    data_only(index)
    _require_scale(node, a)
    return Affine.of(np.abs(a.scale), 0.0)


def _require_scale(node: Node, a: Affine) -> None:
    require(a.is_linear, "shift-left", f"a shift moves the zero at which {node.op} bends")


def _require_sign(a: Affine) -> None:
    require(np.all(a.scale >= 0), "sign", "a negative scale exchanges the two sides of zero")


BENT = OperatorRule(pass_backward=pass_backward, pass_forward=pass_forward)

RULES = {
    "LeakyRelu": BENT,
    "PRelu": OperatorRule(pass_backward=prelu_pass_backward, pass_forward=prelu_pass_forward),
    "Abs": OperatorRule(pass_backward=pass_backward, pass_forward=abs_pass_forward),
}
