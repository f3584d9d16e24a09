"""Rows of the rules for operators that resample an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.models import SITE, Model
from tests.support.rows.row import Kept, into, out, since, start

if TYPE_CHECKING:
    from tests.support.rows.row import Row

GRID_MODES = 20  # the first operator set with their new names


def resize(m: Model, x: str, *scales: float, **attributes: Any) -> str:
    return m.op("Resize", x, "", m.constant(np.array(scales, np.float32), dtype=np.float32), **attributes)


def resize_to(m: Model, x: str, *sizes: int, **attributes: Any) -> str:
    return m.op("Resize", x, "", "", m.constant(np.array(sizes, np.int64)), **attributes)


def cropped(m: Model) -> None:
    """An image with values from beyond its border."""
    roi, scales = (
        m.constant(np.array(v, np.float32), dtype=np.float32) for v in ([0, 0, -0.5, 0, 1, 1, 1.5, 1], [1, 1, 2, 1])
    )
    out(
        m,
        m.bn(
            m.op(
                "Resize",
                m.conv(start(m), 6),
                roi,
                scales,
                coordinate_transformation_mode="tf_crop_and_resize",
                mode="linear",
            )
        ),
    )


def run_time_sizes(m: Model, declare: list[int | str]) -> None:
    """As an exporter writes it: to the size of another value."""
    x = m.conv(start(m), 6)
    out(m, m.bn(m.op("Resize", x, "", "", m.op("Shape", m.x(2, 6, 4, 8, declare=declare)))))


def tiled(m: Model, x: str, times: int = 4) -> str:
    """A scale per channel with `times` equal periods (or runs: pass the negative)."""
    c = m.at(x).shape[1] // abs(times)
    values = m.random.uniform(0.5, 2, c)
    values = np.tile(values, times) if times > 0 else np.repeat(values, -times)
    return m.op("Mul", x, m.constant(values.reshape(1, -1, 1, 1)), name=SITE)


def gemm_rows(m: Model) -> str:
    """A Gemm whose constant is on the left, so it absorbs along the rows."""
    return m.op("Gemm", m.constant((3, 4)), start(m, 4, 5))


def positive(m: Model) -> str:
    """Scales 1, 1, 2, 2 that only the caller knows."""
    name = m.x(4, dtype=np.float32)
    m.feeds[name] = np.array([1, 1, 2, 2], np.float32)
    m.values[name] = m.feeds[name].astype(np.float64)
    return name


RESIZE: list[Row] = [
    (f"Resize, {mode}", lambda m, mode=mode: out(m, m.bn(resize(m, m.conv(start(m), 6), 1, 1, 2, 1.5, mode=mode))), into("Conv", direction="backward"))
    for mode in ("nearest", "linear", "cubic")
] + [
    (f"before Resize, {mode}", lambda m, mode=mode: out(m, m.conv(resize(m, m.bn(start(m)), 1, 1, 0.7, 2, mode="linear", coordinate_transformation_mode=mode), 6, kernel=1)), into("Conv", direction="forward"))
    for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
] + [
    ("Resize, exclude_outside", lambda m: out(m, m.bn(resize(m, m.conv(start(m), 6), 1, 1, 2, 0.6, mode="cubic", exclude_outside=1))), into("Conv")),
    ("Resize to sizes", lambda m: out(m, m.bn(resize_to(m, m.conv(start(m), 6), 2, 6, 7, 5, mode="linear"))), into("Conv")),
    ("Resize to sizes known at run time", lambda m: run_time_sizes(m, [2, 6, "H", "W"]), into("Conv")),
    ("Resize to unknown sizes", lambda m: run_time_sizes(m, [2, "C", "H", "W"]), Kept("unknown-shape", "barrier")),
    ("before Resize to other channels", lambda m: out(m, m.conv(resize_to(m, m.bn(start(m)), 2, 8, 5, 6), 6)), Kept("barrier", "axis")),
    ("before Resize of the channels", lambda m: out(m, m.conv(resize(m, m.bn(start(m)), 1, 1.1, 2, 1), 6)), Kept("barrier", "axis")),
    ("Resize, a map along the image", lambda m: out(m, m.per_channel("Mul", resize(m, m.conv(start(m), 6), 1, 1, 2, 1), axis=2)), Kept("axis", "barrier")),
    ("Resize, a map along the axis that stays", lambda m: out(m, m.per_channel("Mul", resize(m, gemm_rows(m), 1, 2), axis=0)), into("Gemm")),
    ("Resize by scales that are computed", lambda m: out(m, m.bn(m.op("Resize", m.conv(start(m), 6), "", positive(m)))), Kept("unknown-shape", "barrier")),
    ("Resize by scales that are computed, one map", lambda m: out(m, m.op("Add", m.op("Resize", m.conv(start(m), 6), "", positive(m)), m.constant(np.array(0.3)), name=SITE)), into("Conv")),
    ("Resize, extrapolated", cropped, Kept("zero-padding", "barrier")),
    ("as the sizes' roi", lambda m: out(m, m.op("Resize", m.x(2, 3), m.op("Add", m.op("Elu", m.x(4)), m.constant((4,)), name=SITE), m.constant(np.array([1, 2], np.float32), dtype=np.float32))), Kept("barrier", "not-data-input")),
]  # fmt: skip


BLOCKS: list[Row] = [
    (f"DepthToSpace, {mode}", lambda m, mode=mode: out(m, m.bn(m.op("DepthToSpace", m.conv(start(m), 12), blocksize=2, mode=mode))), into("Conv", direction="backward"))
    for mode in ("DCR", "CRD")
] + [
    ("DepthToSpace of blocks of one", lambda m: out(m, m.bn(m.op("DepthToSpace", m.conv(start(m), 6), blocksize=1))), into("Conv")),
    ("before DepthToSpace, DCR", lambda m: out(m, m.conv(m.op("DepthToSpace", tiled(m, start(m, 2, 8, 2, 3)), blocksize=2), 6)), into("Conv", direction="forward")),
    ("before DepthToSpace, CRD", lambda m: out(m, m.conv(m.op("DepthToSpace", tiled(m, start(m, 2, 8, 2, 3), -4), blocksize=2, mode="CRD"), 6)), into("Conv", direction="forward")),
    ("before DepthToSpace, the other order", lambda m: out(m, m.conv(m.op("DepthToSpace", tiled(m, start(m, 2, 8, 2, 3)), blocksize=2, mode="CRD"), 6)), Kept("barrier", "axis")),
    ("before DepthToSpace, every channel its own map", lambda m: out(m, m.conv(m.op("DepthToSpace", m.bn(start(m, 2, 8, 2, 3)), blocksize=2), 6)), Kept("barrier", "axis")),
    ("DepthToSpace, one map", lambda m: out(m, m.op("Add", m.op("DepthToSpace", m.conv(start(m), 8), blocksize=2), m.constant(np.array(0.3)), name=SITE)), into("Conv")),
    ("before DepthToSpace, one map", lambda m: out(m, m.conv(m.op("DepthToSpace", m.op("Add", start(m, 2, 8, 2, 3), m.constant(np.array(0.3)), name=SITE), blocksize=2), 6)), into("Conv")),
    ("DepthToSpace, a map along the image", lambda m: out(m, m.per_channel("Mul", m.op("DepthToSpace", m.conv(start(m), 12), blocksize=2), axis=2)), Kept("axis", "barrier")),
    ("DepthToSpace, a map along the batch", lambda m: out(m, m.op("Mul", m.op("DepthToSpace", m.op("Sum", m.constant((2, 8, 2, 3))), blocksize=2), m.constant((2, 2, 1, 1)), name=SITE)), into("DepthToSpace")),
    ("SpaceToDepth", lambda m: out(m, tiled(m, m.op("SpaceToDepth", m.conv(start(m, 2, 4, 6, 6), 3), blocksize=2))), into("Conv", direction="backward")),
    ("SpaceToDepth, every channel its own map", lambda m: out(m, m.bn(m.op("SpaceToDepth", m.conv(start(m, 2, 4, 6, 6), 3), blocksize=2))), Kept("axis", "barrier")),
    ("before SpaceToDepth", lambda m: out(m, m.conv(m.op("SpaceToDepth", m.bn(start(m, 2, 3, 4, 6)), blocksize=2), 6, kernel=1)), into("Conv", direction="forward")),
]  # fmt: skip


def sampled(m: Model, x: str, padding: str, mode: str = "bilinear", **attributes: Any) -> str:
    """GridSample at positions of which some lie outside the image."""
    grid = m.constant(m.random.uniform(-1.5, 1.5, (m.at(x).shape[0], 3, 3, 2)))
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode) if m.opset >= GRID_MODES else mode
    return m.op("GridSample", x, grid, padding_mode=padding, mode=mode, **attributes)


GRID: list[Row] = [
    (name, since(16, build), expected)
    for name, build, expected in [
        ("GridSample", lambda m: out(m, m.bn(sampled(m, m.conv(start(m), 6), "border"))), into("Conv", direction="backward")),
        ("GridSample, nearest", lambda m: out(m, m.bn(sampled(m, m.conv(start(m), 6), "border", "nearest", align_corners=1))), into("Conv")),
        ("GridSample, cubic", lambda m: out(m, m.bn(sampled(m, m.conv(start(m), 6), "border", "bicubic"))), into("Conv")),
        ("GridSample, reflection", lambda m: out(m, m.bn(sampled(m, m.conv(start(m), 6), "reflection"))), into("Conv")),
        ("GridSample, reflection, cubic", lambda m: out(m, m.bn(sampled(m, m.conv(start(m), 6), "reflection", "bicubic", align_corners=1))), into("Conv")),
        ("before GridSample", lambda m: out(m, m.conv(sampled(m, m.bn(start(m)), "border"), 6)), into("Conv", direction="forward")),
        ("GridSample, zeros", lambda m: out(m, m.per_channel("Mul", sampled(m, m.conv(start(m), 6), "zeros"))), into("Conv")),
        ("GridSample, zeros, cubic", lambda m: out(m, m.per_channel("Mul", sampled(m, m.conv(start(m), 6), "zeros", "bicubic"))), into("Conv")),
        ("before GridSample, zeros", lambda m: out(m, m.conv(sampled(m, m.per_channel("Div", start(m)), "zeros"), 6)), into("Conv")),
        ("GridSample, zeros, a shift", lambda m: out(m, m.per_channel("Add", sampled(m, m.conv(start(m), 6), "zeros"))), Kept("zero-padding", "barrier")),
        ("before GridSample, zeros, a shift", lambda m: out(m, m.conv(sampled(m, m.per_channel("Add", start(m)), "zeros"), 6)), Kept("barrier", "zero-padding")),
        ("GridSample, a map along the image", lambda m: out(m, m.per_channel("Mul", sampled(m, m.op("MatMul", start(m), m.constant((6, 3))), "border"), axis=3)), Kept("axis", "barrier")),
        ("before GridSample, a map along the image", lambda m: out(m, m.conv(sampled(m, m.per_channel("Mul", start(m), axis=2), "border"), 6)), Kept("barrier", "axis")),
        ("a grid before GridSample", lambda m: out(m, m.op("GridSample", start(m, 2, 4, 5, 6), m.op("Mul", start(m, 2, 3, 3, 2), m.constant(np.array(0.3)), name=SITE))), Kept("barrier", "not-data-input")),
    ]
]  # fmt: skip

ROWS = RESIZE + GRID + BLOCKS
