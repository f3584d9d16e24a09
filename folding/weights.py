"""A constant as recipe: where its values lie and which factors apply; evaluated once, rounded once, block by block."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.plan import Refused, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from folding.affine import Float64
    from folding.onnxfile import Span

BLOCK_ELEMENTS = 1 << 16  # 256 KiB of float32: input, product and output of a block stay in the L2 cache
LONG_ROW = 64  # from this length on, NumPy's inner loop over one row costs less than writing the factors out
VALUES_LIMIT = 1 << 26  # elements that may be evaluated at once while planning (512 MiB as float64)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT_TYPES = frozenset({np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)})


def contains(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether every value of the type `narrow` is a value of the type `wide`."""
    return wide == narrow or (wide.itemsize > narrow.itemsize and wide.itemsize > BFLOAT16.itemsize)


@dataclass(frozen=True)
class Factor:
    """Float64 factors for a constant read as an array of shape `view`: `values` broadcasts against it.

    In C order the factor of flat element e is ``core[(e // inner) % len(core)]``, `core` being the part
    of `view` from the first to the last axis along which `values` varies. That holds for every view, so
    any flat range of the constant can be scaled without an array of the constant's size.
    """

    view: tuple[int, ...]
    values: Float64

    @cached_property
    def _varying(self) -> tuple[int, int]:
        axes = [axis for axis, length in enumerate(self.values.shape) if length > 1]
        return (axes[0], axes[-1] + 1) if axes else (0, 0)

    @cached_property
    def inner(self) -> int:
        """Number of consecutive elements with one factor."""
        return math.prod(self.view[self._varying[1] :])

    @cached_property
    def period(self) -> int:
        """Number of consecutive elements after which the factors repeat."""
        return math.prod(self.view[self._varying[0] :]) if self.values.size > 1 else 1

    @cached_property
    def _tile(self) -> Float64:
        return self._written_out(0, self.period)

    def _rows(self, start: int, stop: int) -> Float64:
        """The entries [start, stop) of the core, repeated endlessly."""
        first, last = self._varying
        core = self.view[first:last]
        index = np.arange(start, stop) % max(1, math.prod(core))
        if self.values.size == math.prod(core):
            return np.asarray(self.values.reshape(-1)[index])
        held = self.values.reshape(self.values.shape[first:last])
        where = np.unravel_index(index, core)
        varying = [where[axis] if held.shape[axis] > 1 else np.zeros_like(index) for axis in range(held.ndim)]
        return np.asarray(held[tuple(varying)])

    def _written_out(self, start: int, stop: int) -> Float64:
        first = start // self.inner
        rows = self._rows(first, -(-stop // self.inner))
        return np.repeat(rows, self.inner)[start - first * self.inner : stop - first * self.inner]

    def over(self, start: int, stop: int) -> Float64:
        """Factors for the flat range [start, stop) as (n, 1), (n,) or (): they fit `row_length` long rows."""
        if self.values.size == 1:
            return self.values.reshape(())
        if self.by_rows(start, stop):
            return self._rows(start // self.inner, stop // self.inner).reshape(-1, 1)
        if self.by_tiles(start, stop):
            return self._tile
        return self._written_out(start, stop)

    def by_rows(self, start: int, stop: int) -> bool:
        """Whether the range consists of whole long rows of one factor each."""
        return self.inner >= LONG_ROW and start % self.inner == 0 and stop % self.inner == 0

    def by_tiles(self, start: int, stop: int) -> bool:
        """Whether the range consists of whole short periods."""
        return self.period <= BLOCK_ELEMENTS and start % self.period == 0 and stop % self.period == 0

    def row_length(self, start: int, stop: int) -> int:
        """The length of the rows that the flat range must be read as, so that `over` broadcasts against it."""
        if self.values.size == 1:
            return stop - start
        if self.by_rows(start, stop):
            return self.inner
        return self.period if self.by_tiles(start, stop) else stop - start


class _Scratch(threading.local):
    """One block's worth of memory per thread."""

    def __init__(self) -> None:
        self.stored = np.empty(BLOCK_ELEMENTS, np.float64)
        self.product = np.empty(BLOCK_ELEMENTS, np.float64)


_scratch = _Scratch()


@dataclass(frozen=True, eq=False)
class Weight:
    """A floating-point constant of a model, of `shape` and stored type `dtype`, times float64 factors.

    `base` is a span of the model file (little-endian values of `dtype`), or an array: of `dtype` where the
    model computes it, of float64 where it was computed here and has not been rounded yet. `sites` are the
    keys of the affines it absorbed.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    base: Span | NDArray[Any]
    factors: tuple[Factor, ...] = ()
    sites: tuple[str, ...] = ()
    _judged: dict[str, bool] = field(default_factory=dict, repr=False)  # what `judge` found, once per weight

    @staticmethod
    def of(values: Float64, like: np.dtype[Any]) -> Weight:
        """Exact float64 values that will be rounded once, to the type `like`."""
        return Weight(like, values.shape, np.ascontiguousarray(values).reshape(values.shape))

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes once written."""
        return self.size * self.dtype.itemsize

    def absorbing(self, *sites: str) -> Weight:
        """The same weight, remembering the affines it absorbed: they are named if it cannot be represented."""
        return replace(self, sites=(*self.sites, *(s for s in sites if s not in self.sites)))

    def scaled(self, view: Sequence[int], values: Float64) -> Weight:
        """This weight, read as an array of shape `view`, times float64 `values` that broadcast against it."""
        factor = Factor(tuple(view), np.ascontiguousarray(np.asarray(values, np.float64)))
        assert math.prod(view) == self.size, "a view regroups the axes, it keeps the elements"  # noqa: S101  algebra
        return self if np.all(factor.values == 1) else replace(self, factors=(*self.factors, factor), _judged={})

    def values(self) -> Float64:
        """All values in float64, unrounded.

        Raises:
            Refused: "too-large" over `VALUES_LIMIT` elements.
        """
        require(self.size <= VALUES_LIMIT, "too-large", f"a constant of {self.size:,} elements is not evaluated here")
        result = np.empty(self.size)
        for start, stop in self._ranges():
            result[start:stop] = self._product(start, stop)
        return result.reshape(self.shape)

    def contract(self, view: Sequence[int], values: Float64, axes: tuple[int, ...]) -> Float64:
        """``sum(view(weight) * values, axes)`` in float64, without the summed axes and one block at a time.

        `values` has the rank of `view` and broadcasts against it.
        """
        view = tuple(view)
        split = next(i for i in range(len(view)) if i + 1 == len(view) or math.prod(view[i + 1 :]) <= BLOCK_ELEMENTS)
        tail = math.prod(view[split + 1 :])
        rows = max(1, BLOCK_ELEMENTS // max(1, tail))
        result = np.zeros([1 if axis in axes else length for axis, length in enumerate(view)])
        inside = tuple(axis - split for axis in axes if axis >= split)
        for number, outer in enumerate(np.ndindex(view[:split])):
            for first in range(0, view[split], rows):
                last = min(first + rows, view[split])
                start = (number * view[split] + first) * tail
                block = self._product(start, start + (last - first) * tail).reshape(-1, *view[split + 1 :])
                here = tuple(min(i, n - 1) for i, n in zip(outer, values.shape, strict=False))
                factors = values[here] if values.shape[split] == 1 else values[here][first:last]
                there = tuple(min(i, n - 1) for i, n in zip(outer, result.shape, strict=False))
                place = result[there] if split in axes else result[there][first:last]
                place += (block * factors).sum(axis=inside, keepdims=True)
        return np.asarray(result.squeeze(axis=axes))

    # --- the payload of a tensor, see onnxfile.Computed -------------------------------------------------

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The byte ranges in which it is evaluated."""
        item = self.dtype.itemsize
        return ((start * item, stop * item) for start, stop in self._ranges())

    def evaluate(self, start: int, stop: int) -> memoryview:
        """The little-endian bytes [start, stop) of the rounded weight, one of `blocks()`.

        Raises:
            UnrepresentableError: a value is not finite, or a channel lost its precision, in the stored type.
        """
        item = self.dtype.itemsize
        first, last = start // item, stop // item
        try:
            with np.errstate(over="raise", invalid="raise", under="ignore" if "underflow" in self._judged else "raise"):
                rounded = self._rounded(first, last)
        except FloatingPointError as error:
            if "underflow" not in str(error):
                raise UnrepresentableError(self, "overflow") from None
            self._judge_underflow()
            return self.evaluate(start, stop)
        if not np.isfinite(rounded).all():
            raise UnrepresentableError(self, "overflow")
        return rounded.view(np.uint8).data

    def digest(self) -> bytes:
        """Equal for weights that will be written as the same bytes."""
        state = hashlib.blake2b(repr((self.dtype.name, self.shape)).encode(), digest_size=16)
        if isinstance(self.base, np.ndarray):
            uniform = not any(self.base.strides)  # one value, made by ConstantOfShape: say so instead of writing it out
            values = self.base.reshape(-1)[:1] if uniform else np.ascontiguousarray(self.base)
            state.update(repr((self.base.dtype.name, uniform)).encode() + values.tobytes())
        else:
            state.update(repr((id(self.base.source), self.base.offset, self.base.length)).encode())
        for factor in self.factors:
            state.update(repr((factor.view, factor.values.shape)).encode() + factor.values.tobytes())
        return state.digest()

    # --- evaluation of one flat range -------------------------------------------------------------------

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Flat ranges of at most BLOCK_ELEMENTS elements, whole rows or periods of the factors where these fit."""
        units = [f.period if f.period <= BLOCK_ELEMENTS else f.inner for f in self.factors if f.values.size > 1]
        unit = max((unit for unit in units if unit <= BLOCK_ELEMENTS), default=1)
        step = BLOCK_ELEMENTS // unit * unit
        return ((start, min(start + step, self.size)) for start in range(0, self.size, step))

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        """The base values of a flat range in a buffer of this thread that the caller may overwrite."""
        if isinstance(self.base, np.ndarray):
            flat = self.base.reshape(-1)[start:stop] if self.base.flags.c_contiguous else self.base.flat[start:stop]
            return np.array(flat)
        item = self.dtype.itemsize
        buffer = _scratch.stored.view(np.uint8)[: (stop - start) * item]
        self.base.read_into(buffer.data, start * item)
        return buffer.view(self.dtype)

    def _product(self, start: int, stop: int) -> Float64:
        """The unrounded values of a flat range."""
        product = _scratch.product[: stop - start]
        product[...] = self._stored(start, stop)
        for factor in self.factors:
            product.reshape(-1, factor.row_length(start, stop))[...] *= factor.over(start, stop)
        return product

    def _rounded(self, start: int, stop: int) -> NDArray[Any]:
        """The values of a flat range in the stored type."""
        if len(self.factors) == 1 and not isinstance(self.base, np.ndarray):
            stored, factor = self._stored(start, stop), self.factors[0]
            rows = stored.reshape(-1, factor.row_length(start, stop))
            np.multiply(rows, factor.over(start, stop), out=rows, dtype=np.float64, casting="unsafe")
            return stored
        return self._product(start, stop).astype(self.dtype)

    def _judge_underflow(self) -> None:
        """Accept single subnormal values; refuse a channel whose largest value fell below the normal range.

        Rounding to a subnormal loses at most half the smallest subnormal. That matters only where it is no
        longer small against the channel's own largest weight.
        """
        tiny = float(ml_dtypes.finfo(self.dtype).smallest_normal)  # type: ignore[no-untyped-call]
        varying = next((f for f in self.factors if f.values.size > 1), Factor((1, self.size), np.ones((1, 1))))
        rest = tuple(axis for axis, length in enumerate(varying.values.shape) if length == 1)
        before = np.abs(replace(self, factors=()).values()).reshape(varying.view).max(axis=rest, initial=0)
        after = np.abs(self.values()).reshape(varying.view).max(axis=rest, initial=0)
        if np.any((after > 0) & (after < tiny) & (before >= tiny)):
            raise UnrepresentableError(self, "underflow")
        self._judged["underflow"] = True


class UnrepresentableError(Exception):
    """A weight cannot hold what it absorbed: `code` is "overflow" or "underflow"."""

    def __init__(self, weight: Weight, code: str) -> None:
        super().__init__(f"{code} in {weight.dtype.name}")
        self.weight, self.code = weight, code

    def refusal(self) -> Refused:
        """The same as the planner's answer."""
        return Refused(self.code, f"the folded constant would {self.code} in {self.weight.dtype.name}")
