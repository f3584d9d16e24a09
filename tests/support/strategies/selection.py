"""Steps with operators that select, pad or repeat elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.strategies.graphs import Growing


def _axis(g: Growing, x: str) -> int:
    """An axis, most often the channels'."""
    rank = len(g.shape(x))
    return g.one_of(*([1] * (rank > 1)), g.draw(st.integers(0, rank - 1)))


def slice_(g: Growing) -> None:
    x = g.pick(1, 2, 3, 4)
    if x is None:
        return
    axis, rank = _axis(g, x), len(g.shape(x))
    n = g.shape(x)[axis]
    start, end = (g.draw(st.integers(-n - 1, n + 1)) for _ in range(2))
    steps = [[g.one_of(1, 2, -1, -2)]] if g.one_of(True, False) else []
    g.add(g.m.op("Slice", x, *(g.index(v) for v in ([start], [end], [axis - g.one_of(0, rank)], *steps))))


def split(g: Growing) -> None:
    x = g.pick(1, 2, 3, 4)
    if x is None:
        return
    axis = _axis(g, x)
    n = g.shape(x)[axis]
    if n < 2:
        return
    if n % 2 == 0 and g.one_of(True, False):
        number = {"num_outputs": 2} if g.m.opset >= 18 else {}
        first = g.m.op("Split", x, axis=axis, outputs=2, **number)
    else:
        cut = g.draw(st.integers(1, n - 1))
        first = g.m.op("Split", x, g.index([cut, n - cut]), axis=axis, outputs=2)
    for part in g.draw(st.permutations([first, f"{first}_1"])):
        g.add(part)


def gather(g: Growing) -> None:
    x = g.pick(1, 2, 3, 4)
    if x is None:
        return
    axis, rank = _axis(g, x), len(g.shape(x))
    n = g.shape(x)[axis]
    shape = g.one_of((), (2,), (3,), (2, 2)) if rank < 4 else g.one_of((), (2,), (3,))
    indices = g.draw(st.lists(st.integers(-n, n - 1), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    chosen = g.m.constant(np.array(indices, np.int64).reshape(shape))
    g.add(g.m.op("Gather", x, chosen, axis=axis - g.one_of(0, rank)))


def pad(g: Growing) -> None:
    x = g.pick(2, 3, 4)
    if x is None:
        return
    shape = g.shape(x)
    mode = g.one_of("constant", "constant", "edge", "reflect", *(["wrap"] if g.m.opset >= 19 else []))
    pads = [0] * (2 * len(shape))
    for axis in {_axis(g, x), _axis(g, x)}:
        most = 0 if mode == "reflect" and shape[axis] < 2 else 1
        pads[axis] = g.draw(st.integers(-1 if shape[axis] > 2 else 0, most))
        pads[len(shape) + axis] = g.draw(st.integers(0, most))
    value = [g.m.constant(np.array(g.one_of(0.0, -0.75)))] if mode == "constant" and g.one_of(True, False) else []
    g.add(g.m.op("Pad", x, g.index(pads), *value, mode=mode))


def expand(g: Growing) -> None:
    x = g.pick(1, 2, 3)
    if x is not None:
        target = [g.one_of(2, 3) if n == 1 else g.one_of(1, n) for n in g.shape(x)]
        g.add(g.m.op("Expand", x, g.index([*g.one_of([], [2]), *target])))


def tile(g: Growing) -> None:
    x = g.pick(1, 2, 3, 4)
    if x is not None:
        g.add(g.m.op("Tile", x, g.index([g.one_of(1, 1, 2) for _ in g.shape(x)])))


def of_the_shape(g: Growing) -> None:
    """A value in the shape of another one, of which nothing else is read."""
    x = g.pick()
    if x is not None:
        same = [y for y in g.live if g.shape(y) == g.shape(x)]
        g.add(g.m.op("Reshape", x, g.m.op("Shape", g.draw(st.sampled_from(same)))))


def of_the_type(g: Growing) -> None:
    """A product with a constant in the type of a value, of which nothing else is read."""
    x = g.pick()
    if x is not None and g.m.opset >= 15:
        constant = g.m.constant(np.array(g.one_of(0.5, -2.0)))
        g.add(g.m.op("Mul", x, g.m.op("CastLike", constant, g.draw(st.sampled_from(g.live)))))


def where(g: Growing) -> None:
    """A choice between two values of one shape, or a value and a constant."""
    x = g.pick()
    if x is None:
        return
    shape = g.shape(x)
    same = [y for y in g.live if y != x and g.shape(y) == shape]
    y = g.draw(st.sampled_from(same)) if same and g.one_of(True, False) else None
    other = y or g.m.constant(g.one_of(shape, (1,) * len(shape), ()))
    mask = g.m.constant(g.m.random.random([g.one_of(1, n) for n in shape]) < 0.5)
    g.add(g.m.op("Where", mask, *((x, other) if g.one_of(True, False) else (other, x))))


def scatter(op: str) -> Callable[[Growing], None]:
    def step(g: Growing) -> None:
        x = g.pick(1, 2, 3, 4)
        if x is None:
            return
        shape = g.shape(x)
        reductions = [{}] if g.m.opset < 16 else [{}, {"reduction": "none"}, {"reduction": "add"}, {"reduction": "mul"}]
        extra = g.one_of(*reductions, *([] if g.m.opset < 18 else [{"reduction": "max"}, {"reduction": "min"}]))
        if op == "ScatterElements":
            axis = _axis(g, x)
            part = tuple(g.one_of(n, g.draw(st.integers(1, n))) for n in shape)
            numbers = np.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - 1 - axis))
            indices = g.m.random.permuted(np.broadcast_to(numbers, shape), axis=axis)[tuple(map(slice, part))]
            extra = {**extra, "axis": axis - g.one_of(0, len(shape))}
        else:
            counted = g.draw(st.integers(1, len(shape)))
            places = g.m.random.permutation(int(np.prod(shape[:counted])))[: g.one_of(1, 2)]
            indices = np.stack(np.unravel_index(places, shape[:counted]), -1)
            part = (len(places), *shape[counted:])
        same = [y for y in g.live if g.shape(y) == part and y != x]
        updates = g.draw(st.sampled_from(same)) if same and g.one_of(True, False) else g.m.constant(part)
        g.add(g.m.op(op, x, g.m.constant(indices.astype(np.int64)), updates, **extra))

    return step


STEPS: dict[str, Callable[[Growing], None]] = {
    "Slice": slice_,
    "Split": split,
    "Gather": gather,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
    "Where": where,
    "Shape": of_the_shape,
    "CastLike": of_the_type,
    "ScatterElements": scatter("ScatterElements"),
    "ScatterND": scatter("ScatterND"),
}
