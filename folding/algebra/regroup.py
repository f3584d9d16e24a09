"""Carry an affine map across a reshape, by groups of axes that correspond by prefix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from folding.refusal import require

if TYPE_CHECKING:
    from folding.algebra.affine import Affine
    from folding.algebra.shape import Dimension, Shape

EXPANDED_LIMIT = 1 << 22  # elements of a map expanded over a group of axes


class Group(NamedTuple):
    """Axes [a, b) of the source that hold the same elements as axes [c, d) of the target, in C order.

    `settled` means that the sizes prove the correspondence; otherwise only the totals agree.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    settled: bool


def regroup(a: Affine, source: Shape, target: Shape) -> Affine:
    """The map on values of shape `target`, which a reshape makes from values of shape `source`.

    An unknown dimension is a name (equal names mean equal lengths) or None. Each pair of corresponding groups of
    axes carries its part of the map over, repeated or tiled as the C order requires.

    Raises:
        Refused: "unknown-shape" if the map varies within axes whose sizes do not determine the correspondence,
            "too-large" if it would have to be expanded to too many elements.
    """
    expanded, reshaped = list(a.shape), [1] * len(target)
    for group in groups(source, target):
        held = a.shape[slice(*group.source)]
        if math.prod(held) == 1:
            continue
        require(group.settled, "unknown-shape", f"sizes {_shown(source)} -> {_shown(target)} do not settle the axes")
        if group.source[1] - group.source[0] == group.target[1] - group.target[0] == 1:
            reshaped[group.target[0]] = held[0]
            continue
        expanded[slice(*group.source)] = _lengths(source, group.source)
        reshaped[slice(*group.target)] = _lengths(target, group.target)
    require(math.prod(expanded) <= EXPANDED_LIMIT, "too-large", "the map would have to be written out elementwise")
    return a.expand(expanded).reshape(reshaped)


def groups(source: Shape, target: Shape) -> list[Group]:
    """The finest corresponding groups of axes, from the left, then from the right; the rest is one group."""
    left = _from_left(source, target)
    i, j = (left[-1].source[1], left[-1].target[1]) if left else (0, 0)
    right = [_mirrored(group, source, target) for group in _from_left(source[i:][::-1], target[j:][::-1])][::-1]
    m, n = (right[0].source[0], right[0].target[0]) if right else (len(source), len(target))
    if (i, j) == (m, n):
        return left + right
    settled = (m - i == n - j == 1) or all(is_size(size) for size in (*source[i:m], *target[j:n]))
    return [*left, Group((i, m), (j, n), settled), *right]


def _mirrored(group: Group, source: Shape, target: Shape) -> Group:
    (a, b), (c, d) = group.source, group.target
    return Group((len(source) - b, len(source) - a), (len(target) - d, len(target) - c), group.settled)


def _from_left(source: Shape, target: Shape) -> list[Group]:
    found, i, j = [], 0, 0
    while i < len(source) and j < len(target):
        ends = _next_group(source, i, target, j)
        if ends is None:
            break
        found.append(Group((i, ends[0]), (j, ends[1]), settled=True))
        i, j = ends
    return found


def _next_group(source: Shape, i: int, target: Shape, j: int) -> tuple[int, int] | None:
    """The end of the shortest group that begins at axes i and j; None if an unknown dimension comes first."""
    if source[i] == target[j] and source[i] is not None and source[i] != 0:
        return i + 1, j + 1
    one = other = 1
    first = True
    while first or one != other:
        grow_source = first or one < other
        if grow_source:
            size = source[i] if i < len(source) else None
            if not is_size(size):
                return None
            one, i = one * size, i + 1
        if first or not grow_source:
            size = target[j] if j < len(target) else None
            if not is_size(size):
                return None
            other, j = other * size, j + 1
        first = False
    return i, j


def is_size(size: Dimension) -> TypeGuard[int]:
    """Whether the dimension is known and not 0; products with zeros prove nothing."""
    return isinstance(size, int) and size > 0


def _lengths(shape: Shape, axes: tuple[int, int]) -> list[int]:
    return [size for size in shape[slice(*axes)] if isinstance(size, int)]


def _shown(shape: Shape) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
