"""The arithmetic of QuantizeLinear and DequantizeLinear: integers that stand for values by a scale and a zero point."""

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
    """``value = (integer - zero_point) * scale`` for values of `shape`: what an operator says of its scale's shape.

    `scale` and `zero_point` are one number per tensor, a vector along `axis`, or, where `block` is not 0, of the
    values' shape with one entry for every `block` elements along `axis` (operator DequantizeLinear, opset 21).
    """

    shape: tuple[int, ...]
    scale: Float64
    zero_point: Float64
    axis: int
    block: int

    @property
    def is_per_tensor(self) -> bool:
        """Whether one scale serves all elements."""
        return self.scale.size == 1 and not self.block

    def equals(self, other: Grid) -> bool:
        """Whether the same integers stand for the same values."""
        pairs = ((self.spread(self.scale), other.spread(other.scale)), (self.zeros, other.zeros))
        return all(np.array_equal(*pair) for pair in pairs)

    @property
    def zeros(self) -> Float64:
        """The zero point, laid out so that it broadcasts against the values."""
        return self.spread(self.zero_point)

    def spread(self, values: Float64) -> Float64:
        """An array of the scale's shape laid out so that it broadcasts against the values."""
        if self.block:
            every = np.repeat(values, self.block, self.axis)
            return every[(slice(None),) * self.axis + (slice(0, self.shape[self.axis]),)]
        shape = [1] * len(self.shape)
        if not self.is_per_tensor:
            shape[self.axis] = -1
        return values.reshape(shape)

    def factor(self) -> tuple[tuple[int, ...], Float64]:
        """The scale as a factor of the values: how to read them, and what broadcasts against that."""
        if not self.block or self.shape[self.axis] % self.block:
            return self.shape, self.spread(self.scale)
        blocks = self.shape[self.axis] // self.block, self.block
        return (*self.shape[: self.axis], *blocks, *self.shape[self.axis + 1 :]), np.expand_dims(
            self.scale, self.axis + 1
        )

    def dequantized(self, integers: Float64) -> Float64:
        """What the integers stand for."""
        return np.asarray((integers - self.zeros) * self.spread(self.scale))

    def quantized(self, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The integers of type `dtype` for values, which tell the type the division is rounded to.

        The quotient is rounded to the nearest integer, ties to even, and the sum saturated.
        """
        with np.errstate(all="ignore"):
            quotient = np.rint(values / self.spread(self.scale).astype(values.dtype)).astype(np.float64)
        return saturated(quotient + self.zeros, dtype)


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether it is an integer type, those of 4 and 2 bits included."""
    return dtype.name.lstrip("u").startswith("int")


def saturated(values: Float64, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers in an integer type, cut off at its ends; in another type the nearest ones."""
    if not is_integer(dtype):  # a floating-point type of 8 bits or less
        return values.astype(dtype)
    ends = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return np.asarray(np.clip(np.nan_to_num(values), ends.min, ends.max)).astype(dtype)


def stored(values: Float64, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Integers in their type.

    Raises:
        Refused: "quantized-sign" if one is outside it.
    """
    kept = saturated(values, dtype)
    fits = np.array_equal(kept.astype(np.float64), values)
    require(fits, "quantized-sign", f"an integer would leave {dtype} once its sign is turned")
    return kept
