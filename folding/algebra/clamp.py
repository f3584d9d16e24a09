"""Clamp: an immutable map y = min(max(x, lower), upper) that broadcasts against a value, and how affines cross it."""

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
    """``y = min(max(x, lower), upper)`` on values of one rank; -inf and inf where there is no bound.

    The bounds are float64, of one shape, with length 1 wherever the map does not vary, as in `Affine`.
    """

    lower: Float64
    upper: Float64

    @staticmethod
    def of(lower: ArrayLike, upper: ArrayLike) -> Clamp:
        """The clamp with these bounds, broadcast to one shape and collapsed where it does not vary."""
        both = Affine.of(lower, upper)  # the same arrays, of the same shape, collapsed the same way
        return Clamp(both.scale, both.shift)

    @property
    def is_uniform(self) -> bool:
        """Whether it is the same everywhere."""
        return self.lower.size == 1

    @property
    def operators(self) -> tuple[str, ...]:
        """The ONNX operators that compute it, in order: one of Relu, Clip, Max and Min, or Max and Min."""
        floor, ceiling = bool(np.isfinite(self.lower).any()), bool(np.isfinite(self.upper).any())
        if self.is_uniform:
            return ("Relu",) if not ceiling and self.lower == 0 else ("Clip",)
        return ("Max",) * floor + ("Min",) * ceiling

    def equals(self, other: Clamp) -> bool:
        """Whether both are the same map, bound for bound."""
        return np.array_equal(self.lower, other.lower) and np.array_equal(self.upper, other.upper)

    def following(self, a: Affine) -> Clamp:
        """The clamp that may follow `a` where this one preceded it: ``a(self(x)) == result(a(x))``.

        A positive scale takes the bounds along, a negative one exchanges them. With a scale of zero both sides
        are the shift, and so may the bounds be that there are.
        """
        with np.errstate(all="ignore"):
            low, high = a.scale * self.lower + a.shift, a.scale * self.upper + a.shift
        dead = a.scale == 0
        low = np.where(dead & np.isinf(self.lower), self.lower, low)
        high = np.where(dead & np.isinf(self.upper), self.upper, high)
        return _oriented(a.scale, low, high)

    def preceding(self, a: Affine) -> tuple[Clamp, Affine]:
        """The clamp that may precede `a`, nearly: ``self(a(x)) == after(result(x))``, and that map `after`.

        It is `a` itself but for scales of zero, where ``self(a(x))`` is the clamped shift.
        """
        with np.errstate(all="ignore"):
            low, high = (self.lower - a.shift) / a.scale, (self.upper - a.shift) / a.scale
        dead = a.scale == 0  # any bounds will do, and the same as before may make a simpler operator
        low, high = np.where(dead, self.lower, low), np.where(dead, self.upper, high)
        constant = np.minimum(np.maximum(a.shift, self.lower), self.upper)
        return _oriented(a.scale, low, high), Affine.of(a.scale, np.where(dead, constant, a.shift))


def _oriented(scale: Float64, low: Float64, high: Float64) -> Clamp:
    """The clamp between two mapped bounds, which a negative scale has exchanged."""
    return Clamp.of(np.where(scale < 0, high, low), np.where(scale < 0, low, high))
