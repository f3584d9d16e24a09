"""Rows of quantized weights, of constants that are quantized in the graph, and of quantized activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.models import SITE, Model
from tests.support.quantized import fake, grid, weight
from tests.support.rows.row import Kept, into, out, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.rows.row import Row

SHAPE = (6, 4, 3, 3)  # of a Conv's weight, for a value of the shape (2, 4, 5, 6)
BOTH = into("Conv", "DequantizeLinear", direction="backward")


def conv(m: Model, w: str, *bias: str, x: str = "", **attributes: Any) -> str:
    return m.op("Conv", x or start(m), w, *bias, **attributes)


def after(w: Callable[[Model], str], *bias: Callable[[Model], str], **attributes: Any) -> Callable[[Model], str]:
    """A normalization behind a Conv with this weight and bias."""
    return lambda m: out(m, m.bn(conv(m, w(m), *(b(m) for b in bias), **attributes)))


def scaled(w: Callable[[Model], str], scale: Any) -> Callable[[Model], str]:
    """A constant scale behind a Conv with this weight."""
    return lambda m: out(m, m.op("Mul", conv(m, w(m)), m.constant(np.asarray(scale, float)), name=SITE))


def all_of(low: int, high: int) -> np.ndarray:
    """Integers of a Conv's weight that reach both ends."""
    return np.linspace(low, high, 6 * 4 * 3 * 3).round().reshape(SHAPE)


def per_tensor(m: Model) -> str:
    return weight(m, SHAPE)


def bias(m: Model, scales: tuple[int, ...] = (6,), **attributes: Any) -> str:
    return weight(m, (6,), scales, np.int32, **({"axis": 0} if scales else {}), **attributes)


def gated(m: Model, b: Callable[[Model], str]) -> str:
    """A scale per channel, and nothing else, behind a Conv with a bias."""
    return out(m, m.per_channel("Mul", conv(m, weight(m, SHAPE, (6,), axis=0), b(m))))


def dead_channels(m: Model) -> str:
    w = weight(m, SHAPE, dtype=np.uint8, zero=100)
    return out(m, m.op("Mul", conv(m, w), m.constant(np.array([0, 1, -2, 0, 3, -1.0]).reshape(6, 1, 1)), name=SITE))


def shared_scale(m: Model) -> None:
    """Two weights on one grid: only one of them is folded."""
    x, parameters = start(m), grid(m, (), np.int8, 0)
    one, two = (m.constant(m.random.integers(-127, 128, SHAPE).astype(np.int8)) for _ in range(2))
    one, two = (m.op("DequantizeLinear", q, *parameters) for q in (one, two))
    m.op("Add", out(m, m.bn(conv(m, one, x=x))), out(m, conv(m, two, x=x)))


def shared(m: Model) -> None:
    """One dequantized weight for two convolutions."""
    x, w = start(m), per_tensor(m)
    m.op("Add", out(m, m.per_channel("Mul", conv(m, w, x=x))), out(m, conv(m, w, x=x)))


def transposed_weight(m: Model, *, product: str = "MatMul", **attributes: Any) -> str:
    w = m.op("Transpose", weight(m, (5, 4), **attributes), perm=[1, 0])
    return out(m, m.per_channel("Mul", m.op(product, start(m, 3, 4), w)))


def two_grids(m: Model, **attributes: Any) -> str:
    """Quantized on one grid, dequantized on another one."""
    q = m.op("QuantizeLinear", m.constant(SHAPE), *grid(m, (), np.int8, 0))
    return out(m, m.per_channel("Mul", conv(m, m.op("DequantizeLinear", q, *grid(m, (), np.int8, 0)))))


def two_zero_points(m: Model) -> str:
    scale = m.constant(np.array(0.02))
    zeros = [m.constant(np.array(z, np.int8)) for z in (0, 1)]
    q = m.op("QuantizeLinear", m.constant(SHAPE), scale, zeros[0])
    return out(m, m.per_channel("Mul", conv(m, m.op("DequantizeLinear", q, scale, zeros[1]))))


