"""Clamp: an immutable map y = min(max(x, lower), upper) that broadcasts against a value; affine maps can cross it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from folding.algebra.affine import Float64


@dataclass(frozen=True, eq=False)
class Clamp:
    """``y = min(max(x, lower), upper)`` on values of one rank; -inf and inf mean no bound.

    The bounds are float64 and of the same shape. An axis along which they do not vary has length 1, as in `Affine`.
    """

    lower: Float64
    upper: Float64

    @staticmethod
    def of(lower: ArrayLike, upper: ArrayLike) -> Clamp:
        """Build a clamp from these bounds, broadcast to one shape; axes along which it does not vary get length 1."""
        both = Affine.of(lower, upper)  # the same arrays, of the same shape, collapsed the same way
        return Clamp(both.scale, both.shift)

    @property
    def is_uniform(self) -> bool:
        """Whether the bounds are the same for all elements."""
        return self.lower.size == 1

    @property
    def operators(self) -> tuple[str, ...]:
        """The ONNX operators that compute the clamp, in order: one of Relu, Clip, Max and Min, or Max and Min."""
        floor, ceiling = bool(np.isfinite(self.lower).any()), bool(np.isfinite(self.upper).any())
        if self.is_uniform:
            return ("Relu",) if not ceiling and self.lower == 0 else ("Clip",)
        return ("Max",) * floor + ("Min",) * ceiling

    def equals(self, other: Clamp) -> bool:
        """Whether all bounds of both clamps are equal."""
        return np.array_equal(self.lower, other.lower) and np.array_equal(self.upper, other.upper)

    def following(self, a: Affine) -> Clamp:
        """The clamp that may follow `a` in place of this one before it: ``a(self(x)) == result(a(x))``.

        The bounds are mapped by `a`; a negative scale exchanges them. With a scale of zero both sides equal the
        shift, so every finite bound may become the shift.
        """
        with np.errstate(all="ignore"):
            low, high = a.scale * self.lower + a.shift, a.scale * self.upper + a.shift
        dead = a.scale == 0
        low = np.where(dead & np.isinf(self.lower), self.lower, low)
        high = np.where(dead & np.isinf(self.upper), self.upper, high)
        return _oriented(a.scale, low, high)

    def preceding(self, a: Affine) -> tuple[Clamp, Affine]:
        """Return the clamp that may precede `a`, and the map `after` it: ``self(a(x)) == after(result(x))``.

        `after` is `a`, except for scales of zero, where ``self(a(x))`` is the clamped shift.
        """
        with np.errstate(all="ignore"):
            low, high = (self.lower - a.shift) / a.scale, (self.upper - a.shift) / a.scale
        dead = a.scale == 0  # any bounds are correct; the old ones may allow a simpler operator
        low, high = np.where(dead, self.lower, low), np.where(dead, self.upper, high)
        constant = np.minimum(np.maximum(a.shift, self.lower), self.upper)
        return _oriented(a.scale, low, high), Affine.of(a.scale, np.where(dead, constant, a.shift))


def _oriented(scale: Float64, low: Float64, high: Float64) -> Clamp:
    """The clamp between two mapped bounds; a negative scale has exchanged them."""
    return Clamp.of(np.where(scale < 0, high, low), np.where(scale < 0, low, high))
