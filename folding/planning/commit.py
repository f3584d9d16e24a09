"""Apply a plan: edit the absorbing operators, remove the affine ones, write clamps and leftovers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.editing.surgery import (
    append_operator,
    connect,
    drop_if_unread,
    drop_inputs,
    drop_outputs,
    note,
    old_constant,
    remove,
    retype,
    set_attributes,
    set_constant,
    set_output,
)
from folding.graph.sites import data_input, value_type
from folding.graph.weights import Weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.algebra.affine import Affine, Float64
    from folding.algebra.clamp import Clamp
    from folding.graph.node import Node
    from folding.planning.plan import Merge, Plan
    from folding.rules import Edit

ABSORBED = "bnfold.absorbed"  # key in an absorbing operator's metadata_props; its value names the absorbed operators
CLIP_BOUNDS_AS_INPUTS = 11


def commit(plan: Plan) -> list[Node]:
    """Apply a plan: edit the absorbing operators, remove the affine ones; return the affine operators that are left."""
    left = carry_out(plan.move.edits, ", ".join(node.label for node in plan.gone), plan.site.key)
    if plan.is_split:
        plan.site.is_made = True
        left.append(plan.site)
    for node in plan.move.removed:
        bypass(node, keep_output=plan.direction == "backward")
    return left


def carry_out(edits: Iterable[Edit], names: str, site: str) -> list[Node]:
    """Edit operators that absorb a map, and note in each the names of what it absorbed; return what is left of it."""
    left = []
    for edit in edits:
        left += apply(edit, site)
        note(edit.node, ABSORBED, names)
    return left


def merge(plan: Merge) -> None:
    """Replace the whole sum by the convolution that stays."""
    stays, final = plan.edit.node, plan.root.output
    scope, former = stays.scope, stays.output
    apply(plan.edit, plan.root.key)
    names = ", ".join(node.label for node in plan.sites)
    if names:
        note(stays, ABSORBED, names)
    set_output(stays, 0, final)  # first, so that no removed operator takes constants along that only it read
    for node in plan.others:
        if not node.removed:
            remove(node)
    scope.producers[final] = stays
    scope.dropped.discard(final)
    scope.dropped.add(former)


def apply(edit: Edit, site: str) -> list[Node]:
    """Carry out the edit; return the operators that apply its leftover."""
    node = edit.node
    if edit.become is not None:
        rewrite_as_affine(node, edit.become, site)
    if edit.clamp is not None:
        rewrite_as_clamp(node, edit.clamp, site)
    for index, weight in edit.constants.items():
        old = old_constant(node, index)
        if old is None or not old.equals(weight):
            set_constant(node, index, weight, site)
    if edit.attributes:
        set_attributes(node, edit.attributes)
    return [] if edit.leftover is None else append_affine(node, edit.leftover, site)


def bypass(node: Node, *, keep_output: bool) -> None:
    """Remove an affine operator and join its data input and its output under one of their names."""
    scope, value, output = node.scope, node.inputs[data_input(node)], node.output
    remove(node, spare=value)
    if keep_output:
        producer = scope.producers[value]
        set_output(producer, producer.outputs.index(value), output)
        old, new = value, output
        scope.dropped.add(value)
        scope.dropped.discard(output)
    else:
        old, new = output, value
    for edge in scope.uses.pop(old, ()):
        edge.node.inputs[edge.index] = edge.node.proto.input[edge.index] = new
        scope.uses[new][edge] = None


# --- what operators become ---------------------------------------------------------------------------------


def _type(node: Node) -> np.dtype[Any]:
    """The dtype of constants that combine with an operator's result; the planner has checked that it is known."""
    dtype = value_type(node)
    assert dtype is not None, f"the type of {node.label!r} is unknown"  # noqa: S101
    return dtype


def rewrite_as_affine(node: Node, a: Affine, site: str) -> None:
    """Turn an operator with one data input into the Mul or Add that computes `a`, a pure scale or pure shift."""
    assert a.is_linear or a.is_shift, f"{node.label!r} would lose its scale"  # noqa: S101
    dtype, data = _type(node), data_input(node)
    value, constant = node.inputs[data], node.inputs[1 - data] if len(node.inputs) == 2 else ""
    retype(node, "Mul" if a.is_linear else "Add")
    drop_inputs(node, 2)
    connect(node, 0, value)
    if constant:
        connect(node, 1, constant)
    drop_outputs(node, 1)  # empty names of statistics that nothing uses
    set_constant(node, 1, _constant_of(a, dtype), site)


def _constant_of(a: Affine, dtype: np.dtype[Any]) -> Weight:
    """The constant operand of the Mul or Add that computes a pure scale or a pure shift."""
    return Weight.of(a.scale, dtype, is_scale=True) if a.is_linear else Weight.of(a.shift, dtype)


def append_affine(node: Node, a: Affine, site: str) -> list[Node]:
    """Insert a Mul, an Add or both after an operator; the last of them takes over the name of its first output."""
    made = []
    for part in (a.shift_part(), a.linear_part()):  # each is inserted directly after the operator
        if not part.is_identity:
            operand = _constant_of(part, _type(node))
            made.append(append_operator(node, "Mul" if part.is_linear else "Add"))
            set_constant(made[-1], 1, operand, site)
    return made


def rewrite_as_clamp(node: Node, clamp: Clamp, site: str) -> None:
    """Turn an operator with one data input into the operators that compute `clamp`, see `Clamp.operators`."""
    dtype = _type(node)
    value = next(name for index, name in enumerate(node.inputs) if name and not node.is_constant(index))
    former, (first, *second) = node.inputs[0], clamp.operators
    retype(node, first)
    connect(node, 0, value)
    drop_inputs(node, 1)
    if former != value:
        drop_if_unread(node.scope, former)
    bounds = {"Max": clamp.lower, "Min": clamp.upper}
    if first == "Clip":
        _set_bounds(node, clamp, dtype, site)
    elif first != "Relu":
        set_constant(node, 1, _bounds(bounds[first], dtype), site)
    for op in second:
        set_constant(append_operator(node, op), 1, _bounds(bounds[op], dtype), site)


def _set_bounds(node: Node, clamp: Clamp, dtype: np.dtype[Any], site: str) -> None:
    """Set the scalar bounds of Clip: inputs since opset 11, attributes before."""
    for index, (name, bound) in enumerate((("min", clamp.lower), ("max", clamp.upper)), start=1):
        if np.isfinite(bound).all() and node.version >= CLIP_BOUNDS_AS_INPUTS:
            set_constant(node, index, _bounds(bound.reshape(()), dtype), site)
        elif np.isfinite(bound).all():
            set_attributes(node, {name: bound.item()})


def _bounds(values: Float64, dtype: np.dtype[Any]) -> Weight:
    """Bounds as a constant; an infinite bound becomes the largest finite value of the type on that side."""
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    finite = np.where(np.isposinf(values), float(info.max), np.where(np.isneginf(values), float(info.min), values))
    return Weight.of(finite, dtype)
