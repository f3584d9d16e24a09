"""Relu, Clip, Max and Min with constant bounds are clamps: any affine map passes them if the bounds are mapped too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.clamp import Clamp
from folding.refusal import require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, Passage

if TYPE_CHECKING:
    from folding.algebra.affine import Affine, Float64
    from folding.graph.node import Node
    from folding.rules.rule import Ways

BOUNDS_AS_INPUTS = 11  # of Clip
MULTIDIRECTIONAL = 8  # Max and Min: NumPy's broadcasting since opset 8
UNBOUNDED = float(np.finfo(np.float32).max)  # in Clip-6 the largest float32 means "no bound"


def clamp_pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * clamp(x) + shift = clamp'(scale * x + shift)``; the bounds of clamp' are the mapped bounds."""
    data, own = _clamp_of(node, a.rank)
    return [Passage({data: a}, _edit(node, own, own.following(a)))]


def clamp_pass_forward(node: Node, index: int, a: Affine) -> Passage:
    """``clamp(scale * x + shift) = scale * clamp'(x) + shift``; the bounds of clamp' are mapped by the inverse."""
    data, own = _clamp_of(node, a.rank)
    require(index == data, "not-data-input", "the value is a bound, not the data")
    moved, after = own.preceding(a)
    return Passage({0: after}, _edit(node, own, moved))


def _edit(node: Node, own: Clamp, moved: Clamp) -> Edit | None:
    if moved.equals(own):
        return None
    for op in moved.operators:
        require(node.computes(op), "old-opset", f"{op} with a bound does not exist for this type in the operator set")
    return Edit(node, clamp=moved)


def _clamp_of(node: Node, rank: int) -> tuple[int, Clamp]:
    """The index of the data input, and the clamp that the operator applies to it."""
    shape = (1,) * rank
    if node.op == "Relu":
        return 0, Clamp.of(np.zeros(shape), np.inf)
    if node.op == "Clip":
        lower, upper = (_bound(node, index, sign) for index, sign in ((1, -1), (2, 1)))
        require(lower <= upper, "parameters", f"its bounds {lower:g} and {upper:g} leave nothing between them")
        return 0, Clamp.of(np.full(shape, lower), np.full(shape, upper))
    data, bound = _operand(node, rank)
    return data, Clamp.of(bound, np.inf) if node.op == "Max" else Clamp.of(-np.inf, bound)


def _bound(node: Node, index: int, sign: int) -> float:
    """One bound of Clip; an absent bound is infinite with this `sign`."""
    if node.version >= BOUNDS_AS_INPUTS:
        if not node.has(index):
            return sign * np.inf
        weight = node.weight(index)
        require(weight.size == 1, "parameters", f"a bound has the shape {list(weight.shape)}")
        found = weight.values().item()
    else:
        given = node.attribute("min" if index == 1 else "max")
        found = sign * np.inf if given is None else float(given)
    limit = UNBOUNDED if node.version < BOUNDS_AS_INPUTS else np.inf
    require(not np.isnan(found) and found != -sign * np.inf, "non-finite", f"{found} is no bound on that side")
    return sign * np.inf if sign * found >= limit else found


def _operand(node: Node, rank: int) -> tuple[int, Float64]:
    """The index of the data input of a binary Max or Min, and its constant, which must not broadcast the data."""
    require(node.version >= MULTIDIRECTIONAL, "old-opset", f"{node.op} did not broadcast before opset 8")
    constant = [node.is_constant(index) for index in range(len(node.inputs))]
    require(sorted(constant) == [False, True], "barrier", f"{node.op} compares activations")
    data = constant.index(False)
    weight, shape = node.weight(1 - data), node.shape(data)
    require(len(weight.shape) <= rank == len(shape), "broadcast", "its constant has more axes than the value")
    aligned = (1,) * (rank - len(weight.shape)) + weight.shape
    fits = all(length in (1, size) for length, size in zip(aligned, shape, strict=True))
    require(fits, "broadcast", f"its constant of shape {list(weight.shape)} may broadcast the value")
    bound = weight.values().reshape(aligned)
    beyond = np.inf if node.op == "Max" else -np.inf
    require(not (np.isnan(bound) | (bound == beyond)).any(), "non-finite", "a bound leaves no number")
    return data, bound


CLAMP = OperatorRule(pass_backward=clamp_pass_backward, pass_forward=clamp_pass_forward)
RULES = dict.fromkeys(("Clip", "Max", "Min", "Relu"), CLAMP)
