"""References of the clamps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _clip(_: int, a: dict[str, Any], x: NDArray[Any], low: Any = None, high: Any = None) -> NDArray[Any]:
    low = a.get("min") if low is None else low
    high = a.get("max") if high is None else high
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


OPERATORS: dict[str, Any] = {
    "Clip": _clip,
    "Max": lambda _, a, *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Min": lambda _, a, *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
}
