"""OperatorRule: the interface of a rule, and helpers that several families of rules share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from folding.algebra.affine import Affine, Float64
from folding.algebra.whole import is_uniformly
from folding.analysis import constants
from folding.graph.weights import Weight
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from folding.algebra.shape import Shape
    from folding.graph.node import Node
    from folding.rules.edit import Edit

_Answer = TypeVar("_Answer")


class Passage(NamedTuple):
    """A map that passes an operator: the maps required at its inputs, or the maps at its outputs, by index.

    An input or output without an entry does not change. `edit` is the change at the operator itself.
    """

    maps: Mapping[int, Affine]
    edit: Edit | None = None


Ways = Sequence[Mapping[int, Affine] | Passage]  # alternatives, each with an affine for every input that changes


@dataclass(frozen=True)
class OperatorRule:
    """How an operator absorbs or passes an affine map; each function raises Refused if it cannot.

    absorb_backward(node, a): an edit after which the operator computes ``a(operator(...))``.
    absorb_forward(node, input, a): an edit after which it computes ``operator(..., a(input), ...)``.
    pass_backward(node, a): the maps required on its inputs to get `a` on its first output.
    part_backward(node, output, a): the same for an operator whose outputs are parts of its input.
    pass_forward(node, input, a): the map on its outputs if `a` is applied to that input only.
    """

    absorb_backward: Callable[[Node, Affine], Edit] | None = None
    absorb_forward: Callable[[Node, int, Affine], Edit] | None = None
    pass_backward: Callable[[Node, Affine], Ways] | None = None
    part_backward: Callable[[Node, int, Affine], Ways] | None = None
    pass_forward: Callable[[Node, int, Affine], Affine | Passage] | None = None

    def never_passing(self) -> OperatorRule:
        """The same rule for an operator that may absorb but not pass."""
        return replace(self, pass_backward=None, part_backward=None, pass_forward=None)


def asked(node: Node, question: Callable[..., _Answer], *given: object) -> _Answer:
    """Call a function of a rule; raises Refused if the node is malformed, which the rules do not check."""
    _ = node.schema  # checks that inputs and attributes fit the operator
    try:  # errors of NumPy and Python for shapes that do not fit
        return question(node, *given)
    except (
        ValueError,
        IndexError,
        ZeroDivisionError,
    ) as error:
        raise Refused("parameters", f"its inputs do not fit one another: {error}", node.label) from None


def along(a: Affine, axis: int, length: int, what: str) -> tuple[Float64, Float64]:
    """Scale and shift as vectors of `length`, for a map that varies along `axis` only.

    Raises:
        Refused: "axis" if it varies along another axis, "broadcast" if its own length there differs.
    """
    if not -a.rank <= axis < a.rank:
        raise Refused("axis", f"a value of rank {a.rank} has no axis {axis}")
    if not a.varies_only_along(axis):
        raise Refused("axis", f"the map varies along axes {list(a.axes)}, {what} along {axis % a.rank}")
    if a.shape[axis] not in (1, length):
        raise Refused("broadcast", f"the map has {a.shape[axis]} channels, {what} {length}")
    scale, shift = a.scale.reshape(-1), a.shift.reshape(-1)
    return (scale, shift) if scale.size == length else (np.broadcast_to(scale, length), np.broadcast_to(shift, length))


def data_only(index: int) -> None:
    """Refuse a map on any input but the first, because the others are weights or parameters."""
    require(index == 0, "not-data-input", f"the value is input {index}, not the data")


def bias_edit(node: Node, index: int, scale: Float64, shift: Float64, like: Weight) -> dict[int, Weight]:
    """``scale * bias + shift`` as the new constant of an optional bias input; empty if nothing changes."""
    if is_uniformly(shift, 0) and (not node.has(index) or is_uniformly(scale, 1)):
        return {}
    if not node.has(index):
        return {index: Weight.of(np.array(shift), like.dtype)}
    bias = node.weight(index)
    require(
        bias.shape == shift.shape, "parameters", f"the bias has the shape {list(bias.shape)}, not {list(shift.shape)}"
    )
    return {index: mapped(node, index, scale, shift)}


def mapped(node: Node, index: int, scale: Float64, shift: Float64) -> Weight:
    """``scale * constant + shift``. A quantized constant that is only scaled stays a recipe: its integers can stay."""
    old = node.weight(index)
    shape = np.broadcast_shapes(old.shape, scale.shape)
    if shift.any() or math.prod(shape) != old.size or constants.origin(node.scope, node.inputs[index]) is None:
        return Weight.of(scale * old.values() + shift, old.dtype)
    return old.scaled(old.shape, np.broadcast_to(scale, shape).reshape(old.shape))


def possible(answer: Callable[[int], Affine], inputs: Iterable[int]) -> dict[int, Affine]:
    """The results for the inputs that are not refused, at least one.

    Raises:
        Refused: the last refusal, if all inputs are refused.
    """
    found, refusal = {}, None
    for index in inputs:
        try:
            found[index] = answer(index)
        except Refused as error:
            refusal = error
    if not found and refusal is not None:
        raise refusal
    return found


def fits_input(node: Node, index: int, a: Affine) -> Affine:
    """Convert a map on the output to one on an input that broadcasts to the output.

    Raises:
        Refused: "broadcast" or "unknown-shape" unless the input has every axis along which the map varies.
    """
    shape: Shape = node.shape(index)
    try:
        fitted = a.with_rank(len(shape))
    except ValueError:
        raise Refused("broadcast", f"input {index} has rank {len(shape)} and is broadcast") from None
    for axis in fitted.axes:
        known = isinstance(shape[axis], int)
        require(known, "unknown-shape", f"the length of axis {axis} of input {index} is unknown")
        require(shape[axis] == fitted.shape[axis], "broadcast", f"input {index} is broadcast along axis {axis}")
    return fitted


Check = Callable[["Node", Affine], None]


def commuting(check: Check) -> OperatorRule:
    """The rule of an operator with ``operator(a(x)) = a(operator(x))`` for all maps that pass the check."""

    def backward(node: Node, a: Affine) -> Ways:
        check(node, a)
        return [{0: a}]

    def forward(node: Node, index: int, a: Affine) -> Affine:
        data_only(index)
        check(node, a)
        return a

    return OperatorRule(pass_backward=backward, pass_forward=forward)
