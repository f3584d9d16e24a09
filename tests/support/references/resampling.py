"""References for operators that resample an image (ONNX operator specification)."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]


def _coordinate(mode: bytes, place: int, scale: float, n: int, roi: tuple[float, float]) -> float:
    """Where in the input an output position lies."""
    length = scale * n
    outputs = math.floor(length)
    if (mode == b"align_corners" and outputs == 1) or (mode == b"pytorch_half_pixel" and outputs <= 1):
        return 0.0
    begin, end = roi
    return {
        b"asymmetric": lambda: place / scale,
        b"align_corners": lambda: place * (n - 1) / (outputs - 1),
        b"pytorch_half_pixel": lambda: (place + 0.5) / scale - 0.5,
        b"half_pixel": lambda: (place + 0.5) / scale - 0.5,
        b"half_pixel_symmetric": lambda: n / 2 * (1 - outputs / length) + (place + 0.5) / scale - 0.5,
        b"tf_half_pixel_for_nn": lambda: (place + 0.5) / scale,
        b"tf_crop_and_resize": lambda: (begin + place * (end - begin) / max(outputs - 1, 1)) * (n - 1),
    }[mode]()


def _nearest(mode: bytes, x: float) -> dict[int, float]:
    rounded = {
        b"floor": math.floor,
        b"ceil": math.ceil,
        b"round_prefer_floor": lambda v: math.ceil(v - 0.5),
        b"round_prefer_ceil": lambda v: math.floor(v + 0.5),
    }
    return {rounded[mode](x): 1.0}


def _filtered(kernel: Callable[[float], float], support: int, x: float, stretch: float) -> dict[int, float]:
    """The weights of an interpolation kernel, stretched where antialiasing shrinks the image."""
    near = range(math.floor(x - support * stretch), math.ceil(x + support * stretch) + 1)
    weights = {i: kernel(abs(i - x) / stretch) for i in near if abs(i - x) < support * stretch}
    total = sum(weights.values())
    return {i: w / total for i, w in weights.items()}


def _cubic(a: float) -> Callable[[float], float]:
    def kernel(d: float) -> float:
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a

    return kernel


def _matrix(a: dict[str, Any], n: int, scale: float, outputs: int, roi: tuple[float, float]) -> Array:
    """The interpolation along one axis as weights (outputs, n + 1); the last column is extrapolation."""
    mode, matrix = a.get("coordinate_transformation_mode", b"asymmetric"), np.zeros((outputs, n + 1))
    stretch = max(1.0, 1 / scale) if a.get("antialias") else 1.0
    for place in range(outputs):
        x = _coordinate(mode, place, scale, n, roi)
        if mode == b"tf_crop_and_resize" and not 0 <= x <= n - 1:
            matrix[place, n] = 1
            continue
        if a["mode"] == b"nearest":
            weights = _nearest(a.get("nearest_mode", b"floor"), x)
        elif a["mode"] in (b"linear", b"bilinear"):
            weights = _filtered(lambda d: 1 - d, 1, x, stretch)
        else:
            weights = _filtered(_cubic(a.get("cubic_coeff_a", -0.75)), 2, x, stretch)
        if a.get("exclude_outside") or a.get("antialias"):
            weights = {i: w for i, w in weights.items() if 0 <= i < n}
            weights = {i: w / sum(weights.values()) for i, w in weights.items()}
        for i, w in weights.items():
            matrix[place, min(max(i, 0), n - 1)] += w
    return matrix


def _resize(_: int, a: dict[str, Any], x: Array, *given: Array | None) -> Array:
    roi, scales, sizes = (None, *given, None)[:3] if len(given) == 1 else (*given, None, None)[:3]
    axes = [axis % x.ndim for axis in a.get("axes") or range(x.ndim)]
    if sizes is not None and sizes.size:
        targets = [int(n) for n in sizes]
        ratios = [n / x.shape[axis] for axis, n in zip(axes, targets, strict=True)]
        policy = a.get("keep_aspect_ratio_policy", b"stretch")
        if policy != b"stretch":
            ratios = [min(ratios) if policy == b"not_larger" else max(ratios)] * len(axes)
            targets = [math.floor(ratios[0] * x.shape[axis] + 0.5) for axis in axes]
    else:
        assert scales is not None
        ratios = [float(s) for s in scales]
        targets = [math.floor(s * x.shape[axis]) for axis, s in zip(axes, ratios, strict=True)]
    for number, (axis, ratio, outputs) in enumerate(zip(axes, ratios, targets, strict=True)):
        part = (0.0, 1.0) if roi is None or not roi.size else (float(roi[number]), float(roi[len(axes) + number]))
        matrix = _matrix(a, x.shape[axis], ratio, outputs, part)
        outer = np.full((*x.shape[:axis], 1, *x.shape[axis + 1 :]), a.get("extrapolation_value", 0.0))
        x = np.moveaxis(np.tensordot(matrix, np.concatenate([x, outer], axis), (1, axis)), 0, axis)
    return x


def _upsample(opset: int, a: dict[str, Any], x: Array, scales: Array | None = None) -> Array:
    if "height_scale" in a:
        scales = np.array([1, 1, a["height_scale"], a["width_scale"]])
    return _resize(opset, a, x, np.array(a["scales"]) if scales is None else scales)


def _depth_to_space(_: int, a: dict[str, Any], x: Array) -> Array:
    b, (n, c, h, w) = a["blocksize"], x.shape
    if a.get("mode") == b"CRD":
        return x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // b**2, h * b, w * b)
    return x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(_: int, a: dict[str, Any], x: Array) -> Array:
    b, (n, c, h, w) = a["blocksize"], x.shape
    order = (0, 1, 3, 5, 2, 4) if a.get("mode") == b"CRD" else (0, 3, 5, 1, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(order).reshape(n, c * b**2, h // b, w // b)


def _grid_sample(_: int, a: dict[str, Any], x: Array, grid: Array) -> Array:
    """Of images: the last axis of the grid holds (x, y) in [-1, 1]."""
    mode, align = a["mode"].replace(b"bilinear", b"linear").replace(b"bicubic", b"cubic"), a["align_corners"]
    result = np.zeros((*x.shape[:2], *grid.shape[1:3]))
    for n, row, column in np.ndindex(*grid.shape[:3]):
        axes = []
        for size, place in zip(x.shape[:1:-1], grid[n, row, column], strict=True):
            at = (place + 1) / 2 * (size - 1) if align else ((place + 1) * size - 1) / 2
            if a["padding_mode"] == b"border" and mode != b"cubic":
                at = min(max(at, 0), size - 1)
            weights = {round(at): 1.0} if mode == b"nearest" else None
            kernel, support = (_cubic(-0.75), 2) if mode == b"cubic" else (lambda d: 1 - d, 1)
            axes.append(weights or _filtered(kernel, support, at, 1.0))
        for (i, w), (j, v) in itertools.product(axes[1].items(), axes[0].items()):
            pixel = _pixel(a["padding_mode"], x[n], i, j, align=align)
            result[n, :, row, column] += w * v * pixel
    return result


def _pixel(padding: bytes, image: Array, row: int, column: int, *, align: int) -> Array:
    """The channels of one pixel, which may lie outside the image."""
    size = image.shape[1:]
    if padding == b"zeros" and not (0 <= row < size[0] and 0 <= column < size[1]):
        return np.zeros(len(image))
    if padding == b"reflection":
        row, column = (_reflected(i, n, align) for i, n in zip((row, column), size, strict=True))
    row, column = (min(max(i, 0), n - 1) for i, n in zip((row, column), size, strict=True))
    return image[:, row, column]


def _reflected(place: int, size: int, align: int) -> int:
    """An index reflected at the ends: at the centres of the outer pixels, or at their outer edges."""
    period = 2 * (size - 1) if align else 2 * size
    if period == 0:
        return 0
    place %= period
    return min(place, period - place) if align else min(place, period - 1 - place)


OPERATORS: dict[str, Any] = {
    "Resize": _resize,
    "Upsample": _upsample,
    "GridSample": _grid_sample,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
