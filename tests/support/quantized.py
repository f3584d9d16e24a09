"""Quantized constants in a few words, for the rows, the strategies and the tests of quantized weights.

Scales have the type of the model, so float64 in most: ONNX has none, but it distinguishes a wrong fold from rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from tests.support.models import Array, Model


def integers(m: Model, shape: tuple[int, ...], dtype: Any = np.int8, zero: int = 0) -> Array:
    """Random integers around the zero point, all of which have a counterpart of the other sign."""
    ends = ml_dtypes.iinfo(dtype)
    reach = min(int(ends.max) - zero, zero - int(ends.min), 1000)
    return m.random.integers(zero - reach, zero + reach + 1, shape).astype(dtype)


def grid(m: Model, scales: tuple[int, ...], dtype: Any = np.int8, zero: int | None = None) -> list[str]:
    """A scale of this shape, and a zero point unless that is None: inputs 1 and 2."""
    scale = m.constant(m.random.uniform(0.01, 0.03, scales))
    return [scale] if zero is None else [scale, m.constant(np.full(scales, zero).astype(dtype))]


def weight(
    m: Model,
    shape: tuple[int, ...],
    scales: tuple[int, ...] = (),
    dtype: Any = np.int8,
    zero: int | None = None,
    values: Array | None = None,
    **attributes: Any,
) -> str:
    """DequantizeLinear of constant integers, random ones unless `values` are given."""
    q = integers(m, shape, dtype, zero or 0) if values is None else values.astype(dtype)
    return m.op("DequantizeLinear", m.constant(q), *grid(m, scales, dtype, zero), **attributes)


def fake(
    m: Model,
    shape: tuple[int, ...],
    scales: tuple[int, ...] = (),
    dtype: Any = np.int8,
    zero: int = 0,
    **attributes: Any,
) -> str:
    """A float constant that is quantized and dequantized."""
    parameters = grid(m, scales, dtype, zero)
    reach = min(np.iinfo(dtype).max - zero, zero - np.iinfo(dtype).min) * 0.01
    made = m.op("QuantizeLinear", m.constant(m.random.uniform(-reach, reach, shape)), *parameters, **attributes)
    return m.op("DequantizeLinear", made, *parameters, **attributes)
