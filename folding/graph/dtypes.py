"""The element types of constants: what NumPy calls them, and which holds every value of another one."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import helper

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT_TYPES = frozenset({np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)})


def dtype_of(code: int) -> np.dtype[Any] | None:
    """The NumPy dtype of an ONNX element type, None if there is none."""
    try:
        return helper.tensor_dtype_to_np_dtype(code) if code else None
    except KeyError:
        return None


def contains(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether the floating-point type `wide` holds every value of the floating-point type `narrow`."""
    larger = wide.itemsize > narrow.itemsize and wide.itemsize > BFLOAT16.itemsize
    return {wide, narrow} <= FLOAT_TYPES and (wide == narrow or larger)


def holds(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether the type `wide` holds every value of the type `narrow`: floating-point numbers, integers, booleans."""
    if {wide, narrow} <= FLOAT_TYPES:
        return contains(wide, narrow)
    if narrow.kind == "b" or wide == narrow:
        return wide in FLOAT_TYPES or wide.kind in "iub"
    if narrow.kind not in "iu" or not (wide.kind in "iu" or wide in FLOAT_TYPES):
        return False
    bounds = np.iinfo(narrow)
    if wide in FLOAT_TYPES:
        return bool(bounds.max < 2 ** (ml_dtypes.finfo(wide).nmant + 1))  # type: ignore[no-untyped-call]
    return bool(np.iinfo(wide).min <= bounds.min and bounds.max <= np.iinfo(wide).max)
