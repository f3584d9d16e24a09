"""A constant in a 16-bit type: its exact values are rounded once, while it is written."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.algebra.factors import BLOCK_ELEMENTS
from folding.graph.weights import UnrepresentableError, Weight, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from folding.algebra.affine import Float64

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
# The bits of float32 (sign, 8 of the exponent with bias 127, 23 of the fraction), of which float16 has no room for 13.
WITHOUT_SIGN, SIGN = np.uint32(0x7FFF_FFFF), np.uint16(0x8000)
LOST, LOST_BITS, HALFWAY = np.uint32(13), np.uint32((1 << 13) - 1), np.uint32(1 << 12)
REBIAS = np.uint32((((15 - 127) << 23) + (1 << 12)) % (1 << 32))  # 15: the bias of float16; 1 << 12: to round
ROUNDING = 1.5 * 2.0**28  # numbers of this size are 2**-24 apart in float64
SMALLEST_NORMAL = np.float32(2.0**-14)  # of float16
ROUNDS_TO_INFINITY = np.float32(65520)  # the first number for which float16 has no finite one
FEW = 1024  # elements, for which many short steps take longer than NumPy's own way
THREADS = 2  # that look at a constant of at least so many blocks; NumPy and the kernel release the interpreter
MANY_BLOCKS = 8


class _Scratch(threading.local):
    """Memory for one block, per thread."""

    def __init__(self) -> None:
        self.words, self.others = np.empty(BLOCK_ELEMENTS, np.uint32), np.empty(BLOCK_ELEMENTS, np.uint32)
        self.near = np.empty(BLOCK_ELEMENTS, np.float32)
        self.halves, self.signs = np.empty(BLOCK_ELEMENTS, np.uint16), np.empty(BLOCK_ELEMENTS, np.uint16)
        self.exactly, self.small = np.empty(BLOCK_ELEMENTS, np.bool_), np.empty(BLOCK_ELEMENTS, np.bool_)


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


LOSS = Struct("<4q2d")  # the fields of Loss, as a weight remembers them


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
        quick = self.dtype == FLOAT16 and 0 < values.size <= BLOCK_ELEMENTS and self.bound >= _limits(FLOAT16)[1]
        if quick and (fast := half(values)) is not None:
            return fast.view(np.uint8).data
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

    def contract_error(self, view: Sequence[int], values: NDArray[np.float64], axes: tuple[int, ...]) -> Float64:
        """``sum((rounded - exact) * values, axes)``, as `Weight.contract`: what rounding adds to a product."""
        result = np.zeros([1 if axis in axes else length for axis, length in enumerate(view)])
        for place, block in self._slabs(view):
            error = rounded(block.ravel(), self.dtype).astype(np.float64).reshape(block.shape) - block
            source = tuple(part if n > 1 else slice(None) for part, n in zip(place, values.shape, strict=True))
            target = tuple(part if axis not in axes else slice(None) for axis, part in enumerate(place))
            result[target] += (error * values[source]).sum(axis=axes, keepdims=True)
        return np.asarray(result.squeeze(axis=axes))

    def loss(self) -> Loss:
        """What rounding does to the values; reads all once, a block at a time, large constants in two threads."""
        key = f"loss in {self.dtype.str}"
        if key not in self.exact._known:
            found = self._found_loss()
            counts = found.clamped, found.subnormal, found.flushed, found.infinite
            self.exact._known[key] = LOSS.pack(*counts, found.largest, found.smallest)
        return Loss(*LOSS.unpack(self.exact._known[key]))

    def _found_loss(self) -> Loss:
        ranges = list(self._ranges())
        if len(ranges) == 1:
            return self._loss(*ranges[0])
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
        normal, limit = _limits(self.dtype)
        bits = _magnitudes(_near(values))
        largest = float(bits.max(initial=np.uint32(0)).view(np.float32))
        if not largest <= limit:  # NaN has the largest bits
            return self._loss_beyond(np.abs(values), normal, limit)
        small = _scratch.small[: bits.size] if bits.size <= BLOCK_ELEMENTS else np.empty(bits.size, np.bool_)
        few = values[np.flatnonzero(np.less(bits, np.float32(normal).view(np.uint32), out=small))]
        if not few.size:
            return Loss(largest=largest, smallest=_least(bits.view(np.float32), normal))
        few = np.abs(few[few != 0], dtype=np.float64)
        stored = _subnormal(few) if self.dtype == FLOAT16 else rounded(few, self.dtype)
        flushed = int(few.size - np.count_nonzero(stored))
        smallest = float(few.min()) if few.size else _least(bits.view(np.float32), normal)
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


@cache
def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest normal and the largest number of a type."""
    kind = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(kind.smallest_normal), float(kind.max)


