"""References for operators that select, pad or repeat elements (ONNX operator specification)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]


def _slice(_: int, a: dict[str, Any], x: Array, *given: Array | None) -> Array:
    starts, ends, axes, steps = (None if v is None else v.tolist() for v in (*given, None, None, None, None)[:4])
    starts, ends, axes = starts or a.get("starts"), ends or a.get("ends"), axes or a.get("axes")
    axes, steps = axes or range(len(starts)), steps or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        n = x.shape[axis]
        first, last = (place + n if place < 0 else place for place in (start, end))
        if step > 0:
            places = range(min(max(first, 0), n), min(max(last, 0), n), step)
        else:
            places = range(min(max(first, 0), n - 1), min(max(last, -1), n - 1), step)
        x = np.take(x, np.array(places, int), axis)
    return x


def _split(_: int, a: dict[str, Any], x: Array, split: Array | None = None) -> tuple[Array, ...]:
    lengths = a.get("split") if split is None else split.tolist()
    if lengths is None:
        lengths = [-(-x.shape[a["axis"]] // a["outputs"])] * a["outputs"]
    return tuple(np.split(x, np.cumsum(lengths)[:-1], a["axis"]))


def _gather(_: int, a: dict[str, Any], x: Array, indices: Array) -> Array:
    return np.take(x, indices.astype(int), a["axis"])


def _pad(
    _: int,
    a: dict[str, Any],
    x: Array,
    pads: Array | None = None,
    value: Array | None = None,
    axes: Array | None = None,
) -> Array:
    amounts: Sequence[int] = (a.get("pads") or a["paddings"]) if pads is None else pads.tolist()
    fill = a.get("value", 0.0) if value is None else value.reshape(-1)[0]
    along = [axis % x.ndim for axis in (range(x.ndim) if axes is None else axes.tolist())]
    for axis, before, behind in zip(along, amounts[: len(along)], amounts[len(along) :], strict=True):
        n = x.shape[axis]
        x = np.take(x, range(max(0, -before), n - max(0, -behind)), axis)
        widths = [(max(0, before), max(0, behind)) if i == axis else (0, 0) for i in range(x.ndim)]
        extra = {"constant_values": fill} if a["mode"] == b"constant" else {}
        x = np.pad(x, widths, a["mode"].decode(), **extra)
    return x


def _tile(opset: int, a: dict[str, Any], x: Array, repeats: Array, axis: Array | None = None) -> Array:
    if axis is not None:
        return np.concatenate([x] * int(repeats), int(axis))
    return np.tile(x, repeats)


def _scatter_elements(_: int, a: dict[str, Any], x: Array, indices: Array, updates: Array) -> Array:
    result, axis = x.copy(), a["axis"] % x.ndim
    for place in np.ndindex(*indices.shape):
        chosen = indices[place] % x.shape[axis]
        target = (*place[:axis], int(chosen), *place[axis + 1 :])
        result[target] = REDUCTIONS[a.get("reduction", b"none")](result[target], updates[place])
    return result


def _scatter_nd(_: int, a: dict[str, Any], x: Array, indices: Array, updates: Array) -> Array:
    result = x.copy()
    for place in np.ndindex(*indices.shape[:-1]):
        target = tuple(int(n) for n in indices[place])
        result[target] = REDUCTIONS[a.get("reduction", b"none")](result[target], updates[place])
    return result


REDUCTIONS = {
    b"none": lambda _, u: u,
    b"add": lambda x, u: x + u,
    b"mul": lambda x, u: x * u,
    b"max": np.maximum,
    b"min": np.minimum,
}

OPERATORS: dict[str, Any] = {
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Expand": lambda _, a, x, shape: x * np.ones(shape.astype(int)),
    "Tile": _tile,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Where": lambda _, a, condition, x, y: np.where(condition, x, y),
}
