"""Questions about all elements of an array.

A map has some dozens of channels, and for so few the reductions of NumPy (`all`, `any`, `min`) take ten times as long
as `argmin` and `argmax`, which look at the same elements. Of arrays with NaN both return the place of a NaN, and
comparisons with it are false. Of no elements everything is true.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def is_true(flags: NDArray[Any]) -> bool:
    """Whether every element of a boolean array is true."""
    flat = flags.reshape(-1)
    return not flat.size or bool(flat[flat.argmin()])


def is_uniformly(values: NDArray[Any], number: float) -> bool:
    """Whether every element equals the number."""
    flat = values.reshape(-1)
    return not flat.size or bool(flat[flat.argmin()] == number and flat[flat.argmax()] == number)


def is_finite(values: NDArray[Any]) -> bool:
    """Whether every element is a finite number."""
    flat = values.reshape(-1)
    return not flat.size or bool(flat[flat.argmin()] > -math.inf and flat[flat.argmax()] < math.inf)


def is_positive(values: NDArray[Any]) -> bool:
    """Whether every element is larger than zero."""
    flat = values.reshape(-1)
    return not flat.size or bool(flat[flat.argmin()] > 0)


def largest(values: NDArray[Any]) -> float:
    """The largest element, NaN if there is one."""
    flat = values.reshape(-1)
    return float(flat[flat.argmax()])
