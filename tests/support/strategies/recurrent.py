"""Steps of recurrent operators; what they give has four axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.rows.recurrent import recurrent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.strategies.graphs import Growing


def step(op: str) -> Callable[[Growing], None]:
    def run(g: Growing) -> None:
        x = g.pick(3)
        if x is not None:
            direction = g.one_of("forward", "reverse", "bidirectional")
            both = 2 if direction == "bidirectional" else 1
            layout = {"layout": g.one_of(0, 1)} if g.m.opset >= 14 else {}
            g.add(recurrent(g.m, op, x, bias=g.one_of(True, False), directions=both, direction=direction, **layout))

    return run


STEPS = {op: step(op) for op in ("LSTM", "GRU", "RNN")}
