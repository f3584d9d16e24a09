"""The reference of the families of products, normalizations and activations that scale with their input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + epsilon)


def _per_channel(values: Array, rank: int) -> Array:
    return values.reshape(-1, *(1,) * (rank - 2))


def _instance(_: int, a: dict[str, Any], x: Array, scale: Array, bias: Array) -> Array:
    result = _normalized(x, tuple(range(2, x.ndim)), a["epsilon"])
    return _per_channel(scale, x.ndim) * result + _per_channel(bias, x.ndim)


def _group(_: int, a: dict[str, Any], x: Array, scale: Array, bias: Array) -> Array:
    grouped = x.reshape(x.shape[0], a["num_groups"], -1)
    result = _normalized(grouped, (2,), a["epsilon"]).reshape(x.shape)
    return _per_channel(scale, x.ndim) * result + _per_channel(bias, x.ndim)


def _layer(_: int, a: dict[str, Any], x: Array, scale: Array, bias: Array | None = None) -> Array:
    axes = tuple(range(a["axis"] % x.ndim, x.ndim))
    result = _normalized(x, axes, a["epsilon"]) * scale
    return result if bias is None else result + bias


def _rms(_: int, a: dict[str, Any], x: Array, scale: Array) -> Array:
    axes = tuple(range(a["axis"] % x.ndim, x.ndim))
    return x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + a["epsilon"]) * scale


def _prelu(opset: int, _: dict[str, Any], x: Array, slope: Array) -> Array:
    if opset < 7 and slope.size > 1:
        slope = _per_channel(slope, x.ndim)
    return np.where(x < 0, slope * x, x)


def _deform_conv(
    _: int,
    a: dict[str, Any],
    x: Array,
    w: Array,
    offset: Array,
    bias: Array | None = None,
    mask: Array | None = None,
) -> Array:
    """Of images only."""
    (n, channels), size, kernel, parts = x.shape[:2], offset.shape[2:], w.shape[2:], a["offset_group"]
    strides, dilations = a.get("strides") or [1, 1], a.get("dilations") or [1, 1]
    pads, group = a.get("pads") or [0] * 4, a["group"]
    offset = offset.reshape(n, parts, *kernel, 2, *size)
    mask = np.ones((n, parts, *kernel, *size)) if mask is None else mask.reshape(n, parts, *kernel, *size)
    taken = np.zeros((n, channels, *kernel, *size))
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"))
    for tap in itertools.product(*map(range, kernel)):
        for part, image in itertools.product(range(parts), range(n)):
            place = [grid[i] * strides[i] - pads[i] + tap[i] * dilations[i] for i in range(2)]
            place = np.stack(place) + offset[(image, part, *tap)]
            own = slice(part * channels // parts, (part + 1) * channels // parts)
            taken[(image, own, *tap)] = _sampled(x[image, own], place) * mask[(image, part, *tap)]
    grouped, ws = taken.reshape(n, group, -1, *kernel, *size), w.reshape(group, -1, *w.shape[1:])
    y = np.einsum("ngcijhw,gmcij->ngmhw", grouped, ws).reshape(n, -1, *size)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def _sampled(x: Array, place: Array) -> Array:
    """Bilinear samples of (C, H, W) at `place` (2, h, w); zero outside."""
    result = np.zeros((x.shape[0], *place.shape[1:]))
    low = np.floor(place).astype(int)
    for corner in itertools.product(range(2), range(2)):
        near = low + np.array(corner).reshape(2, 1, 1)
        inside = np.all([(near[i] >= 0) & (near[i] < x.shape[1 + i]) for i in range(2)], axis=0)
        share = np.prod(1 - np.abs(place - near), axis=0)
        row, column = (np.clip(near[i], 0, x.shape[1 + i] - 1) for i in range(2))
        result += x[:, row, column] * share * inside
    return result


OPERATORS: dict[str, Any] = {
    "InstanceNormalization": _instance,
    "GroupNormalization": _group,
    "LayerNormalization": _layer,
    "RMSNormalization": _rms,
    "Einsum": lambda _, a, *xs: np.einsum(a["equation"].decode(), *xs),
    "Mean": lambda _, a, *xs: sum(xs) / len(xs),
    "LeakyRelu": lambda _, a, x: np.where(x < 0, a["alpha"] * x, x),
    "PRelu": _prelu,
    "Abs": lambda _, a, x: np.abs(x),
    "DeformConv": _deform_conv,
}
