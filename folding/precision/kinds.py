"""The 16-bit floating-point types, with the numbers that decide whether a value fits one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

Precision = Literal["fp16", "bf16", "mixed"]

FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Kind:
    """A 16-bit type: its NumPy dtype, its name in ONNX, its extreme finite magnitudes, and its bits of precision."""

    dtype: np.dtype[Any]
    name: str
    largest: float
    normal: float  # the smallest that is not subnormal
    digits: int  # bits of the significand

    @property
    def tensor(self) -> str:
        """The type as schemas write it."""
        return f"tensor({self.name})"

    def nearest(self, value: float) -> float:
        """The number that stores a value; infinite beyond the range."""
        with np.errstate(all="ignore"):
            return float(np.array(value, np.float64).astype(self.dtype))


def _kind(dtype: np.dtype[Any]) -> Kind:
    limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return Kind(dtype, dtype.name, float(limits.max), float(limits.smallest_normal), int(limits.nmant) + 1)


FLOAT16, BFLOAT16 = _kind(np.dtype(np.float16)), _kind(np.dtype(ml_dtypes.bfloat16))
KINDS: Mapping[Precision, Kind] = {"fp16": FLOAT16, "mixed": FLOAT16, "bf16": BFLOAT16}
