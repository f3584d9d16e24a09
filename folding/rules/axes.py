"""Helpers for axes: axes in inputs and attributes, and maps on selected positions of one axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.algebra.regroup import EXPANDED_LIMIT, is_size
from folding.refusal import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from folding.algebra.shape import Shape
    from folding.graph.node import Node

    Positions = Sequence[int] | NDArray[np.int64]


def integers(node: Node, name: str, index: int) -> list[int] | None:
    """A list that older opsets give as an attribute and newer ones as an input; None if it is absent.

    Raises:
        Refused: "unknown-shape" if it is computed at run time.
    """
    if name in node.schema.attributes:
        given = node.attribute(name)
        return None if given is None else list(given)
    require(not node.has(index) or node.is_constant(index), "unknown-shape", f"its {name} are computed at run time")
    return node.integers(index)


def axes_of(numbers: Iterable[int], rank: int) -> list[int]:
    """Axes counted from the start; they may be given counted from the end."""
    axes = list(numbers)
    within = all(-rank <= axis < rank for axis in axes) and len({axis % rank for axis in axes}) == len(axes)
    require(within, "parameters", f"{axes} are not distinct axes of a value of rank {rank}")
    return [axis % rank for axis in axes]


def length_of(shape: Shape, axis: int) -> int:
    """The length of an axis, which must be known."""
    length = shape[axis] if axis < len(shape) else None
    require(is_size(length), "unknown-shape", f"the length of axis {axis} is unknown")
    assert isinstance(length, int)  # noqa: S101  narrowed for the type checker
    return length


def require_uniform(a: Affine, axes: Iterable[int]) -> None:
    """Refuse a map that varies along one of these axes, because the operator mixes or moves elements along them."""
    mixed = sorted(set(a.axes) & set(axes))
    require(not mixed, "axis", f"the map varies along axes {mixed}, along which the operator takes elements together")


def taken(a: Affine, axis: int, positions: Positions) -> Affine:
    """The map on a value that holds only the elements at these positions of an axis, in this order."""
    if a.shape[axis] == 1:
        return a
    indices = _within(positions, a.shape[axis])
    return Affine.of(np.take(a.scale, indices, axis), np.take(a.shift, indices, axis))


def placed(a: Affine, axis: int, positions: Positions, length: int) -> Affine:
    """A map on a value with `length` along an axis: `a` at these positions and the identity elsewhere."""
    fits = a.shape[axis] in (1, len(positions))
    require(fits, "broadcast", f"the map has the length {a.shape[axis]}, {len(positions)} elements are taken")
    shape = (*a.shape[:axis], length, *a.shape[axis + 1 :])
    require_small(shape)
    scale, shift = np.ones(shape), np.zeros(shape)
    selected: tuple[slice | NDArray[np.int64], ...] = (*(slice(None),) * axis, _within(positions, length))
    scale[selected], shift[selected] = a.scale, a.shift
    return Affine.of(scale, shift)


def require_small(shape: Iterable[int]) -> None:
    """Refuse a map that would be too large when expanded to this shape."""
    require(math.prod(shape) <= EXPANDED_LIMIT, "too-large", "the map would have to be written out elementwise")


def _within(positions: Positions, length: int) -> NDArray[np.int64]:
    found = np.asarray(positions, np.int64)
    within = ((found >= 0) & (found < length)).all()
    require(within, "parameters", f"it takes elements that an axis of length {length} does not have")
    return found
