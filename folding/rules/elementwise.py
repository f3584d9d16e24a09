"""Add, Sub and Sum of activations pass; an operator with one constant operand absorbs what leaves it one operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.plan import Edit, Refused, require
from folding.rules.rule import OperatorRule, fits_input
from folding.sites import MULTIDIRECTIONAL, affine_of

if TYPE_CHECKING:
    from folding.affine import Affine
    from folding.graph import Node
    from folding.rules.rule import Ways


def sum_pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * (x + y) + shift = (scale * x + shift) + scale * y``: the shift goes to any one of the inputs."""
    _require_numpy_broadcasting(node)
    inputs = range(len(node.inputs))
    scaled = {index: fits_input(node, index, a.linear_part()) for index in inputs}
    if a.is_linear:
        return [scaled]
    sign = {index: -1.0 if node.op == "Sub" and index == 1 else 1.0 for index in inputs}
    ways, refusal = [], None
    for index in inputs:
        try:
            shifted = fits_input(node, index, _signed(a, sign[index]))
        except Refused as error:
            refusal = error
        else:
            ways.append({**scaled, index: shifted})
    if not ways and refusal is not None:
        raise refusal
    return ways


def sum_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``(x + shift) + y = (x + y) + shift``. A scale on one input alone does not pass."""
    _require_numpy_broadcasting(node)
    require(a.is_shift, "scale-left", "a scale on one input of a sum does not pass it")
    fitted = a.with_rank(len(node.output_shape))
    return _signed(fitted, -1.0) if node.op == "Sub" and index == 1 else fitted


def _signed(a: Affine, sign: float) -> Affine:
    """The same scale with the shift times `sign`."""
    return type(a).of(a.scale, sign * a.shift)


def _require_numpy_broadcasting(node: Node) -> None:
    legacy = node.version < MULTIDIRECTIONAL and (node.attribute("broadcast") or node.attribute("axis") is not None)
    require(not legacy, "old-opset", f"{node.op} broadcast by attributes before opset 7")


def affine_absorb_backward(node: Node, a: Affine) -> Edit:
    """``a`` after the operator's own map is one map again; one Mul or Add must be able to hold it."""
    return _become(node, a.after(affine_of(node).affine))


def affine_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """The operator's own map after ``a``."""
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
SCALE = OperatorRule(absorb_backward=affine_absorb_backward, absorb_forward=affine_absorb_forward)

RULES = {
    "Add": SUM,
    "Sub": SUM,
    "Sum": OperatorRule(pass_backward=sum_pass_backward, pass_forward=sum_pass_forward),
    "Mul": SCALE,
    "Div": SCALE,
    "Neg": SCALE,
}
