"""Factor: what a constant is multiplied by, stored so that any flat range of the constant can be scaled alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from folding.algebra.affine import Float64

BLOCK_ELEMENTS = 1 << 19  # 2 MiB of float32: in smaller blocks, threads wait for each other as long as they compute
LONG_ROW = 64  # from this length on, NumPy's inner loop over one row costs less than expanded factors


@dataclass(frozen=True)
class Factor:
    """Float64 factors for a constant that is read as an array of shape `view`; `values` broadcasts against it.

    In C order the factor of flat element e is ``core[(e // inner) % len(core)]``. `core` is the part of
    `view` from the first to the last axis along which `values` varies. This holds for every view, so any
    flat range of the constant can be scaled without an array of the constant's size.
    """

    view: tuple[int, ...]
    values: Float64

    @cached_property
    def _varying(self) -> tuple[int, int]:
        axes = [axis for axis, length in enumerate(self.values.shape) if length > 1]
        return (axes[0], axes[-1] + 1) if axes else (0, 0)

    @cached_property
    def inner(self) -> int:
        """Number of consecutive elements that share one factor."""
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
        if (start, stop) == (0, math.prod(self.view)):
            return np.broadcast_to(self.values, self.view).reshape(-1)
        first = start // self.inner
        rows = self._rows(first, -(-stop // self.inner))
        return np.repeat(rows, self.inner)[start - first * self.inner : stop - first * self.inner]

    def over(self, start: int, stop: int) -> Float64:
        """Factors for the flat range [start, stop) as (n, 1), (n,) or (); they fit rows of `row_length` elements."""
        if self.values.size == 1:
            return self.values.reshape(())
        if self.by_rows(start, stop):
            return self._rows(start // self.inner, stop // self.inner).reshape(-1, 1)
        if self.by_tiles(start, stop) and (start or stop > self.period):  # a tile that is used once is not kept
            return self._tile
        return self._written_out(start, stop)

    def by_rows(self, start: int, stop: int) -> bool:
        """Whether the range consists of whole long rows with one factor each."""
        return self.inner >= LONG_ROW and start % self.inner == 0 and stop % self.inner == 0

    def by_tiles(self, start: int, stop: int) -> bool:
        """Whether the range consists of whole short periods."""
        return self.period <= BLOCK_ELEMENTS and start % self.period == 0 and stop % self.period == 0

    def row_length(self, start: int, stop: int) -> int:
        """The row length for reading the flat range, so that `over` broadcasts against the rows."""
        if self.values.size == 1:
            return stop - start
        if self.by_rows(start, stop):
            return self.inner
        return self.period if self.by_tiles(start, stop) else stop - start
