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
    return not flags.size or bool(flags.item(flags.argmin()))


def is_uniformly(values: NDArray[Any], number: float) -> bool:
    """Whether every element equals the number."""
    return not values.size or bool(values.item(values.argmin()) == number and values.item(values.argmax()) == number)


def is_finite(values: NDArray[Any]) -> bool:
    """Whether every element is a finite number."""
    return not values.size or bool(values.item(values.argmin()) > -math.inf and values.item(values.argmax()) < math.inf)


def is_positive(values: NDArray[Any]) -> bool:
    """Whether every element is larger than zero."""
    return not values.size or bool(values.item(values.argmin()) > 0)


def largest(values: NDArray[Any]) -> float:
    """The largest element, NaN if there is one."""
    return float(values.item(values.argmax()))
