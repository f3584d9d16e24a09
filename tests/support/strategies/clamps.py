"""Steps that clamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.support.strategies.graphs import Growing, unary

if TYPE_CHECKING:
    from collections.abc import Callable


def clip(g: Growing) -> None:
    x = g.pick()
    if x is not None:
        low, high = sorted((g.one_of(-1.0, -0.5, 0.0), g.one_of(0.0, 0.25, 6.0)))
        bounds = [g.m.constant(np.array(low)), g.m.constant(np.array(high))]
        g.add(g.m.op("Clip", x, *g.one_of(bounds, bounds[:1], ["", bounds[1]], [])))


def bounded(op: str) -> Callable[[Growing], None]:
    def step(g: Growing) -> None:
        x = g.pick(2, 3, 4)
        if x is not None:
            shape = (1, g.shape(x)[1], *(1,) * (len(g.shape(x)) - 2))
            bound = g.m.constant(shape)
            g.add(g.m.op(op, *g.one_of((x, bound), (bound, x))))

    return step


STEPS = {"Relu": unary("Relu"), "Clip": clip, "Max": bounded("Max"), "Min": bounded("Min")}
