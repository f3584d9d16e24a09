"""Float64 references of the operators that stand between constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _sum_of_squares(_: int, a: dict[str, Any], x: Array, axes: Array | None = None) -> Array:
    over = a.get("axes") if axes is None else axes.tolist()
    return np.sum(x * x, axis=None if over is None else tuple(over), keepdims=bool(a["keepdims"]))


def _slice(
    _: int, a: dict[str, Any], x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Any = None
) -> Array:
    for number, axis in enumerate(range(len(starts)) if axes is None else axes.tolist()):
        step = 1 if steps is None else int(steps[number])
        x = x.take(range(*slice(starts[number], ends[number], step).indices(x.shape[axis])), axis)
    return x


OPERATORS: dict[str, Any] = {
    "Abs": lambda _, a, x: np.abs(x),
    "Exp": lambda _, a, x: np.exp(x),
    "Expand": lambda _, a, x, shape: x * np.ones(shape.tolist()),
    "Gather": lambda _, a, x, places: np.take(x, places, axis=a["axis"]),
    "Max": lambda _, a, x, y: np.maximum(x, y),
    "Pow": lambda _, a, x, y: x**y,
    "ReduceSumSquare": _sum_of_squares,
    "Slice": _slice,
    "Split": lambda _, a, x, split: tuple(np.split(x, np.cumsum(split)[:-1], axis=a["axis"])),
    "Tile": lambda _, a, x, times: np.tile(x, times),
    "Where": lambda _, a, test, x, y: np.where(test, x, y),
}
