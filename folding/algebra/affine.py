"""Affine: an immutable map y = scale * x + shift that broadcasts against a value, and its algebra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from folding.algebra.whole import is_finite, is_true, is_uniformly

if TYPE_CHECKING:
    from collections.abc import Sequence

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """``y = scale * x + shift`` on values of one rank.

    `scale` and `shift` are float64, read-only and of the same shape. An axis along which the map does not
    vary has length 1: a map per channel in NCHW has the shape ``(1, C, 1, 1)``. So both broadcast against
    the value, and no axis has to be stored beside them.
    """

    scale: Float64
    shift: Float64

    @staticmethod
    def of(scale: ArrayLike, shift: ArrayLike) -> Affine:
        """Build a map from these arrays, broadcast to one shape; axes along which it does not vary get length 1."""
        scale, shift = np.asarray(scale, np.float64), np.asarray(shift, np.float64)
        pair = np.empty((2, *(scale.shape if scale.shape == shift.shape else np.broadcast(scale, shift).shape)))
        pair[0], pair[1] = scale, shift
        for axis, length in enumerate(pair.shape):
            if axis and length > 1:
                first, last = (pair[(slice(None),) * axis + (slice(at, at + 1),)] for at in (0, length - 1))
                varies = pair.size and first.item(0) != last.item(0)  # the usual case, and cheap to find
                if not varies and is_true(pair == first):
                    pair = first.copy()
        pair.setflags(write=False)
        return Affine(pair[0], pair[1])

    @staticmethod
    def identity(rank: int) -> Affine:
        """The map that changes nothing, for values of this rank."""
        return Affine.of(np.ones((1,) * rank), 0.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape of scale and shift."""
        return self.scale.shape

    @property
    def rank(self) -> int:
        """The rank of the values that the map applies to."""
        return self.scale.ndim

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which the map varies."""
        return tuple([axis for axis, length in enumerate(self.scale.shape) if length != 1])

    @property
    def is_linear(self) -> bool:
        """Whether the map is a pure scale: its shift is zero."""
        return is_uniformly(self.shift, 0)

    @property
    def is_shift(self) -> bool:
        """Whether the map is a pure shift: its scale is one."""
        return is_uniformly(self.scale, 1)

    @property
    def is_identity(self) -> bool:
        """Whether the map changes nothing."""
        return self.is_linear and self.is_shift

    @property
    def is_finite(self) -> bool:
        """Whether every scale and shift is a finite number."""
        return is_finite(self.scale) and is_finite(self.shift)

    def __call__(self, x: ArrayLike) -> Float64:
        """The map applied to a value."""
        return np.asarray(self.scale * np.asarray(x, np.float64) + self.shift)

    def after(self, first: Affine) -> Affine:
        """The composition: ``a.after(b)(x) == a(b(x))``."""
        return Affine.of(self.scale * first.scale, self.scale * first.shift + self.shift)

    def linear_part(self) -> Affine:
        """The same scale without the shift."""
        return Affine.of(self.scale, 0.0)

    def shift_part(self) -> Affine:
        """The same shift without the scale."""
        return Affine.of(np.ones_like(self.scale), self.shift)

    def varies_only_along(self, *axes: int) -> bool:
        """Whether the map is constant along every axis but these (negative axes count from the end)."""
        rank = self.rank
        return {axis % rank for axis in axes}.issuperset(self.axes)

    def transpose(self, axes: Sequence[int]) -> Affine:
        """The map on the transposed value, as `numpy.transpose`."""
        return Affine.of(self.scale.transpose(axes), self.shift.transpose(axes))

    def reshape(self, shape: Sequence[int]) -> Affine:
        """The map on a value whose axes were regrouped: both arrays are reshaped in C order."""
        return Affine.of(self.scale.reshape(shape), self.shift.reshape(shape))

    def expand(self, shape: Sequence[int]) -> Affine:
        """The same map with its arrays broadcast to `shape` and not collapsed: a step before `reshape`."""
        return Affine(np.broadcast_to(self.scale, shape), np.broadcast_to(self.shift, shape))

    def with_rank(self, rank: int) -> Affine:
        """The same map for values of another rank: leading axes of length 1 are added or dropped, as in broadcasting.

        Raises:
            ValueError: the map varies along an axis that would be dropped.
        """
        if rank >= self.rank:
            return self.reshape((1,) * (rank - self.rank) + self.shape)
        dropped = self.rank - rank
        if any(length != 1 for length in self.shape[:dropped]):
            raise ValueError(f"the map of shape {self.shape} varies along an axis that rank {rank} does not have")
        return self.reshape(self.shape[dropped:])

    def __repr__(self) -> str:
        """Shape and extremes, because the arrays themselves are long."""
        low, high = np.abs(self.scale).min(initial=np.inf), np.abs(self.scale).max(initial=0)
        return f"Affine{self.shape}(|scale| {low:.3g}..{high:.3g}, |shift| <= {np.abs(self.shift).max(initial=0):.3g})"
