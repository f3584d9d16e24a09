"""Steps with operators that pool or reduce."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.strategies.graphs import Growing


def pool(op: str) -> Callable[[Growing], None]:
    def step(g: Growing) -> None:
        x = g.pick(3, 4)
        if x is None:
            return
        spatial = g.shape(x)[2:]
        kernel = [g.one_of(*(k for k in (1, 2, 3) if k <= n)) for n in spatial]
        extra = {"strides": [g.one_of(1, 2) for _ in spatial]}
        padded = g.one_of("no", "no", "some", "SAME_UPPER", "SAME_LOWER", "VALID")
        if padded == "some":
            extra["pads"] = [g.one_of(*range(k)) for k in kernel * 2]
        elif padded != "no":
            extra["auto_pad"] = padded
        if op == "AveragePool":
            extra["count_include_pad"] = g.one_of(0, 1)
        if op != "LpPool" or g.m.opset >= 18:
            extra["ceil_mode"] = g.one_of(0, 0, 1)
        if op == "MaxPool" or g.m.opset >= 22:
            extra["dilations"] = [
                g.one_of(*(d for d in (1, 1, 2) if (k - 1) * d < n)) for k, n in zip(kernel, spatial, strict=True)
            ]
        g.add(g.m.op(op, x, kernel_shape=kernel, **extra))

    return step


def global_pool(op: str) -> Callable[[Growing], None]:
    def step(g: Growing) -> None:
        x = g.pick(3, 4, 5)
        if x is not None:
            g.add(g.m.op(op, x))

    return step


def reduction(op: str, since: int = 18) -> Callable[[Growing], None]:
    """`since`: the operator set in which the axes became an input."""

    def step(g: Growing) -> None:
        x = g.pick(2, 3, 4)
        if x is None:
            return
        rank = len(g.shape(x))
        axes = g.draw(st.lists(st.integers(0, rank - 1), max_size=2, unique=True))
        axes = [axis - g.one_of(0, rank) for axis in axes]
        extra = {"keepdims": g.one_of(0, 1)}
        if g.m.opset < since:
            g.add(g.m.op(op, x, **({"axes": axes} if axes else {}), **extra))
            return
        extra["noop_with_empty_axes"] = g.one_of(0, 1) if op in {"ReduceMean", "ReduceSum"} else 0
        g.add(g.m.op(op, x, *([g.index(axes)] if axes or g.one_of(True, False) else []), **extra))

    return step


def cumulative_sum(g: Growing) -> None:
    x = g.pick(2, 3, 4)
    if x is not None:
        rank = len(g.shape(x))
        axis = g.m.constant(np.array(g.draw(st.integers(-rank, rank - 1))))
        g.add(g.m.op("CumSum", x, axis, exclusive=g.one_of(0, 1), reverse=g.one_of(0, 1)))


STEPS: dict[str, Callable[[Growing], None]] = {
    **{op: pool(op) for op in ("AveragePool", "MaxPool", "LpPool")},
    **{op: global_pool(op) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    **{op: reduction(op) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2")},
    "ReduceSum": reduction("ReduceSum", since=13),
    "CumSum": cumulative_sum,
}
