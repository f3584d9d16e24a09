"""Half a move: the scale moves and the shift stays, or the other way round, at a normalization or on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from folding.graph.sites import NORMALIZATION
from folding.planning.plan import Move
from folding.refusal import Refused
from folding.rules import Edit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from folding.algebra.affine import Affine
    from folding.graph.sites import Site
    from folding.planning.plan import Direction

    Mover = Callable[[Site, Direction, int], Move]  # raises Refused


def halves(a: Affine) -> Iterator[tuple[Direction, Affine, Affine]]:
    """The ways to move one half of a map: the direction, the half that moves, and the half that is left.

    ``scale * x + shift = (x + shift / scale) * scale``: either half may come first. The first one may move backward,
    the last one forward.
    """
    scale, shift = a.linear_part(), a.shift_part()
    yield "backward", scale, shift
    yield "forward", shift, scale
    if np.all(a.scale != 0):
        with np.errstate(all="ignore"):
            early = type(a).of(np.ones_like(a.scale), a.shift / a.scale)
        if early.is_finite:
            yield "forward", scale, early
            yield "backward", early, scale


def half_way(onward: Mover, site: Site, both: Affine, direction: Direction, depth: int) -> Move | None:
    """Let an operator on the way hold one half of its own map and the moving one, and move the other half on.

    ``both`` is the composition of the two. None if neither half moves.
    """
    if site.node.op == NORMALIZATION or site.is_open:
        return None
    for way, moved, left in halves(both):
        if way == direction and not moved.is_identity:
            try:
                move = onward(replace(site, affine=moved), direction, depth + 1)
            except Refused:
                continue
            return Move(path=(site.node,), edits=(Edit(site.node, become=left, passed=True),)) + move
    return None
