"""Activations that scale with their input: LeakyRelu and PRelu by factors that are not negative, Abs by any."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.affine import Affine
from folding.plan import require
from folding.rules.rule import OperatorRule, data_only

if TYPE_CHECKING:
    from folding.node import Node
    from folding.rules.rule import Ways


def pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * f(x) = f(scale * x)`` for scale >= 0, f being linear on either side of zero.

    The slope of PRelu broadcasts to x and never x to it, so it may be anything and stays.
    """
    _require_scale(node, a)
    _require_sign(a)
    return [{0: a}]


def pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """As backward, the other way."""
    data_only(index)
    _require_scale(node, a)
    _require_sign(a)
    return a


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
    "PRelu": BENT,
    "Abs": OperatorRule(pass_backward=pass_backward, pass_forward=abs_pass_forward),
}
