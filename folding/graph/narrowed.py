"""A constant in a 16-bit type: its exact values are rounded once, while it is written."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.algebra.factors import BLOCK_ELEMENTS
from folding.graph.weights import UnrepresentableError, Weight, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
# The bits of float32 (sign, 8 of the exponent with bias 127, 23 of the fraction), of which float16 has no room for 13.
WITHOUT_SIGN, SIGN = np.uint32(0x7FFF_FFFF), np.uint32(0x8000)
LOST = np.uint32(13)
REBIAS = np.uint32((((15 - 127) << 23) + (1 << 12) - 1) % (1 << 32))  # 15: the bias of float16; 1 << 12: half of LOST
SMALLEST_NORMAL = np.float32(2.0**-14)  # of float16
ROUNDS_TO_INFINITY = np.float32(65520)  # the first number for which float16 has no finite one
HALF = np.float32(0.5)
THREADS = 2  # that look at a constant of at least so many blocks; NumPy and the kernel release the interpreter
MANY_BLOCKS = 8


class _Scratch(threading.local):
    """Memory for one block, per thread."""

    def __init__(self) -> None:
        self.words, self.others = np.empty(BLOCK_ELEMENTS, np.uint32), np.empty(BLOCK_ELEMENTS, np.uint32)
        self.halves = np.empty(BLOCK_ELEMENTS, np.uint16)


_scratch = _Scratch()


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
        """What rounding does to the values; reads all of them, a block at a time, large constants in two threads."""
        ranges = list(self._ranges())
        if len(ranges) < MANY_BLOCKS:
            return self._losses(ranges)
        with ThreadPoolExecutor(THREADS) as pool:
            return sum(pool.map(self._losses, (ranges[number::THREADS] for number in range(THREADS))), Loss())

    def _losses(self, ranges: list[tuple[int, int]]) -> Loss:
        return sum((self._loss(start, stop) for start, stop in ranges), Loss())

    def _hashed(self) -> bytes:
        return Weight._hashed(self) + repr(self.bound).encode()

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        return self.exact._stored(start, stop)

    def _exact(self, start: int, stop: int) -> NDArray[Any]:
        """The exact values of a flat range: as they are stored where no factor applies."""
        return self._product(start, stop) if self.factors else self.exact._stored(start, stop)

    def _loss(self, start: int, stop: int) -> Loss:
        values = self._exact(start, stop)
        kind = ml_dtypes.finfo(self.dtype)  # type: ignore[no-untyped-call]
        normal, limit = float(kind.smallest_normal), float(kind.max)
        if values.dtype == FLOAT32:
            bits = np.bitwise_and(values.view(np.uint32), WITHOUT_SIGN, out=_scratch.words[: values.size])
            small, sizes = np.flatnonzero(bits < np.float32(normal).view(np.uint32)), bits.view(np.float32)
        else:
            sizes = np.abs(values)
            small = np.flatnonzero(sizes < normal)
        largest = float(np.max(sizes, initial=0.0))
        if largest > limit or math.isnan(largest):
            return self._loss_beyond(sizes, normal, limit)
        few = sizes[small]
        few = few[few != 0]
        flushed = int((_rounded(few, self.dtype) == 0).sum())
        smallest = float(few.min()) if few.size else _least(sizes, normal)
        return Loss(0, int(few.size) - flushed, flushed, 0, largest, smallest)

    def _loss_beyond(self, sizes: NDArray[Any], normal: float, limit: float) -> Loss:
        """The same where some magnitudes are beyond the range, infinite or NaN."""
        finite = np.isfinite(sizes)
        counted = sizes[finite & (sizes != 0)]
        infinite = int(sizes.size - finite.sum())
        if not counted.size:
            return Loss(infinite=infinite)
        with np.errstate(all="ignore"):
            flushed = int((_rounded(counted[counted < normal], self.dtype) == 0).sum())
            clamped = int(np.isinf(_rounded(counted[counted > limit], self.dtype)).sum())
        subnormal = int((counted < normal).sum()) - flushed
        return Loss(clamped, subnormal, flushed, infinite, float(counted.max()), float(counted.min()))


def _least(sizes: NDArray[Any], normal: float) -> float:
    """The smallest magnitude of a block in which none but zeros is below `normal`; 0 if all are zeros."""
    least = float(np.min(sizes, initial=math.inf, where=sizes >= normal))
    return least if math.isfinite(least) else 0.0


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in a 16-bit type, rounded once, to nearest, ties to even."""
    if values.dtype == FLOAT32:
        return half(values) if dtype == FLOAT16 else values.astype(dtype)
    return rounded(values.astype(np.float64, copy=False), dtype)


def half(values: NDArray[np.float32]) -> NDArray[Any]:
    """Float32 values as float16, rounded to nearest, ties to even: what `astype` does, in less than half of the time.

    The next call in the same thread reuses the memory.

    The bits of a normal result are those of the float32 without 13 of its fraction, and with another bias of the
    exponent; adding half of what is lost, less one if the last bit that stays is even, rounds. For a subnormal result,
    adding one half in float32 lets the processor round at the right digit. (Giesen, "float->half variants", 2012.)
    """
    if not 0 < values.size <= BLOCK_ELEMENTS or not values.flags.c_contiguous:
        with np.errstate(over="ignore"):
            return values.astype(FLOAT16)
    given, size = values.view(np.uint32), values.size
    bits, other = _scratch.words[:size], _scratch.others[:size]
    np.bitwise_and(given, WITHOUT_SIGN, out=bits)
    if bits.max() >= ROUNDS_TO_INFINITY.view(np.uint32):  # infinite, NaN, or beyond the range
        with np.errstate(over="ignore"):
            return values.astype(FLOAT16)
    small = np.flatnonzero(bits < SMALLEST_NORMAL.view(np.uint32))
    subnormal = (bits[small].view(np.float32) + HALF).view(np.uint32) - HALF.view(np.uint32)
    np.right_shift(bits, LOST, out=other)
    np.bitwise_and(other, np.uint32(1), out=other)
    np.add(bits, other, out=bits)
    np.add(bits, REBIAS, out=bits)
    np.right_shift(bits, LOST, out=bits)
    bits[small] = subnormal
    np.right_shift(given, np.uint32(16), out=other)
    np.bitwise_and(other, SIGN, out=other)
    np.bitwise_or(bits, other, out=bits)
    found = _scratch.halves[:size]
    found[...] = bits
    return found.view(FLOAT16)
