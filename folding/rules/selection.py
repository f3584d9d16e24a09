"""Operators that select or repeat elements: each element keeps its own part of the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.refusal import require
from folding.rules.axes import axes_of, integers, length_of, placed, require_small, require_uniform, taken
from folding.rules.rule import OperatorRule, Passage, data_only, fits_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from folding.algebra.affine import Affine
    from folding.graph.node import Node
    from folding.rules.rule import Ways

REPEATS_FOR_ALL_AXES = 6  # Tile: before it, repeats apply to one axis
UPDATES = 2  # the input of ScatterElements and ScatterND
SPLIT_AS_ATTRIBUTE = 2  # Split: before it, the sizes are an attribute or an input


# --- Slice -----------------------------------------------------------------------------------------------


def slice_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(x[part]) = b(x)[part]``; b is `a` on the part and the identity on the rest, which nothing reads."""
    for axis, step in _slices(node, a).items():
        length = length_of(node.shape(0), axis)
        a = placed(a, axis, _selected(step, length), length)
    return [{0: a}]


def slice_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``a(x)[part] = a[part](x[part])``."""
    data_only(index)
    for axis, step in _slices(node, a).items():
        a = taken(a, axis, _selected(step, a.shape[axis]))
    return a


def _slices(node: Node, a: Affine) -> dict[int, slice]:
    """The slice of each axis along which the map varies; axes that are not sliced have no entry."""
    if not a.axes:
        return {}
    given = integers(node, "axes", 3)
    axes = axes_of(range(len(integers(node, "starts", 1) or ())) if given is None else given, a.rank)
    varying = [axis for axis in axes if axis in a.axes]
    if not varying:
        return {}
    starts, ends = integers(node, "starts", 1) or [], integers(node, "ends", 2) or []
    steps = integers(node, "steps", 4) or [1] * len(axes)
    fits = len(starts) == len(ends) == len(steps) == len(axes) and all(steps)
    require(fits, "parameters", "its starts, ends, axes and steps do not fit one another")
    parts = dict(zip(axes, map(slice, starts, ends, steps), strict=True))
    return {axis: parts[axis] for axis in varying}


def _selected(part: slice, length: int) -> range:
    """The positions of a slice: negative numbers count from the end, then all are clamped (operator Slice-10)."""
    start, end = (place + length if place < 0 else place for place in (part.start, part.stop))
    if part.step > 0:
        return range(min(max(start, 0), length), min(max(end, 0), length), part.step)
    return range(min(max(start, 0), length - 1), min(max(end, -1), length - 1), part.step)


# --- Split -----------------------------------------------------------------------------------------------


def split_part_backward(node: Node, output: int, a: Affine) -> Ways:
    """Apply ``a`` to one part of the input; the other parts do not change."""
    axis, cuts = _cuts(node, a)
    return [{0: placed(a, axis, range(cuts[output], cuts[output + 1]), cuts[-1])}]


def split_pass_forward(node: Node, index: int, a: Affine) -> Passage:
    """Each part of the input carries its part of the map."""
    data_only(index)
    axis, cuts = _cuts(node, a)
    return Passage({n: taken(a, axis, range(cuts[n], cuts[n + 1])) for n in range(len(node.outputs))})


def _cuts(node: Node, a: Affine) -> tuple[int, list[int]]:
    """The axis that is split, and the cuts: 0, the ends of all parts but the last, the whole length."""
    require(node.version >= SPLIT_AS_ATTRIBUTE, "old-opset", "Split-1 cannot be read from its attributes alone")
    axis, parts = axes_of([node.attribute("axis")], a.rank)[0], len(node.outputs)
    lengths = integers(node, "split", 1)
    if lengths is None:
        length = length_of(node.shape(0), axis)
        each = -(-length // parts)
        lengths = [each] * (parts - 1) + [length - each * (parts - 1)]
    fits = len(lengths) == parts and min(lengths) >= 0
    require(fits, "parameters", f"parts of the lengths {lengths} do not make its {parts} outputs")
    return axis, [0, *np.cumsum(lengths).tolist()]


# --- Gather ----------------------------------------------------------------------------------------------


def gather_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(x[indices]) = b(x)[indices]``: every element that is read needs one map; nothing reads the others.

    In the output, the axes of the indices replace the axis from which they select.
    """
    many = node.rank(1)
    axis = axes_of([node.attribute("axis")], a.rank + 1 - many)[0]
    before, held, after = a.shape[:axis], a.shape[axis : axis + many], a.shape[axis + many :]
    if all(length == 1 for length in held):
        return [{0: a.reshape((*before, 1, *after))}]
    length = length_of(node.shape(0), axis)
    indices = _indices(node, length)
    fits = all(length in (1, known) for length, known in zip(held, indices.shape, strict=True))
    require(fits, "broadcast", f"the map has the shape {list(held)}, the indices {list(indices.shape)}")
    wanted = a.expand((*before, *indices.shape, *after)).reshape((*before, indices.size, *after))
    source = placed(wanted, axis, indices.reshape(-1), length)
    found = taken(source, axis, indices.reshape(-1))
    agree = np.array_equal(found.scale, wanted.scale) and np.array_equal(found.shift, wanted.shift)
    require(agree, "axis", "one element is read several times, with different maps")
    return [{0: source}]