def laid_out_between(m: Model) -> str:
    """An operator between quantization and dequantization."""
    parameters = grid(m, (), np.int8, 0)
    q = m.op("Identity", m.op("QuantizeLinear", m.constant(SHAPE), *parameters))
    return out(m, m.per_channel("Mul", conv(m, m.op("DequantizeLinear", q, *parameters))))


def activation(m: Model, shape: tuple[int, ...] = (2, 4, 5, 6)) -> str:
    parameters = grid(m, (), np.uint8, 128)
    return m.op("DequantizeLinear", m.op("QuantizeLinear", start(m, *shape), *parameters), *parameters)


def quantized_graph(m: Model) -> str:
    """As exporters write it: every input of the Conv is dequantized, what follows the normalization is quantized."""
    y = m.bn(conv(m, weight(m, SHAPE, (6,), np.int8, 0, axis=0), bias(m, zero=0), x=activation(m)))
    parameters = grid(m, (), np.uint8, 128)
    return m.op("DequantizeLinear", m.op("QuantizeLinear", y, *parameters), *parameters)


def sum_with(m: Model, op: str, c: str, **attributes: Any) -> str:
    return out(m, m.bn(m.op(op, conv(m, m.constant(SHAPE)), c, **attributes)))


WEIGHTS: list[Row] = [
    ("quantized per tensor", after(per_tensor), BOTH),
    ("quantized per tensor by one in a vector", after(lambda m: weight(m, SHAPE, (1,), np.int8, 3)), BOTH),
    ("quantized per channel", after(lambda m: weight(m, SHAPE, (6,), np.int8, 0, axis=0)), BOTH),
    ("quantized per channel, axis from the end", after(lambda m: weight(m, SHAPE, (6,), np.int8, -20, axis=-4)), BOTH),
    ("quantized without a sign", after(lambda m: weight(m, SHAPE, (), np.uint8, 100)), BOTH),
    ("quantized, dead channels and positive ones", scaled(lambda m: weight(m, SHAPE, (6,), np.int8, 0, axis=0), np.array([0, 1.5, 0, 2, 0.5, 0]).reshape(6, 1, 1)), into("Conv", "DequantizeLinear")),
    ("quantized along another axis", scaled(lambda m: weight(m, SHAPE, (4,), axis=1), np.arange(1.0, 7).reshape(6, 1, 1)), Kept("quantized-axis", "barrier")),
    ("quantized along another axis, one factor", scaled(lambda m: weight(m, SHAPE, (4,), axis=1), 1.5), BOTH),
    ("quantized to all integers, positive", scaled(lambda m: weight(m, SHAPE, values=all_of(-128, 127)), 1.5), BOTH),
    ("quantized to all integers, negative", scaled(lambda m: weight(m, SHAPE, values=all_of(-128, 127)), -1.5), Kept("quantized-sign", "barrier")),
    ("quantized to all integers without a sign", scaled(lambda m: weight(m, SHAPE, (), np.uint8, 100, all_of(0, 201)), -1), Kept("quantized-sign", "barrier")),
    ("quantized to integers within reach", scaled(lambda m: weight(m, SHAPE, (), np.uint8, 100, all_of(0, 200)), -1), BOTH),
    ("quantized, dead channels", dead_channels, BOTH),
    ("quantized, all signs turned", scaled(per_tensor, [[[-1.0]]]), BOTH),
    ("quantized, shared scale", shared_scale, BOTH),
    ("quantized, shared", shared, Kept("other-consumer", "barrier")),
    ("quantized depthwise", lambda m: out(m, m.bn(conv(m, weight(m, (8, 1, 3, 3)), group=4))), BOTH),
    ("quantized transposed conv", lambda m: out(m, m.bn(m.op("ConvTranspose", start(m), weight(m, (4, 6, 3, 3))))), into("ConvTranspose", "DequantizeLinear")),
    ("quantized grouped transposed conv", lambda m: out(m, m.per_channel("Mul", m.op("ConvTranspose", start(m), weight(m, (4, 3, 3, 3)), group=2))), Kept("quantized-axis", "barrier")),
    ("quantized gemm", lambda m: out(m, m.bn(m.op("Gemm", start(m, 3, 4), weight(m, (4, 5)), m.constant((5,))))), into("Gemm", "DequantizeLinear")),
    ("quantized gemm, turned", lambda m: out(m, m.bn(m.op("Gemm", start(m, 3, 4), weight(m, (5, 4)), transB=1))), into("Gemm", "DequantizeLinear")),
    ("quantized gemm, constant first", lambda m: out(m, m.per_channel("Mul", m.op("Gemm", weight(m, (5, 4)), start(m, 4, 4)), axis=0)), into("Gemm", "DequantizeLinear")),
    ("quantized gemm, constant first and turned", lambda m: out(m, m.per_channel("Mul", m.op("Gemm", weight(m, (4, 5)), start(m, 4, 4), transA=1), axis=0)), into("Gemm", "DequantizeLinear")),
    ("quantized matmul", lambda m: out(m, m.bn(m.op("MatMul", start(m, 3, 4), weight(m, (4, 5))))), into("MatMul", "DequantizeLinear", status="split")),
    ("quantized matmul, constant first", lambda m: out(m, m.per_channel("Mul", m.op("MatMul", weight(m, (5, 3)), start(m, 2, 3, 4)))), into("MatMul", "DequantizeLinear")),
    ("quantized and transposed", transposed_weight, into("MatMul", "DequantizeLinear")),
    ("quantized and transposed, per channel", lambda m: transposed_weight(m, product="Gemm", scales=(5,), axis=0), into("Gemm", "DequantizeLinear")),
    ("quantized and reshaped", after(lambda m: m.op("Reshape", weight(m, (6, 36)), m.constant(np.array(SHAPE)))), BOTH),
    ("quantized and cast", after(lambda m: m.op("Cast", per_tensor(m), to=11)), BOTH),
]  # fmt: skip