def _near(values: NDArray[Any]) -> NDArray[np.float32]:
    """The values in float32, in memory of this thread unless they are float32."""
    if values.dtype == FLOAT32:
        return values
    if values.size > BLOCK_ELEMENTS:
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    near = _scratch.near[: values.size]
    with np.errstate(over="ignore"):
        np.copyto(near, values, casting="same_kind")
    return near


def _magnitudes(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The bits of float32 values without the sign, which have their order, in memory of this thread."""
    size = values.size
    out = _scratch.words[:size] if size <= BLOCK_ELEMENTS else np.empty(size, np.uint32)
    return np.bitwise_and(values.view(np.uint32), WITHOUT_SIGN, out=out)


def _least(sizes: NDArray[Any], normal: float) -> float:
    """The smallest magnitude of a block in which none but zeros is below `normal`; 0 if all are zeros."""
    least = float(sizes.min(initial=math.inf))
    if not least:
        least = float(np.min(sizes, initial=math.inf, where=sizes >= normal))
    return least if math.isfinite(least) else 0.0


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in a 16-bit type, rounded once, to nearest, ties to even."""
    if values.dtype == FLOAT32:
        return values.astype(dtype)
    return rounded(values.astype(np.float64, copy=False), dtype)


def half(values: NDArray[Any]) -> NDArray[Any] | None:
    """Float32 or float64 values as float16, rounded once, to nearest, ties to even; None if any is beyond its range.

    The same as `astype`, in a quarter of the time. Infinite values and NaN are beyond the range. The next call in the
    same thread reuses the memory.

    The bits of a normal result are those of the float32 without 13 of its fraction, and with another bias of the
    exponent; adding half of what is lost rounds (Giesen, "float->half variants", 2012). Float64 values become float32
    first. The second rounding can err only where that is halfway between two results; these few, and those with a
    subnormal result, are rounded from the exact values.
    """
    size = values.size
    if size < FEW:
        with np.errstate(over="ignore"):
            few = values.astype(FLOAT16)
        return few if np.isfinite(few).all() else None
    other, found, sign = _scratch.others[:size], _scratch.halves[:size], _scratch.signs[:size]
    near = _near(values)
    bits = _magnitudes(near)
    if bits.max() >= ROUNDS_TO_INFINITY.view(np.uint32):
        return None
    exactly, small = _scratch.exactly[:size], _scratch.small[:size]
    np.bitwise_and(bits, LOST_BITS, out=other)
    np.equal(other, HALFWAY, out=exactly)
    np.less(bits, SMALLEST_NORMAL.view(np.uint32), out=small)
    np.bitwise_or(exactly, small, out=exactly)
    places = np.flatnonzero(exactly)
    sizes = np.abs(values[places], dtype=np.float64)
    below = sizes < SMALLEST_NORMAL
    np.add(bits, REBIAS, out=bits)
    np.right_shift(bits, LOST, out=bits)
    bits[places[below]] = _subnormal(sizes[below])
    bits[places[~below]] = sizes[~below].astype(FLOAT16).view(np.uint16)
    np.right_shift(near.view(np.uint32), np.uint32(16), out=other)
    np.copyto(sign, other, casting="unsafe")
    np.bitwise_and(sign, SIGN, out=sign)
    np.copyto(found, bits, casting="unsafe")
    np.bitwise_or(found, sign, out=found)
    return found.view(FLOAT16)


def _subnormal(sizes: NDArray[np.float64]) -> NDArray[np.uint32]:
    """The bits of magnitudes of at most the smallest normal float16: whole numbers of its smallest number, 2**-24.

    A float64 of the size of ROUNDING has no digits below that, so an addition rounds, once and ties to even.
    """
    return (((sizes + ROUNDING) - ROUNDING) * 2.0**24).astype(np.uint32)
