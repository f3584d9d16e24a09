"""A constant in a 16-bit type: its exact values are rounded once, while it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.graph.weights import UnrepresentableError, Weight, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
# The bits of float32: the exponent of 1, the bits of the fraction, and those that float16 has no room for.
SIGN, BIAS, FRACTION, LOST = 0x8000_0000, 127, 23, 13
HALF_BIAS = 15  # of float16
SMALLEST_NORMAL = 2.0**-14  # of float16
ROUNDS_TO_INFINITY = 65520.0  # the first float32 for which float16 has no finite number


@dataclass(frozen=True)
class Loss:
    """What rounding to a 16-bit type does to the elements of a constant.

    `clamped`: finite ones beyond the type's range; `subnormal`: ones that keep fewer digits; `flushed`: ones that
    become zero. `largest` and `smallest` are the magnitudes of the exact finite elements that are not zero, 0 if there
    are none; `infinite` counts those that are infinite or NaN.
    """

    clamped: int = 0
    subnormal: int = 0
    flushed: int = 0
    infinite: int = 0
    largest: float = 0.0
    smallest: float = 0.0

    def __add__(self, other: Loss) -> Loss:
        """The loss of both together."""
        smallest = [one for one in (self.smallest, other.smallest) if one]
        return Loss(
            self.clamped + other.clamped,
            self.subnormal + other.subnormal,
            self.flushed + other.flushed,
            self.infinite + other.infinite,
            max(self.largest, other.largest),
            min(smallest, default=0.0),
        )


@dataclass(frozen=True, eq=False, slots=True)
class Narrowed(Weight):
    """A weight as a narrower type stores it: ``round(values * factors)``, rounded once.

    Infinite values stay infinite. A finite value beyond the range of the type becomes ``±bound``; without a bound the
    weight is unrepresentable ("overflow").
    """

    exact: Weight = field(kw_only=True)
    bound: float = field(default=math.inf, kw_only=True)

    @staticmethod
    def of_weight(exact: Weight, dtype: np.dtype[Any], bound: float = math.inf) -> Narrowed:
        """The weight in another type."""
        return Narrowed(dtype, exact.shape, exact.base, exact.factors, exact.site, exact.onto, exact=exact, bound=bound)

    def evaluate(self, start: int, stop: int) -> memoryview:
        """The bytes of a block, as `Weight.evaluate`.

        Raises:
            UnrepresentableError: a finite value is beyond the range of the type, and there is no bound.
        """
        item = self.dtype.itemsize
        values = self._exact(start // item, stop // item)
        with np.errstate(all="ignore"):
            if math.isfinite(self.bound):
                values = np.where(np.isinf(values), values, np.clip(values, -self.bound, self.bound))
            found = _rounded(values, self.dtype)
            if not np.isfinite(found).all() and np.isfinite(values[~np.isfinite(found)]).any():
                raise UnrepresentableError(self, "overflow")
        return found.view(np.uint8).data

    def straws(self) -> Iterator[tuple[str, UnrepresentableError]]:
        """None: whether the values fit was settled before the type was."""
        return iter(())

    def loss(self) -> Loss:
        """What rounding does to the values; reads all of them, a block at a time."""
        return sum((self._loss(start, stop) for start, stop in self._ranges()), Loss())

    def _hashed(self) -> bytes:
        return Weight._hashed(self) + repr(self.bound).encode()

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        return self.exact._stored(start, stop)

    def _exact(self, start: int, stop: int) -> NDArray[Any]:
        """The exact values of a flat range: as they are stored where no factor applies."""
        return self._product(start, stop) if self.factors else self.exact._stored(start, stop)

    def _loss(self, start: int, stop: int) -> Loss:
        sizes = np.abs(self._exact(start, stop))
        largest, smallest = float(np.max(sizes, initial=0.0)), float(np.min(sizes, initial=math.inf))
        kind = ml_dtypes.finfo(self.dtype)  # type: ignore[no-untyped-call]
        normal, limit = float(kind.smallest_normal), float(kind.max)
        if normal <= smallest and largest <= limit:
            return Loss(largest=largest, smallest=smallest)
        finite = np.isfinite(sizes)
        counted = sizes[finite & (sizes != 0)]
        if not counted.size:
            return Loss(infinite=int(sizes.size - finite.sum()))
        with np.errstate(all="ignore"):
            flushed = int((_rounded(counted[counted < normal], self.dtype) == 0).sum())
            clamped = int(np.isinf(_rounded(counted[counted > limit], self.dtype)).sum())
        return Loss(
            clamped,
            int((counted < normal).sum()) - flushed,
            flushed,
            int(sizes.size - finite.sum()),
            float(counted.max()),
            float(counted.min()),
        )


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in a 16-bit type, rounded once, to nearest, ties to even."""
    if values.dtype == FLOAT32:
        return half(values) if dtype == FLOAT16 else values.astype(dtype)
    return rounded(values.astype(np.float64, copy=False), dtype)


def half(values: NDArray[np.float32]) -> NDArray[Any]:
    """Float32 values as float16, rounded to nearest, ties to even: what `astype` does, in a quarter of the time.

    The bits of a normal result are those of the float32 without 13 of its fraction, and with another bias of the
    exponent; adding half of what is lost, less one if the last bit that stays is even, rounds. For a subnormal result,
    adding one half in float32 lets the processor round at the right digit. (Giesen, "float->half variants", 2012.)
    """
    if not values.size:
        return values.astype(FLOAT16)
    sizes = np.abs(values)
    if not float(sizes.max()) < ROUNDS_TO_INFINITY:  # infinite, NaN, or beyond the range
        with np.errstate(over="ignore"):
            return values.astype(FLOAT16)
    bits = sizes.view(np.uint32)
    signs = values.view(np.uint32) >> np.uint32(16) & np.uint32(SIGN >> 16)
    rebias = ((HALF_BIAS - BIAS) << FRACTION) + (1 << (LOST - 1)) - 1
    found = bits + np.uint32(rebias % (1 << 32))
    found += bits >> np.uint32(LOST) & np.uint32(1)
    found >>= np.uint32(LOST)
    small = sizes < np.float32(SMALLEST_NORMAL)
    if small.any():
        shifted = sizes[small] + np.float32(0.5)
        found[small] = shifted.view(np.uint32) - np.float32(0.5).view(np.uint32)
    found |= signs
    return found.astype(np.uint16).view(FLOAT16)