BEFORE: list[Row] = [
    ("scale before quantized conv", lambda m: out(m, conv(m, per_tensor(m), x=m.per_channel("Mul", start(m)))), Kept("barrier", "quantized-axis")),
    ("signs before quantized conv", lambda m: out(m, conv(m, per_tensor(m), x=m.op("Mul", start(m), m.constant(np.array([1, -1, 0, -1.0]).reshape(4, 1, 1)), name=SITE))), into("Conv", "DequantizeLinear")),
    ("scale before conv quantized per input", lambda m: out(m, conv(m, weight(m, SHAPE, (4,)), x=m.per_channel("Mul", start(m)))), into("Conv", "DequantizeLinear")),
    ("scale before conv quantized per output", lambda m: out(m, conv(m, weight(m, SHAPE, (6,), axis=0), x=m.per_channel("Mul", start(m)))), Kept("barrier", "quantized-axis")),
    ("one scale before quantized conv", lambda m: out(m, conv(m, per_tensor(m), x=m.op("Mul", start(m), m.constant(np.array(-0.4)), name=SITE))), into("Conv", "DequantizeLinear")),
    ("shift before quantized conv", lambda m: out(m, conv(m, weight(m, SHAPE, (), np.uint8, 77), x=m.per_channel("Add", start(m)))), into("Conv")),
    ("before quantized depthwise conv", lambda m: out(m, conv(m, weight(m, (8, 1, 3, 3)), x=m.bn(start(m)), group=4)), into("Conv", "DequantizeLinear")),
    ("before quantized gemm", lambda m: out(m, m.op("Gemm", m.per_channel("Mul", start(m, 3, 4)), weight(m, (4, 5)))), Kept("barrier", "quantized-axis")),
    ("before quantized matmul", lambda m: out(m, m.op("MatMul", m.per_channel("Mul", start(m, 3, 4)), weight(m, (4, 5)))), Kept("barrier", "quantized-axis")),
    ("before quantized transposed conv", lambda m: out(m, m.op("ConvTranspose", m.per_channel("Mul", start(m)), weight(m, (4, 6, 3, 3)))), Kept("barrier", "quantized-axis")),
]  # fmt: skip

