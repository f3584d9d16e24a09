"""The arithmetic of QuantizeLinear and DequantizeLinear: integers that represent values by a scale and a zero point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.refusal import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from folding.algebra.affine import Float64

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True, eq=False)
class Grid:
    """``value = (integer - zero_point) * scale`` for values of `shape`.

    `scale` and `zero_point` are one number per tensor or a vector along `axis`. Where `block` is not 0, they have
    the values' shape with one entry for every `block` elements along `axis` (operator DequantizeLinear, opset 21).
    """

    shape: tuple[int, ...]
    scale: Float64
    zero_point: Float64
    axis: int
    block: int

    @property
    def is_per_tensor(self) -> bool:
        """Whether all elements share one scale."""
        return self.scale.size == 1 and not self.block

    def equals(self, other: Grid) -> bool:
        """Whether equal integers represent equal values on both grids."""
        pairs = ((self.spread(self.scale), other.spread(other.scale)), (self.zeros, other.zeros))
        return all(np.array_equal(*pair) for pair in pairs)

    @property
    def zeros(self) -> Float64:
        """The zero point, in a shape that broadcasts against the values."""
        return self.spread(self.zero_point)

    def spread(self, values: Float64) -> Float64:
        """An array of the scale's shape, in a shape that broadcasts against the values."""
        if self.block:
            every = np.repeat(values, self.block, self.axis)
            return every[(slice(None),) * self.axis + (slice(0, self.shape[self.axis]),)]
        shape = [1] * len(self.shape)
        if not self.is_per_tensor:
            shape[self.axis] = -1
        return values.reshape(shape)

    def factor(self) -> tuple[tuple[int, ...], Float64]:
        """The scale as a factor: the shape to read the values as, and the scales that broadcast against that shape."""
        if not self.block or self.shape[self.axis] % self.block:
            return self.shape, self.spread(self.scale)
        blocks = self.shape[self.axis] // self.block, self.block
        return (*self.shape[: self.axis], *blocks, *self.shape[self.axis + 1 :]), np.expand_dims(
            self.scale, self.axis + 1
        )

    def dequantized(self, integers: Float64) -> Float64:
        """The values that the integers represent."""
        return np.asarray((integers - self.zeros) * self.spread(self.scale))

    def quantized(self, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The integers of type `dtype` for values; the division is rounded to the dtype of `values`.

        The quotient is rounded to the nearest integer, ties to even; the sum with the zero point is saturated.
        """
        with np.errstate(all="ignore"):
            quotient = np.rint(values / self.spread(self.scale).astype(values.dtype)).astype(np.float64)
        return saturated(quotient + self.zeros, dtype)


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is an integer type, including those of 4 and 2 bits."""
    return dtype.name.lstrip("u").startswith("int")


def saturated(values: Float64, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers in an integer type, clipped to its range; in another type the nearest values."""
    if not is_integer(dtype):  # a floating-point type of 8 bits or less
        return values.astype(dtype)
    ends = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return np.asarray(np.clip(np.nan_to_num(values), ends.min, ends.max)).astype(dtype)


def stored(values: Float64, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Integers in the type that stores them.

    Raises:
        Refused: "quantized-sign" if one is outside the type's range.
    """
    kept = saturated(values, dtype)
    fits = np.array_equal(kept.astype(np.float64), values)
    require(fits, "quantized-sign", f"an integer would leave {dtype} once its sign is turned")
    return kept
