"""Random absorbers with quantized weights, and an affine before or behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from tests.support.quantized import fake, weight
from tests.support.strategies import graphs as strategies

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.strategies.graphs import Growing

INTEGERS = [(np.int8, None), (np.int8, 0), (np.int8, 5), (np.uint8, 120), (np.uint16, 30000)]
SMALL = [(ml_dtypes.int4, None), (ml_dtypes.uint4, 7)]  # in DequantizeLinear alone, as the reference has it
BLOCKED = 21  # the first opset with block_size


def _weight(g: Growing, make: Callable[..., str], shape: tuple[int, ...], biggest: int = 3) -> str:
    """Quantized per tensor, per channel or, where the opset has that, in blocks."""
    dtype, zero = g.one_of(*INTEGERS, *(SMALL if make is weight else ()))
    axis = g.one_of(*range(len(shape)))
    granularity = g.one_of("tensor", "channel", *(["blocks"] if g.m.opset >= BLOCKED else []))
    block = g.one_of(*range(1, biggest)) if granularity == "blocks" else 0
    counts = (*shape[:axis], -(-shape[axis] // max(block, 1)), *shape[axis + 1 :])
    scales = {"tensor": (), "channel": (shape[axis],), "blocks": counts}[granularity]
    attributes: dict[str, Any] = {} if granularity == "tensor" else {"axis": axis - g.one_of(0, len(shape))}
    attributes |= {"block_size": block} if block else {}
    return make(g.m, shape, scales, dtype, zero if make is weight else zero or 0, **attributes)


def _absorber(g: Growing, make: Callable[..., str]) -> None:
    x = g.pick(2, 3, 4)
    if x is None:
        return
    shape, n = g.shape(x), g.one_of(2, 3, 4)
    if len(shape) == 2 and g.one_of(True, False):
        turned = g.one_of(0, 1)
        w = _weight(g, make, (n, shape[1]) if turned else (shape[1], n))
        c = [weight(g.m, (n,), g.one_of((), (n,)), np.int32, axis=0)] if g.one_of(True, False) else []
        g.add(g.m.op("Gemm", x, w, *c, transB=turned))
    elif len(shape) == 2 or g.one_of(True, False):
        w = _weight(g, make, (shape[-1], n))
        g.add(g.m.op("MatMul", x, g.m.op("Transpose", w) if shape[-1] == n and g.one_of(True, False) else w))
    else:
        group = g.one_of(*(k for k in (1, shape[1]) if shape[1] % k == 0))
        w = _weight(g, make, (group * n, shape[1] // group, *(1,) * (len(shape) - 2)))
        bias = [weight(g.m, (group * n,), (), np.int32)] if g.one_of(True, False) else []
        g.add(g.m.op("Conv", x, w, *bias, group=group))


def _affine(g: Growing) -> None:
    g.one_of(strategies.batch_normalization, strategies.elementwise, strategies.unary("Neg"))(g)


def step(make: Callable[..., str]) -> Callable[[Growing], None]:
    def drawn(g: Growing) -> None:
        parts = [lambda: _absorber(g, make), lambda: _affine(g)]
        for part in parts if g.one_of(True, True, False) else parts[::-1]:
            part()

    return drawn


STEPS = {"DequantizeLinear": step(weight), "QuantizeLinear": step(fake)}