BIASES: list[Row] = [
    ("quantized bias, shifted", after(per_tensor, bias), into("Conv", "DequantizeLinear", left=4)),
    ("quantized bias, scaled", lambda m: gated(m, bias), into("Conv", "DequantizeLinear", "DequantizeLinear", left=5)),
    ("quantized bias of one scale", lambda m: gated(m, lambda m: bias(m, ())), into("Conv", "DequantizeLinear", "DequantizeLinear")),
    ("quantized bias at its lower end", lambda m: out(m, m.op("Mul", conv(m, per_tensor(m), bias(m, values=np.array([-(2**31), 1, 2, 3, 4, 5]))), m.constant(np.array(-0.5)), name=SITE)), Kept("quantized-sign", "barrier")),
    ("quantized C", lambda m: out(m, m.per_channel("Mul", m.op("Gemm", start(m, 3, 4), m.constant((4, 5)), weight(m, (5,), dtype=np.int32)))), into("Gemm", "DequantizeLinear")),
    ("quantized C, a scalar", lambda m: out(m, m.op("Mul", m.op("Gemm", start(m, 3, 4), m.constant((4, 5)), weight(m, (), dtype=np.int32)), m.constant(np.array(-2.0)), name=SITE)), into("Gemm")),
    ("quantized C of higher rank", lambda m: out(m, m.per_channel("Mul", m.op("Gemm", start(m, 3, 4), m.constant((4, 5)), weight(m, (3, 5), dtype=np.int32)))), into("Gemm", "DequantizeLinear")),
    ("quantized C, broadcast", lambda m: out(m, m.per_channel("Mul", m.op("Gemm", start(m, 5, 4), m.constant((4, 5)), weight(m, (5, 1), dtype=np.int32)))), into("Gemm", left=3)),
    ("quantized constant in a sum", lambda m: sum_with(m, "Sum", weight(m, (2, 6, 3, 4))), into("Conv", "DequantizeLinear")),
    ("quantized constant in a join", lambda m: sum_with(m, "Concat", weight(m, (2, 3, 3, 4)), axis=1), into("Conv", "Concat")),
    ("quantized operand", lambda m: out(m, m.op("Mul", conv(m, m.constant(SHAPE)), weight(m, (6, 1, 1)), name=SITE)), into("Conv")),
]  # fmt: skip

FAKE: list[Row] = [
    ("fake-quantized per tensor", after(lambda m: fake(m, SHAPE)), into("Conv", "QuantizeLinear", "DequantizeLinear")),
    ("fake-quantized per channel", after(lambda m: fake(m, SHAPE, (6,), axis=0)), into("Conv", "QuantizeLinear", "DequantizeLinear")),
    ("fake-quantized without a sign", after(lambda m: fake(m, SHAPE, (), np.uint8, 100)), into("Conv", "QuantizeLinear", "DequantizeLinear")),
    ("fake-quantized and transposed", lambda m: out(m, m.per_channel("Mul", m.op("MatMul", start(m, 3, 4), m.op("Transpose", fake(m, (5, 4)))))), into("MatMul", "QuantizeLinear", "DequantizeLinear")),
    ("fake-quantized on two grids", two_grids, Kept("quantized", "barrier")),
    ("fake-quantized around two zero points", two_zero_points, Kept("quantized", "barrier")),
    ("fake-quantized with something between", laid_out_between, Kept("quantized", "barrier")),
]  # fmt: skip

ACTIVATIONS: list[Row] = [
    ("dequantized activation", lambda m: out(m, m.bn(activation(m))), Kept("quantized", "barrier")),
    ("quantized activation", lambda m: m.op("DequantizeLinear", m.op("QuantizeLinear", m.bn(start(m)), *grid(m, (), np.int8, 0)), *grid(m, (), np.int8, 0)), Kept("barrier", "quantized")),
    ("quantized graph", quantized_graph, BOTH),
]  # fmt: skip

ROWS = WEIGHTS + BEFORE + BIASES + FAKE + ACTIVATIONS