def gather_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``a(x)[indices] = a[indices](x[indices])``."""
    data_only(index)
    axis = axes_of([node.attribute("axis")], a.rank)[0]
    if a.shape[axis] == 1:
        return a.reshape((*a.shape[:axis], *(1,) * node.rank(1), *a.shape[axis + 1 :]))
    indices = _indices(node, a.shape[axis])
    chosen = taken(a, axis, indices.reshape(-1))
    inner = indices.shape if axis in chosen.axes else (1,) * indices.ndim
    return chosen.reshape((*chosen.shape[:axis], *inner, *chosen.shape[axis + 1 :]))  # the selection may vary less


def _indices(node: Node, length: int) -> NDArray[np.int64]:
    """The indices, counted from the start."""
    require(node.is_constant(1), "unknown-shape", "its indices are computed at run time")
    indices = node.array(1).astype(np.int64)
    return np.where(indices < 0, indices + length, indices)


# --- Expand, Tile, Where ---------------------------------------------------------------------------------


def expand_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(expand(x)) = expand(a(x))``, if the map varies only along axes that the input has in full length."""
    return [{0: fits_input(node, 0, a)}]


def expand_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``expand(a(x)) = a(expand(x))``: an axis along which the map varies is longer than 1 and stays."""
    data_only(index)
    return a.with_rank(len(node.output_shape))


def tile_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(tile(x)) = tile(b(x))``; b is one period of `a`, because every copy must have the same map."""
    for axis, repeats in _repeats(node, a).items():
        length, rest = divmod(a.shape[axis], repeats)
        require(rest == 0, "parameters", f"{a.shape[axis]} elements are not {repeats} copies")
        before, after = a.shape[:axis], a.shape[axis + 1 :]
        copies = a.reshape((*before, repeats, length, *after))
        require_uniform(copies, [axis])
        a = copies.reshape((*before, length, *after))
    return [{0: a}]


def tile_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``tile(a(x)) = tile(a)(tile(x))``."""
    data_only(index)
    for axis, repeats in _repeats(node, a).items():
        before, length, after = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
        require_small((*before, repeats, length, *after))
        copies = a.reshape((*before, 1, length, *after)).expand((*before, repeats, length, *after))
        a = copies.reshape((*before, repeats * length, *after))
    return a


def _repeats(node: Node, a: Affine) -> dict[int, int]:
    """The number of repeats of each axis along which the map varies."""
    if not a.axes:
        return {}
    require(node.version >= REPEATS_FOR_ALL_AXES, "old-opset", "Tile-1 repeats one axis that is an input")
    repeats = integers(node, "repeats", 1) or []
    require(len(repeats) == a.rank and min(repeats) > 0, "parameters", f"{repeats} do not fit rank {a.rank}")
    return {axis: repeats[axis] for axis in a.axes}


def where_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(where(c, x, y)) = where(c, a(x), a(y))``. A map on only one of x and y does not pass."""
    return [{index: fits_input(node, index, a) for index in (1, 2)}]


# --- ScatterElements, ScatterND --------------------------------------------------------------------------


def scatter_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(scatter(x, u)) = scatter(a(x), a(u))``; of a sum x takes the shift, of a product it takes all of the map.

    Where elements are replaced, or the larger or smaller ones taken, both get the map, which then keeps the order.
    """
    reduction = _reduction(node)
    if reduction == b"mul":
        require(a.is_linear, "shift-left", "a shift of a product is none of its factors")
        return [{0: a}]
    require(reduction not in (b"max", b"min") or np.all(a.scale >= 0), "sign", "a negative scale exchanges the larger")
    return [{0: a, UPDATES: _of_updates(node, a.linear_part() if reduction == b"add" else a)}]


def scatter_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``(x + shift) + u = (x + u) + shift``, and ``(scale * x) * u = scale * (x * u)``."""
    data_only(index)
    reduction = _reduction(node)
    require(reduction in (b"add", b"mul"), "barrier", f"{node.op} replaces elements by others, which have no map")
    if reduction == b"add":
        require(a.is_shift, "scale-left", "a scale on one input of a sum does not pass it")
    else:
        require(a.is_linear, "shift-left", "a shift of a factor is multiplied by the others")
    return a


def _reduction(node: Node) -> bytes:
    return node.attribute("reduction") or b"none"  # before operator set 16 there is none


def _of_updates(node: Node, a: Affine) -> Affine:
    """The map on the updates, if it does not vary along an axis along which the indices choose."""
    if node.op == "ScatterElements":
        axis = axes_of([node.attribute("axis")], a.rank)[0]
        require_uniform(a, [axis])
        for other in a.axes:
            a = taken(a, other, range(length_of(node.shape(UPDATES), other)))
        return a
    chosen = length_of(node.shape(1), node.rank(1) - 1)  # so many axes of the data the indices count
    require_uniform(a, range(chosen))
    return a.reshape(((1,) * (node.rank(1) - 1)) + a.shape[chosen:])


SCATTER = OperatorRule(pass_backward=scatter_pass_backward, pass_forward=scatter_pass_forward)

RULES = {
    "Slice": OperatorRule(pass_backward=slice_pass_backward, pass_forward=slice_pass_forward),
    "Split": OperatorRule(part_backward=split_part_backward, pass_forward=split_pass_forward),
    "Gather": OperatorRule(pass_backward=gather_pass_backward, pass_forward=gather_pass_forward),
    "Expand": OperatorRule(pass_backward=expand_pass_backward, pass_forward=expand_pass_forward),
    "Tile": OperatorRule(pass_backward=tile_pass_backward, pass_forward=tile_pass_forward),
    "Where": OperatorRule(pass_backward=where_pass_backward),
    "ScatterElements": SCATTER,
    "ScatterND": SCATTER,
}
