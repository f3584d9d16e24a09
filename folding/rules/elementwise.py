"""Sums, products and quotients of activations pass a map; with a constant operand they absorb one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.graph.sites import MULTIDIRECTIONAL, affine_of
from folding.refusal import require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, fits_input, possible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.graph.node import Node
    from folding.rules.rule import Ways


def sum_pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * (x + y) + shift = (scale * x + shift) + scale * y``: the shift goes to one of the inputs.

    It is adapted so that the result moves by `shift`: negated at the second input of Sub, times n in a Mean of n.
    """
    _require_numpy_broadcasting(node)
    inputs = range(len(node.inputs))
    scaled = {index: fits_input(node, index, a.linear_part()) for index in inputs}
    if a.is_linear:
        return [scaled]
    shifted = {index: Affine.of(a.scale, a.shift / _share(node, index)) for index in inputs}
    return [{**scaled, index: fitted} for index, fitted in _fitting(node, shifted).items()]


def sum_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``(x + shift) + y = (x + y) + shift``. A scale on one input alone does not pass."""
    _require_numpy_broadcasting(node)
    require(a.is_shift, "scale-left", "a scale on one input of a sum does not pass it")
    return Affine.of(a.scale, a.shift * _share(node, index)).with_rank(len(node.output_shape))


def _share(node: Node, index: int) -> float:
    """The factor with which a shift of this input appears in the result of a sum, a difference or a mean."""
    if node.op == "Mean":
        return 1 / len(node.inputs)
    return -1.0 if node.op == "Sub" and index == 1 else 1.0


def mul_pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * (x * y) = (scale * x) * y = x * (scale * y)``."""
    _require_numpy_broadcasting(node)
    _require_linear(a)
    return [{index: fitted} for index, fitted in _fitting(node, {0: a, 1: a}).items()]


def mul_pass_forward(node: Node, _: int, a: Affine) -> Affine:
    """``(scale * x) * y = scale * (x * y)``."""
    _require_numpy_broadcasting(node)
    _require_linear(a)
    return a.with_rank(len(node.output_shape))


def div_pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * (x / y) = (scale * x) / y = x / (y / scale)``; the latter only if no scale is zero."""
    _require_numpy_broadcasting(node)
    _require_linear(a)
    inverse = _inverse(a)
    ways = {0: a, 1: inverse} if inverse.is_finite else {0: a}
    return [{index: fitted} for index, fitted in _fitting(node, ways).items()]


def div_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``(scale * x) / y = scale * (x / y)`` and ``x / (scale * y) = (x / y) / scale``."""
    _require_numpy_broadcasting(node)
    _require_linear(a)
    passed = a if index == 0 else _inverse(a)
    require(passed.is_finite, "non-finite", "a scale of zero would divide")
    return passed.with_rank(len(node.output_shape))


def _inverse(a: Affine) -> Affine:
    """The inverse of a pure scale, infinite where the scale is zero."""
    with np.errstate(all="ignore"):
        return Affine.of(1 / a.scale, 0.0)


def _require_linear(a: Affine) -> None:
    require(a.is_linear, "shift-left", "a shift of a product or quotient is none of its inputs")


def _fitting(node: Node, maps: Mapping[int, Affine]) -> dict[int, Affine]:
    """The maps that fit their inputs; refused if there is none."""
    return possible(lambda index: fits_input(node, index, maps[index]), maps)


def _require_numpy_broadcasting(node: Node) -> None:
    legacy = node.version < MULTIDIRECTIONAL and (node.attribute("broadcast") or node.attribute("axis") is not None)
    require(not legacy, "old-opset", f"{node.op} broadcast by attributes before opset 7")


def affine_absorb_backward(node: Node, a: Affine) -> Edit:
    """Combine the operator's own map with a following ``a``; one Mul or Add must be able to hold the result."""
    return _become(node, a.after(affine_of(node).affine))


def affine_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """Combine the operator's own map with a preceding ``a``."""
    site = affine_of(node)
    require(index == site.data, "not-data-input", "the value is the constant operand")
    return _become(node, site.affine.after(a))


def _become(node: Node, both: Affine) -> Edit:
    require(both.is_linear or both.is_shift, "two-steps", "together they are both a scale and a shift")
    return Edit(node, become=both)


SUM = OperatorRule(
    absorb_backward=affine_absorb_backward,
    absorb_forward=affine_absorb_forward,
    pass_backward=sum_pass_backward,
    pass_forward=sum_pass_forward,
)
PASSED_SUM = OperatorRule(pass_backward=sum_pass_backward, pass_forward=sum_pass_forward)

RULES = {
    "Add": SUM,
    "Sub": SUM,
    "Sum": PASSED_SUM,
    "Mean": PASSED_SUM,
    "Mul": OperatorRule(
        absorb_backward=affine_absorb_backward,
        absorb_forward=affine_absorb_forward,
        pass_backward=mul_pass_backward,
        pass_forward=mul_pass_forward,
    ),
    "Div": OperatorRule(
        absorb_backward=affine_absorb_backward,
        absorb_forward=affine_absorb_forward,
        pass_backward=div_pass_backward,
        pass_forward=div_pass_forward,
    ),
    "Neg": OperatorRule(absorb_backward=affine_absorb_backward, absorb_forward=affine_absorb_forward),
}
