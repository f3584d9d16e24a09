"""Steps that write an idiom, with an affine before or behind it more often than not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.ready import idioms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.support.ready.idioms import Writer
    from tests.support.strategies.graphs import Growing


def one_of(writers: Collection[tuple[str, Writer]], *ranks: int) -> Callable[[Growing], None]:
    def step(g: Growing) -> None:
        x = g.pick(*ranks)
        if x is not None:
            g.add(g.one_of(*(writer for _, writer in writers))(g.m, x))

    return step


GROUPED = {idioms.group_norm.__name__}
STEPS = {
    "an activation written out": one_of(idioms.ACTIVATIONS.values()),
    "a normalization written out": one_of([w for n, w in idioms.NORMALIZATIONS.items() if n not in GROUPED], 2, 3, 4),
    "a normalization of groups written out": one_of([idioms.NORMALIZATIONS[name] for name in GROUPED], 3, 4),
    "a product written out": one_of(idioms.PRODUCTS.values(), 2, 3, 4),
}
