"""Steps with operators that resample an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.strategies.graphs import Growing

SCALES = (1.0, 1.0, 0.5, 1.5, 2.0)
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")


def resize(g: Growing) -> None:
    x = g.pick(3, 4)
    if x is None:
        return
    shape = g.shape(x)
    scales = [g.one_of(1.0, 1.0, 1.0, 2.0) for _ in shape[:2]] + [g.one_of(*SCALES) for _ in shape[2:]]
    scales = [s if n * s >= 1 else 1.0 for s, n in zip(scales, shape, strict=True)]
    extra = {"mode": g.one_of("nearest", "linear", "cubic"), "coordinate_transformation_mode": g.one_of(*COORDINATES)}
    if extra["mode"] == "cubic":
        extra["exclude_outside"] = g.one_of(0, 1)
    if g.m.opset >= 18 and extra["mode"] != "nearest":
        extra["antialias"] = g.one_of(0, 1)
    axes = list(range(len(shape)))
    if g.m.opset >= 18 and g.one_of(True, False):
        axes = axes[2:]
        extra["axes"] = axes
    if g.one_of(True, False):
        sizes = [int(n * s) for n, s in zip(shape, scales, strict=True)]
        g.add(g.m.op("Resize", x, "", "", g.index([sizes[axis] for axis in axes]), **extra))
    else:
        given = np.array([scales[axis] for axis in axes], np.float32)
        g.add(g.m.op("Resize", x, "", g.m.constant(given, dtype=np.float32), **extra))


def depth_to_space(g: Growing) -> None:
    x = g.pick(4)
    if x is None:
        return
    if g.shape(x)[1] % 4:
        x = g.m.conv(x, 4 * g.one_of(1, 2), kernel=1)
    g.add(g.m.op("DepthToSpace", x, blocksize=2, mode=g.one_of("DCR", "CRD")))


def space_to_depth(g: Growing) -> None:
    x = g.pick(4)
    if x is not None and not any(n % 2 for n in g.shape(x)[2:]):
        g.add(g.m.op("SpaceToDepth", x, blocksize=2))


def grid_sample(g: Growing) -> None:
    x = g.pick(4)
    if x is None or g.m.opset < 16:
        return
    n = g.shape(x)[0]
    grid = g.m.constant(g.m.random.uniform(-1.5, 1.5, (n, g.one_of(1, 2, 3), 2, 2)))
    modes = ("linear", "nearest", "cubic") if g.m.opset >= 20 else ("bilinear", "nearest", "bicubic")
    padding = g.one_of("zeros", "border", "reflection")
    g.add(g.m.op("GridSample", x, grid, mode=g.one_of(*modes), padding_mode=padding, align_corners=g.one_of(0, 1)))


STEPS: dict[str, Callable[[Growing], None]] = {
    "Resize": resize,
    "GridSample": grid_sample,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
