"""A constant as a recipe: where its values are and which factors apply. It is evaluated in blocks and rounded once."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from folding.algebra.factors import BLOCK_ELEMENTS, Factor
from folding.algebra.whole import is_true, is_uniformly
from folding.graph.dtypes import BFLOAT16, FLOAT_TYPES
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from folding.algebra.affine import Float64
    from folding.onnxfile import Span

UFUNC_BUFFER = 2048  # elements that NumPy casts at a time; two such buffers of float64 fit in the L1 cache
DEAD = 1e-30  # a scale below this, and subnormal, carries nothing whatever it multiplies
VALUES_LIMIT = 1 << 26  # elements that may be evaluated at once while planning (512 MiB as float64)

DIGEST_BYTES = 16  # of constants that are compared


class _Scratch(threading.local):
    """Memory for one block, per thread."""

    def __init__(self) -> None:
        self.stored = np.empty(BLOCK_ELEMENTS, np.float64)
        self.product = np.empty(BLOCK_ELEMENTS, np.float64)
        self.finite = np.empty(BLOCK_ELEMENTS, np.bool_)


_scratch = _Scratch()


@dataclass(frozen=True, eq=False, slots=True)
class Weight:
    """A constant of a model, of `shape` and stored type `dtype`, times float64 factors; integers have no factors.

    `base` is a span of the model file (little-endian values of `dtype`) or an array. The array has `dtype` if the
    model computes it, and a wider type if it was computed here and is not rounded yet. `site` is the key of the
    affine map that it absorbed last, `onto` is the weight before that. `is_scale`: each value scales one channel.
    `is_exact`: it has no factors and is written bit for bit, NaN and infinity included.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    base: Span | NDArray[Any]
    factors: tuple[Factor, ...] = ()
    site: str = ""
    onto: Weight | None = None
    is_scale: bool = False
    is_exact: bool = False
    _known: dict[str, bytes] = field(
        default_factory=dict, init=False, repr=False
    )  # what was found out about the values

    @staticmethod
    def of(values: Float64, like: np.dtype[Any], *, is_scale: bool = False) -> Weight:
        """Build a weight from exact float64 values, which are rounded once, to the type `like`."""
        return Weight(like, values.shape, np.ascontiguousarray(values).reshape(values.shape), is_scale=is_scale)

    @staticmethod
    def exactly(found: Weight | NDArray[Any]) -> Weight:
        """A constant that is written as it was computed; a weight with factors is still rounded and judged."""
        if isinstance(found, Weight):
            is_stored = not isinstance(found.base, np.ndarray) or found.base.dtype == found.dtype
            return replace(found, is_exact=is_stored and not found.factors)
        return Weight(found.dtype, found.shape, np.asarray(found), is_exact=True)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes when written."""
        return self.size * self.dtype.itemsize

    def absorbing(self, site: str, onto: Weight | None) -> Weight:
        """The same weight with a record of the affine map that it absorbed last and of the weight before."""
        same = Weight(self.dtype, self.shape, self.base, self.factors, site, onto, self.is_scale, self.is_exact)
        same._known.update(self._known)
        return same

    def straws(self) -> Iterator[tuple[str, UnrepresentableError]]:
        """The absorbed affine maps after which the weight is unrepresentable, with the error, oldest first."""
        history = [self]
        while (earlier := history[-1].onto) is not None and earlier.site:
            history.append(earlier)
        for weight in reversed(history):
            try:
                for start, stop in weight.blocks():
                    weight.evaluate(start, stop)
            except UnrepresentableError as error:
                yield weight.site, error

    def scaled(self, view: Sequence[int], values: Float64) -> Weight:
        """This weight, read as an array of shape `view`, times float64 `values` that broadcast against `view`."""
        factor = Factor(tuple(view), np.ascontiguousarray(np.asarray(values, np.float64)))
        assert math.prod(view) == self.size, "a view regroups the axes, it keeps the elements"  # noqa: S101  algebra
        if is_uniformly(factor.values, 1):
            return self
        factors = (*self.factors, factor)
        return Weight(self.dtype, self.shape, self.base, factors, self.site, self.onto, self.is_scale)

    def settled(self) -> Weight | None:
        """The same weight with values rounded to its dtype; None if they are rounded already or do not fit it."""
        if self.factors or not isinstance(self.base, np.ndarray) or self.base.dtype == self.dtype:
            return None
        if self.dtype not in FLOAT_TYPES:
            return None
        with np.errstate(all="ignore"):
            stored = rounded(self.base, self.dtype).astype(np.float64)
        lost = np.abs(self.base) < float(ml_dtypes.finfo(self.dtype).smallest_normal)  # type: ignore[no-untyped-call]
        fits = np.isfinite(stored).all() and not (lost & (self.base != 0)).any()
        return replace(self, base=stored) if fits and not np.array_equal(stored, self.base) else None

    def values(self) -> Float64:
        """All values in float64, unrounded.

        Raises:
            Refused: "too-large" over `VALUES_LIMIT` elements.
        """
        if not self.factors and isinstance(self.base, np.ndarray) and self.base.size <= VALUES_LIMIT:
            return self.base.astype(np.float64, order="C").reshape(self.shape)
        require(self.size <= VALUES_LIMIT, "too-large", f"a constant of {self.size:,} elements is not evaluated here")
        result = np.empty(self.size)
        for start, stop in self._ranges():
            result[start:stop] = self._product(start, stop)
        return result.reshape(self.shape)

    def contract(self, view: Sequence[int], values: Float64, axes: tuple[int, ...]) -> Float64:
        """``sum(view(weight) * values, axes)`` in float64, without the summed axes, computed one block at a time.

        `values` has the rank of `view` and broadcasts against it.
        """
        result = np.zeros([1 if axis in axes else length for axis, length in enumerate(view)])
        for place, block in self._slabs(view):
            source = tuple(part if n > 1 else slice(None) for part, n in zip(place, values.shape, strict=True))
            target = tuple(part if axis not in axes else slice(None) for axis, part in enumerate(place))
            result[target] += (block * values[source]).sum(axis=axes, keepdims=True)
        return np.asarray(result.squeeze(axis=axes))

    def largest(self, view: Sequence[int], axes: tuple[int, ...]) -> Float64:
        """``max(abs(view(weight)), axes)``; the axes are kept with length 1."""
        result = np.zeros([1 if axis in axes else length for axis, length in enumerate(view)])
        for place, block in self._slabs(view):
            target = tuple(part if axis not in axes else slice(None) for axis, part in enumerate(place))
            result[target] = np.maximum(result[target], np.abs(block).max(axis=axes, keepdims=True))
        return result

    def smallest(self, view: Sequence[int], axes: tuple[int, ...]) -> Float64:
        """The same for the smallest magnitude that is not zero; infinite where all are."""
        result = np.full([1 if axis in axes else length for axis, length in enumerate(view)], np.inf)
        for place, block in self._slabs(view):
            target = tuple(part if axis not in axes else slice(None) for axis, part in enumerate(place))
            sizes = np.where(block == 0, np.inf, np.abs(block))
            result[target] = np.minimum(result[target], sizes.min(axis=axes, keepdims=True))
        return result

    def _slabs(self, view: Sequence[int]) -> Iterator[tuple[tuple[slice, ...], Float64]]:
        """Blocks of the unrounded values, read as an array of shape `view` in C order: the place and the values."""
        view, rank = tuple(view), len(view)
        split = next(i for i in range(rank) if i + 1 == rank or math.prod(view[i + 1 :]) <= BLOCK_ELEMENTS)
        tail = view[split + 1 :]
        rows = max(1, BLOCK_ELEMENTS // max(1, math.prod(tail)))
        for number, outer in enumerate(np.ndindex(view[:split])):
            for first in range(0, view[split], rows):
                last = min(first + rows, view[split])
                start = (number * view[split] + first) * math.prod(tail)
                values = self._product(start, start + (last - first) * math.prod(tail))
                place = (*(slice(i, i + 1) for i in outer), slice(first, last), *(slice(0, n) for n in tail))
                yield place, values.reshape((1,) * split + (last - first, *tail))

    # --- the payload of a tensor, see onnxfile.Computed -------------------------------------------------

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The byte ranges in which it is evaluated."""
        item = self.dtype.itemsize
        return ((start * item, stop * item) for start, stop in self._ranges())

    def evaluate(self, start: int, stop: int) -> memoryview:
        """The little-endian bytes [start, stop) of the rounded weight, one of `blocks()`.

        Raises:
            UnrepresentableError: in the stored type a value is not finite, or a channel lost its precision.
        """
        item = self.dtype.itemsize
        first, last = start // item, stop // item
        if self.is_exact:
            return self._stored(first, last).view(np.uint8).data
        try:
            with np.errstate(over="raise", invalid="raise", under="ignore" if "underflow" in self._known else "raise"):
                if last - first > UFUNC_BUFFER:
                    np.setbufsize(UFUNC_BUFFER)  # for this block only: errstate restores it
                rounded = self._rounded(first, last)
        except FloatingPointError as error:
            if "underflow" not in str(error):
                raise UnrepresentableError(self, "overflow") from None
            self._judge_underflow()
            return self.evaluate(start, stop)
        if not is_true(np.isfinite(rounded, out=_scratch.finite[: rounded.size])):
            raise UnrepresentableError(self, "overflow")
        return rounded.view(np.uint8).data

    def equals(self, other: Weight) -> bool:
        """Whether both will be written as the same bytes."""
        alike = self.dtype == other.dtype and self.shape == other.shape and len(self.factors) == len(other.factors)
        return alike and self.digest() == other.digest()

    def digest(self) -> bytes:
        """A digest that is equal for weights that will be written as the same bytes."""
        if "digest" not in self._known:
            self._known["digest"] = self._hashed()
        return self._known["digest"]

    def _hashed(self) -> bytes:
        facts: list[object] = [
            self.dtype.num,
            self.shape,
            [(factor.view, factor.values.shape) for factor in self.factors],
        ]
        values = b""
        if isinstance(self.base, np.ndarray):
            uniform = not any(self.base.strides)  # one repeated value, made by ConstantOfShape: hash it once
            values = (self.base.reshape(-1)[:1] if uniform else self.base).tobytes()
            facts += [self.base.dtype.num, uniform]
        else:
            facts += [id(self.base.source), self.base.offset, self.base.length]
        state = hashlib.blake2b(repr(facts).encode(), digest_size=DIGEST_BYTES)
        state.update(values)
        for factor in self.factors:
            state.update(factor.values.tobytes())
        return state.digest()

    # --- evaluation of one flat range -------------------------------------------------------------------

    def _ranges(self, most: int = BLOCK_ELEMENTS) -> Iterator[tuple[int, int]]:
        """Flat ranges of at most `most` elements, with whole rows or periods of the factors if a block has room."""
        if 0 < self.size <= BLOCK_ELEMENTS:  # a multiple of all units
            return iter(((0, self.size),))
        units = [f.period if f.period <= BLOCK_ELEMENTS else f.inner for f in self.factors if f.values.size > 1]
        unit = max((unit for unit in units if unit <= BLOCK_ELEMENTS), default=1)
        step = max(1, most // unit) * unit
        return ((start, min(start + step, self.size)) for start in range(0, self.size, step))

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        """The base values of a flat range; those of a span are in a buffer that the caller may overwrite."""
        if isinstance(self.base, np.ndarray):
            return self.base.reshape(-1)[start:stop] if self.base.flags.c_contiguous else self.base.flat[start:stop]
        item = self.dtype.itemsize
        buffer = _scratch.stored.view(np.uint8)[: (stop - start) * item]
        self.base.read_into(buffer.data, start * item)
        return buffer.view(self.dtype)

    def _product(self, start: int, stop: int) -> Float64:
        """The unrounded values of a flat range."""
        product = _scratch.product[: stop - start]
        product[...] = self._stored(start, stop)
        is_small = stop - start == self.size <= UFUNC_BUFFER  # then rows cost more than short inner loops
        for factor in self.factors:
            if is_small and factor.values.size > 1:
                product.reshape(factor.view)[...] *= factor.values
            else:
                product.reshape(-1, factor.row_length(start, stop))[...] *= factor.over(start, stop)
        return product

    def _rounded(self, start: int, stop: int) -> NDArray[Any]:
        """The values of a flat range in the stored type."""
        if len(self.factors) == 1 and not isinstance(self.base, np.ndarray) and self.dtype != BFLOAT16:
            stored, factor = self._stored(start, stop), self.factors[0]
            rows = stored.reshape(-1, factor.row_length(start, stop))
            np.multiply(rows, factor.over(start, stop), out=rows, dtype=np.float64, casting="unsafe")
            return stored
        return rounded(self._product(start, stop), self.dtype)

    def _judge_underflow(self) -> None:
        """Accept single subnormal values; raise if a whole channel, or the whole constant, became subnormal.

        Rounding to a subnormal loses at most half the smallest subnormal. That matters only if it is not small
        against the largest weight of the same channel. Each factor of a scale is a channel.

        A channel whose factor is subnormal itself is dead in the original too (a gamma after weight decay): what it
        multiplies, the original rounds to a subnormal as well. In float16 subnormal numbers are ordinary ones.
        """
        tiny = float(ml_dtypes.finfo(self.dtype).smallest_normal)  # type: ignore[no-untyped-call]
        stored = replace(self, factors=())
        varying = [f for f in self.factors if f.values.size > 1] or [Factor((1, self.size), np.ones((1, 1)))]
        for factor in varying:
            each = self.is_scale and not self.factors
            axes = () if each else tuple(axis for axis, n in enumerate(factor.values.shape) if n == 1)
            after = self.largest(factor.view, axes)
            lost = (after > 0) & (after < tiny)
            if self.factors:
                lost &= stored.largest(factor.view, axes) >= tiny
                lost &= np.abs(factor.values) >= min(tiny, DEAD)
            if lost.any():
                raise UnrepresentableError(self, "underflow")
        self._known["underflow"] = b"accepted"


def rounded(values: Float64, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Float64 values in another dtype, rounded once (to nearest, ties to even).

    ml_dtypes rounds to bfloat16 through float32. Rounding to odd in float32 keeps a tie distinct from its
    neighbours, so the result is as if rounded once (Boldo and Melquiond, "When double rounding is odd", 2005).
    """
    if dtype != BFLOAT16:
        return values.astype(dtype)
    near = values.astype(np.float32)
    beyond = np.abs(near.astype(np.float64)) > np.abs(values)
    bits = near.view(np.uint32) - beyond  # the neighbour towards zero
    odd = (bits | (near != values)).astype(np.uint32).view(np.float32)
    return np.where(np.isfinite(values), odd, near).astype(dtype)


class UnrepresentableError(Exception):
    """A weight cannot represent what it absorbed; `code` is "overflow" or "underflow"."""

    def __init__(self, weight: Weight, code: str) -> None:
        super().__init__(f"{code} in {weight.dtype.name}")
        self.weight, self.code = weight, code

    def refusal(self) -> Refused:
        """The same as a refusal of the planner."""
        return Refused(self.code, f"the folded constant would {self.code} in {self.weight.dtype.name}")
