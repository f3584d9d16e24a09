"""References for pooling and reducing operators (ONNX operator specification)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

LOWEST = -1e300  # the largest of nothing: the padding of MaxPool


def _axis_windows(a: dict[str, Any], axis: int, n: int) -> tuple[Array, int]:
    """The positions (outputs, kernel) that windows cover along a spatial axis, and how far the padding behind goes."""
    k, rank = a["kernel_shape"][axis], len(a["kernel_shape"])
    s, d = (a.get("strides") or [1] * rank)[axis], (a.get("dilations") or [1] * rank)[axis]
    auto, reach = a.get("auto_pad", b"NOTSET"), d * (k - 1) + 1
    pads = a.get("pads") or [0] * (2 * rank)
    before, behind = (pads[axis], pads[rank + axis]) if auto == b"NOTSET" else (0, 0)
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        outputs = math.ceil(n / s)
        total = max((outputs - 1) * s + reach - n, 0)
        before = total // 2 if auto == b"SAME_UPPER" else total - total // 2
        behind = total - before
    else:
        rounded = math.ceil if a.get("ceil_mode") else math.floor
        outputs = rounded((n + before + behind - reach) / s) + 1
        outputs -= (outputs - 1) * s >= n + before  # a window that would start in the padding behind
    return np.arange(outputs)[:, None] * s - before + np.arange(k) * d, n + behind


def _windows(a: dict[str, Any], x: Array) -> tuple[Array, Array, Array]:
    """The elements (N, C, *outputs, taps) that windows cover, whether each is in the input, and in the padded one."""
    rank = x.ndim - 2
    inside, padded, flat = np.ones((), bool), np.ones((), bool), np.zeros((), int)
    for axis in range(rank):
        n = x.shape[2 + axis]
        places, end = _axis_windows(a, axis, n)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = places.shape
        places = places.reshape(shape)
        inside = inside & (places >= 0) & (places < n)
        padded = padded & (places < end)
        flat = flat * n + np.clip(places, 0, n - 1)
    outputs = flat.shape[:rank]
    flat, inside, padded = (v.reshape(*outputs, -1) for v in (flat, inside, np.broadcast_to(padded, inside.shape)))
    return x.reshape(*x.shape[:2], -1)[:, :, flat], inside, padded


def _average_pool(_: int, a: dict[str, Any], x: Array) -> Array:
    values, inside, padded = _windows(a, x)
    counted = padded if a.get("count_include_pad") else inside
    return (values * inside).sum(-1) / np.maximum(counted.sum(-1), 1)


def _max_pool(_: int, a: dict[str, Any], x: Array) -> tuple[Array, Array]:
    values, inside, _ = _windows(a, x)
    numbers, _, _ = _windows(a, np.arange(x.size).reshape(x.shape))
    values = np.where(inside, values, LOWEST)
    best = values.argmax(-1)[..., None]
    return values.max(-1), np.take_along_axis(numbers, best, -1)[..., 0]


def _lp_pool(_: int, a: dict[str, Any], x: Array) -> Array:
    values, inside, _ = _windows(a, x)
    return ((np.abs(values) * inside) ** a["p"]).sum(-1) ** (1 / a["p"])


def _global(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(_: int, a: dict[str, Any], x: Array) -> Array:
        return np.asarray(function(a, x, axis=tuple(range(2, x.ndim)), keepdims=True))

    return apply


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def apply(_: int, a: dict[str, Any], x: Array, axes: Array | None = None) -> Array:
        chosen = tuple(a.get("axes") or ()) if axes is None else tuple(int(axis) for axis in axes.reshape(-1))
        if not chosen and a.get("noop_with_empty_axes"):
            return x
        return np.asarray(function(x, axis=chosen or None, keepdims=bool(a["keepdims"])))

    return apply


def _cumulative_sum(_: int, a: dict[str, Any], x: Array, axis: Array) -> Array:
    along = int(axis.reshape(-1)[0])
    x = np.flip(x, along) if a["reverse"] else x
    y = np.cumsum(x, along) - (x if a["exclusive"] else 0)
    return np.flip(y, along) if a["reverse"] else y


OPERATORS: dict[str, Any] = {
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "LpPool": _lp_pool,
    "GlobalMaxPool": _global(lambda a, x, **how: x.max(**how)),
    "GlobalLpPool": _global(lambda a, x, **how: (np.abs(x) ** a["p"]).sum(**how) ** (1 / a["p"])),
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceL1": _reduce(lambda x, **how: np.abs(x).sum(**how)),
    "ReduceL2": _reduce(lambda x, **how: np.sqrt((x * x).sum(**how))),
    "CumSum": _cumulative_sum,
}
