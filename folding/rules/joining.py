"""Concat passes an affine map in both directions; each branch gets its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.refusal import require
from folding.rules.axes import axes_of
from folding.rules.rule import OperatorRule

if TYPE_CHECKING:
    from folding.graph.node import Node
    from folding.rules.rule import Ways


FORMER_AXIS = 1  # the default axis of Concat-1


def _axis(node: Node, rank: int) -> int:
    axis = node.attribute("axis")
    return axes_of([FORMER_AXIS if axis is None else int(axis)], rank)[0]


def _lengths(node: Node, axis: int) -> list[int]:
    """The length of every input along the joined axis."""
    lengths = [node.shape(index)[axis] for index in range(len(node.inputs))]
    known = [length for length in lengths if isinstance(length, int)]
    require(len(known) == len(lengths), "unknown-shape", "the length of a branch along the joined axis is unknown")
    return known


def concat_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(concat(x, y)) = concat(a_x(x), a_y(y))``; a_x and a_y are the parts of `a` along the joined axis."""
    axis = _axis(node, a.rank)
    if a.shape[axis] == 1:
        return [dict.fromkeys(range(len(node.inputs)), a)]
    lengths = _lengths(node, axis)
    require(
        sum(lengths) == a.shape[axis],
        "broadcast",
        f"the branches have {sum(lengths)} channels, the map {a.shape[axis]}",
    )
    cuts = np.cumsum(lengths)[:-1].tolist()
    parts = zip(np.split(a.scale, cuts, axis), np.split(a.shift, cuts, axis), strict=True)
    return [{index: Affine.of(scale, shift) for index, (scale, shift) in enumerate(parts)}]


def concat_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``concat(a(x), y) = b(concat(x, y))``; b is `a` along x and the identity elsewhere."""
    axis = _axis(node, a.rank)
    lengths = _lengths(node, axis)
    require(a.shape[axis] in (1, lengths[index]), "broadcast", "the map's length is not the branch's")
    start = sum(lengths[:index])
    shape = list(a.shape)
    shape[axis] = sum(lengths)
    scale, shift = np.ones(shape), np.zeros(shape)
    part = (slice(None),) * axis + (slice(start, start + lengths[index]),)
    scale[part], shift[part] = a.scale, a.shift
    return Affine.of(scale, shift)


RULES = {"Concat": OperatorRule(pass_backward=concat_pass_backward, pass_forward=concat_pass_forward)}
