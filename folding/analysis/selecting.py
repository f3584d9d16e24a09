"""Evaluate the operators of shape arithmetic in NumPy: those that join, pick, compare and spread values.

Files have thousands of them, on a few integers each, and onnx's reference evaluator takes milliseconds for one.
An absent input is None. NumPy's errors for inputs that do not fit are left to the caller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from folding.graph.weights import VALUES_LIMIT
from folding.refusal import require

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from folding.graph.node import Node

Array = NDArray[Any]
BOUNDS_AS_INPUTS = 10  # of Slice
BROADCASTS = 7  # opset since which comparisons broadcast as NumPy does


def _concat(node: Node, given: Sequence[Array | None]) -> Array:
    return np.concatenate(_all(node, given), axis=node.attribute("axis"))


def _gather(node: Node, given: Sequence[Array | None]) -> Array:
    data, places = _all(node, given)
    axis = node.attribute("axis") or 0
    size = math.prod(places.shape) * (data.size // max(1, data.shape[axis]))
    require(size <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")
    return np.take(data, places.astype(np.int64), axis=axis)


def _slice(node: Node, given: Sequence[Array | None]) -> Array:
    data = _all(node, given[:1])[0]
    parts = [slice(None)] * data.ndim
    for axis, start, stop, step in zip(*slices(node, data.ndim, given), strict=True):
        require(step != 0, "parameters", f"a step of {node.label!r} is 0")
        # An end before the first element, counted from the front, is what NumPy calls None.
        length = data.shape[axis]
        end = stop + length if stop < 0 else stop
        parts[axis] = slice(start, None if step < 0 and end < 0 else stop, step)
    return data[tuple(parts)]


def slices(node: Node, rank: int, given: Sequence[Array | None]) -> tuple[list[int], list[int], list[int], list[int]]:
    """The axes, starts, ends and steps of a Slice; `given` are its inputs, of which the first is not used.

    Raises:
        Refused: "parameters" if they do not fit each other.
    """
    if node.version < BOUNDS_AS_INPUTS:
        bounds = [node.attribute("starts"), node.attribute("ends"), node.attribute("axes"), None]
    else:
        bounds = [None if part is None else part.reshape(-1).tolist() for part in (*given[1:], None, None)][:4]
    starts, ends = (list(part or ()) for part in bounds[:2])
    axes = [axis % max(1, rank) for axis in (range(len(starts)) if bounds[2] is None else bounds[2])]
    steps = [1] * len(starts) if bounds[3] is None else list(bounds[3])
    fits = len(starts) == len(ends) == len(axes) == len(steps) == len(set(axes)) and max(axes, default=-1) < rank
    require(fits, "parameters", f"the bounds of {node.label!r} do not fit each other")
    return axes, starts, ends, steps


def _where(node: Node, given: Sequence[Array | None]) -> Array:
    condition, chosen, other = _all(node, given)
    require(chosen.dtype == other.dtype, "parameters", f"{node.label!r} chooses between two types")
    _require_small(node, condition, chosen, other)
    return np.where(condition, chosen, other)


def _expand(node: Node, given: Sequence[Array | None]) -> Array:
    data, target = _all(node, given)
    shape = np.broadcast_shapes(data.shape, tuple(target.tolist()))
    require(math.prod(shape) <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")
    return np.broadcast_to(data, shape)


def _non_zero(node: Node, given: Sequence[Array | None]) -> Array:
    return np.array(np.nonzero(np.atleast_1d(_all(node, given)[0])), np.int64)


def _compared(function: Callable[..., Any]) -> Callable[[Node, Sequence[Array | None]], Array]:
    def evaluate(node: Node, given: Sequence[Array | None]) -> Array:
        arrays = _all(node, given)
        require(node.version >= BROADCASTS or len(arrays) == 1, "old-opset", f"{node.op} broadcast differently then")
        require(len({array.dtype for array in arrays}) == 1, "parameters", f"{node.label!r} compares two types")
        _require_small(node, *arrays)
        return np.asarray(function(*arrays))

    return evaluate


def _all(node: Node, given: Sequence[Array | None]) -> list[Array]:
    arrays = [array for array in given if array is not None]
    require(len(arrays) == len(given), "parameters", f"{node.label!r} lacks an input")
    return arrays


def _require_small(node: Node, *arrays: Array) -> None:
    size = math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    require(size <= VALUES_LIMIT, "too-large", f"{node.label!r} makes a constant too large to evaluate")


SELECTING: dict[str, Callable[[Node, Sequence[Array | None]], Array]] = {
    "Concat": _concat,
    "Gather": _gather,
    "Slice": _slice,
    "Where": _where,
    "Expand": _expand,
    "NonZero": _non_zero,
    "Equal": _compared(np.equal),
    "Greater": _compared(np.greater),
    "GreaterOrEqual": _compared(np.greater_equal),
    "Less": _compared(np.less),
    "LessOrEqual": _compared(np.less_equal),
    "And": _compared(np.logical_and),
    "Or": _compared(np.logical_or),
    "Xor": _compared(np.logical_xor),
    "Not": _compared(np.logical_not),
}
