"""NumPy references for QuantizeLinear and DequantizeLinear, from their specification."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

if TYPE_CHECKING:
    from tests.support.references.operators import Array


def _each(a: dict[str, Any], shape: tuple[int, ...], parameter: Array) -> Array:
    """The scale or zero point of every single element."""
    if parameter.size == 1:
        return np.full(shape, parameter.reshape(-1)[0], parameter.dtype)
    axis = a["axis"] if len(shape) > 1 else 0
    axis += len(shape) if axis < 0 else 0
    result = np.empty(shape, parameter.dtype)
    for place in itertools.product(*map(range, shape)):
        block = a.get("block_size", 0)
        entry = (*place[:axis], place[axis] // block, *place[axis + 1 :]) if block else place[axis]
        result[place] = parameter[entry]
    return result


def _dequantize(_: int, a: dict[str, Any], x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    zero = 0.0 if zero_point is None else _each(a, x.shape, zero_point).astype(np.float64)
    return (x.astype(np.float64) - zero) * _each(a, x.shape, scale)


def _quantize(_: int, a: dict[str, Any], x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    given = helper.tensor_dtype_to_np_dtype(a.get("output_dtype") or 2)
    dtype = given if zero_point is None else zero_point.dtype
    zero = 0.0 if zero_point is None else _each(a, x.shape, zero_point).astype(np.float64)
    ends = np.iinfo(dtype)
    return np.clip(np.rint(x / _each(a, x.shape, scale)) + zero, ends.min, ends.max).astype(dtype)


OPERATORS: dict[str, Any] = {"DequantizeLinear": _dequantize, "QuantizeLinear": _quantize}
