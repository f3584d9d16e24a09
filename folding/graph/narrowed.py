"""A constant in a 16-bit type: its exact values are rounded once, while it is written."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from functools import cache
from struct import Struct
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.algebra.factors import BLOCK_ELEMENTS
from folding.graph.halves import FEW, FLOAT16, FLOAT32, INFINITE, Block, memory
from folding.graph.weights import UnrepresentableError, Weight, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from folding.algebra.affine import Float64

SIGN = 0x8000
NEARLY_NORMAL = np.float32(1.0001 * 2.0**-14)  # above the smallest normal float16, by more than float32 may be off
TWO = 2  # axes: a factor for each row
THREADS = 2  # that look at a constant of at least so many blocks; NumPy and the kernel release the interpreter
MANY_BLOCKS = 8
GUESSED_FROM = 1 << 15  # elements in a row, at least: enough to distinguish weights from a mask
MAGNITUDE, FIRST_NORMAL = 0x7FFF, 0x0400  # of the bits of float16


class _Scratch(threading.local):
    """Memory for one block, per thread."""

    def __init__(self) -> None:
        self.sizes, self.small = np.empty(BLOCK_ELEMENTS, FLOAT32), np.empty(BLOCK_ELEMENTS, np.bool_)
        self.bits = np.empty(BLOCK_ELEMENTS, np.uint16)


_scratch = _Scratch()


@dataclass(frozen=True)
class Loss:
    """What rounding to a 16-bit type does to the elements of a constant.

    `clamped`: finite ones beyond the type's range; `subnormal`: ones that keep fewer digits; `flushed`: ones that
    become zero. `largest` and `smallest` are the magnitudes of the finite elements that are not zero, 0 if there are
    none; to the digits of float32. `infinite` counts those that are infinite or NaN.
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


def _are_finite(halves: NDArray[np.float16]) -> bool:
    """Whether none is infinite or NaN: as whole numbers, the positive ones have their order, and the negative ones."""
    signed, unsigned = halves.view(np.int16), halves.view(np.uint16)
    return bool(signed.max(initial=0) < INFINITE and unsigned.max(initial=0) < INFINITE + SIGN)


LOSS = Struct("<4q2d")  # the fields of Loss, as a weight remembers them


@dataclass(frozen=True, eq=False, slots=True)
class Narrowed(Weight):
    """A weight as a narrower type stores it: ``round(values * factors)``, rounded once.

    Infinite values stay infinite. A finite value beyond the range of the type becomes ``±bound``; without a bound the
    weight is unrepresentable ("overflow"). Where `is_guessed`, so is one with an infinite value, and what evaluation
    loses is counted; see `guess`.
    """

    exact: Weight = field(kw_only=True)
    bound: float = field(default=math.inf, kw_only=True)
    is_guessed: bool = field(default=False, kw_only=True)
    _lost: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)  # by block, while evaluated

    @staticmethod
    def of_weight(
        exact: Weight, dtype: np.dtype[Any], bound: float = math.inf, *, is_guessed: bool = False
    ) -> Narrowed:
        """The weight in another type."""
        own = exact.base, exact.factors, exact.site, exact.onto
        return Narrowed(dtype, exact.shape, *own, exact=exact, bound=bound, is_guessed=is_guessed)

    def evaluate(self, start: int, stop: int) -> memoryview:
        """The bytes of a block, as `Weight.evaluate`.

        Raises:
            UnrepresentableError: a finite value is beyond the range of the type, and there is no bound.
        """
        item = self.dtype.itemsize
        first, last = start // item, stop // item
        if self.dtype == FLOAT16 and self.bound >= _limits(FLOAT16)[1]:
            block = self._block(first, last)
            quick = block.halves()
            if self.is_guessed:
                if (lost := _lost(block, quick)) is None:
                    raise UnrepresentableError(self, "overflow")
                self._lost[first] = lost
            if self.is_guessed or _are_finite(quick):
                return quick.view(np.uint8).data
        values = self._exact(first, last)
        with np.errstate(all="ignore"):
            if math.isfinite(self.bound):
                values = np.where(np.isinf(values), values, np.clip(values, -self.bound, self.bound))
            found = _rounded(values, self.dtype)
            if not np.isfinite(found).all() and np.isfinite(values[~np.isfinite(found)]).any():
                raise UnrepresentableError(self, "overflow")
        return found.view(np.uint8).data

    def array(self) -> NDArray[Any]:
        """The values as they are in the file, where what is beyond the range is clamped to the bound.

        Raises:
            UnrepresentableError: as `evaluate`.
        """
        return np.frombuffer(self.evaluate(0, self.nbytes), self.dtype).reshape(self.shape)

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

    def guess(self) -> Loss | None:
        """The loss if a large float16 constant is everywhere as in two places; None if that is not plain.

        It is, if these are in the type's range and not all subnormal. Whether the others are in the range shows when
        they are evaluated, so one who guesses reads a constant once. What evaluation counts is in `counted`.
        """
        is_large = len(list(self._ranges())) >= MANY_BLOCKS
        if self.dtype != FLOAT16 or not is_large or f"loss in {self.dtype.str}" in self.exact._known:
            return None
        ranges = list(self._ranges(GUESSED_FROM))
        found = [self._quick_loss(*one) for one in (ranges[0], ranges[len(ranges) // 2])]
        known = [one for one in found if one is not None]
        is_plain = len(known) == len(found) and max(one.largest for one in known) >= _limits(FLOAT16)[0]
        return sum(known, Loss()) if is_plain else None

    def counted(self) -> Loss:
        """How many elements of a guessed constant became subnormal or zero, of those that were evaluated."""
        lost = self._lost.values()
        return Loss(subnormal=sum(one for one, _ in lost), flushed=sum(other for _, other in lost))

    def _found_loss(self) -> Loss:
        ranges = list(self._ranges())
        if len(ranges) == 1:
            return self._loss(*ranges[0])
        if len(ranges) < MANY_BLOCKS:
            return self._losses(ranges)
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  only large models need it

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
        if self.dtype == FLOAT16 and (found := self._quick_loss(start, stop)) is not None:
            return found
        normal, limit = _limits(self.dtype)
        sizes = np.abs(self._exact(start, stop))
        if self.dtype == FLOAT16 or not sizes.max(initial=0) <= limit or not sizes.any():  # NaN is not below
            return self._loss_beyond(sizes, normal, limit)
        least, largest = float(np.min(sizes, initial=np.inf, where=sizes > 0)), float(sizes.max())
        few = sizes[sizes < normal]
        stored = _rounded(few[few != 0], self.dtype)
        return Loss(0, *_small(stored, normal), 0, largest, least)

    def _quick_loss(self, start: int, stop: int) -> Loss | None:
        """The loss in float16; None if a value may be beyond its range, is infinite or NaN.

        Float32 shows which values may be subnormal or zero; only of these, the exact ones count.
        """
        block = self._block(start, stop)
        sizes, small = memory(_scratch.sizes, stop - start), memory(_scratch.small, stop - start)
        block.sizes(sizes)
        largest, least = float(sizes.max(initial=0)), float(sizes.min(initial=np.float32(np.inf)))
        if not largest < _limits(FLOAT16)[1]:
            return None
        few = np.empty(0)
        if least < NEARLY_NORMAL:
            np.less(sizes, NEARLY_NORMAL, out=small)
            if np.count_nonzero(small) > FEW:  # zeros, most of them
                np.logical_and(small, block.source, out=small)
            few = np.abs(block.exactly(np.flatnonzero(small)))
            few = few[few != 0]
            least = float(
                np.min(few if few.size else sizes, initial=np.inf, where=few != 0 if few.size else sizes != 0)
            )
        subnormal, flushed = _small(few.astype(FLOAT16), _limits(FLOAT16)[0])
        return Loss(
            subnormal=subnormal,
            flushed=flushed,
            largest=largest if largest > NEARLY_NORMAL else float(few.max(initial=0.0)),
            smallest=least if largest else 0.0,
        )

    def _block(self, start: int, stop: int) -> Block:
        """A flat range, as values and factors that broadcast in two dimensions; see `Block`."""
        stored = None if len(self.factors) > 1 else self.exact._stored(start, stop)
        if stored is None or stored.dtype != FLOAT32:
            return Block(self._product(start, stop), np.ones((1, 1)))
        if not self.factors:
            return Block(np.ascontiguousarray(stored), np.ones((1, 1)))
        over = self.factors[0].over(start, stop)
        return Block(np.ascontiguousarray(stored), over if over.ndim == TWO else over.reshape(1, -1))

    def _loss_beyond(self, sizes: NDArray[Any], normal: float, limit: float) -> Loss:
        """The same where some magnitudes are beyond the range, infinite or NaN."""
        finite = np.isfinite(sizes)
        counted = sizes[finite & (sizes != 0)]
        infinite = int(sizes.size - finite.sum())
        if not counted.size:
            return Loss(infinite=infinite)
        with np.errstate(all="ignore"):
            subnormal, flushed = _small(_rounded(counted[counted < normal], self.dtype), normal)
            clamped = int(np.isinf(_rounded(counted[counted > limit], self.dtype)).sum())
        return Loss(clamped, subnormal, flushed, infinite, float(counted.max()), float(counted.min()))


def _small(stored: NDArray[Any], normal: float) -> tuple[int, int]:
    """How many magnitudes, none of them zero before they were rounded, are subnormal, and how many zero."""
    flushed = int(np.count_nonzero(stored == 0))
    return int(np.count_nonzero(stored < normal)) - flushed, flushed


def _lost(block: Block, halves: NDArray[np.float16]) -> tuple[int, int] | None:
    """How many elements of a block are subnormal as float16, and how many became zero; None if one is not finite."""
    bits, small = memory(_scratch.bits, halves.size), memory(_scratch.small, halves.size)
    np.bitwise_and(halves.view(np.uint16), np.uint16(MAGNITUDE), out=bits)
    if bits.max(initial=0) >= INFINITE:
        return None
    if (least := bits.min(initial=MAGNITUDE)) >= FIRST_NORMAL:
        return 0, 0
    subnormal = int(np.count_nonzero(np.less(bits, FIRST_NORMAL, out=small)))
    if least > 0:
        return subnormal, 0
    zeros = np.flatnonzero(np.equal(bits, 0, out=small))
    return subnormal - zeros.size, int(np.count_nonzero(block.exactly(zeros)))


@cache
def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest normal and the largest number of a type."""
    kind = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(kind.smallest_normal), float(kind.max)


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in a 16-bit type, rounded once, to nearest, ties to even."""
    if values.dtype == FLOAT32:
        return values.astype(dtype)
    return rounded(values.astype(np.float64, copy=False), dtype)
