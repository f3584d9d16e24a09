"""Pooling and reductions: means and sums pass a map, maxima a map that keeps the order, norms a scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.affine import Affine
from folding.algebra.regroup import is_size
from folding.refusal import require
from folding.rules.axes import axes_of, integers, length_of, require_uniform
from folding.rules.rule import OperatorRule, commuting, data_only

if TYPE_CHECKING:
    from folding.graph.node import Node
    from folding.rules.rule import Check, Ways

SPATIAL = 2  # the first pooled axis of data (N, C, D1, ...), in every pooling operator
BATCH_AXIS = 0  # of data; the one that a caller may leave empty
LONGEST = 1 << 16  # elements of an axis whose windows are looked at one by one
INDICES = 1  # the output of MaxPool with the positions of the largest elements


# --- conditions on the map ------------------------------------------------------------------------------


def mean_keeps(node: Node, a: Affine) -> None:
    """``a(mean(x)) = mean(a(x))`` for every map: the weights of a mean sum to 1."""


def extreme_keeps(node: Node, a: Affine) -> None:  # noqa: ARG001
    """``a(max(x)) = max(a(x))`` for a scale that is not negative: the map keeps the order."""
    require(np.all(a.scale >= 0), "sign", "a negative scale would make a minimum of a maximum")


def norm_keeps(node: Node, a: Affine) -> None:  # noqa: ARG001
    """``scale * norm(x) = norm(scale * x)`` for a scale that is not negative."""
    require(a.is_linear, "shift-left", "a shift does not pass a norm")
    require(np.all(a.scale >= 0), "sign", "a norm is never negative")


# --- windows ---------------------------------------------------------------------------------------------


def _require_channels(a: Affine) -> None:
    require_uniform(a, range(SPATIAL, a.rank))


def global_pool(check: Check) -> OperatorRule:
    """The rule of an operator that pools all positions of a channel: the map may vary along batch and channel only."""

    def keeps(node: Node, a: Affine) -> None:
        _require_channels(a)
        check(node, a)

    return commuting(keeps)


def average_pool_keeps(node: Node, a: Affine) -> None:
    """Every output is the mean of a window: a scale always passes; a shift does not pass if padding zeros count.

    Zeros count if ``count_include_pad`` is 1 (AveragePool-1 never counts them: onnx's version converter makes of it a
    later one that does not) and a window crosses the border: through padding, or through the last window that
    ceil_mode adds (for which runtimes disagree).
    """
    _require_channels(a)
    if a.is_linear:
        return
    counts = node.attribute("count_include_pad") and (_is_padded(node) or node.attribute("ceil_mode"))
    require(not counts, "zero-padding", "a shift does not pass an average that counts the padding")
    _require_filled_windows(node)


def max_pool_keeps(node: Node, a: Affine) -> None:
    """As for every maximum; padding is below all elements. Indices stay the same only if the map creates no ties."""
    _require_channels(a)
    extreme_keeps(node, a)
    indexed = len(node.outputs) > INDICES and node.outputs[INDICES]
    require(not indexed or np.all(a.scale > 0), "sign", "a scale of zero would make all elements of a window equal")
    _require_filled_windows(node)


def lp_pool_keeps(node: Node, a: Affine) -> None:
    """As for every norm; the zeros of the padding add nothing."""
    _require_channels(a)
    norm_keeps(node, a)


def _is_padded(node: Node) -> bool:
    auto_pad = node.attribute("auto_pad") or b"NOTSET"
    if auto_pad == b"NOTSET":
        return any(node.attribute("pads") or ())
    return bool(auto_pad != b"VALID")


def _require_filled_windows(node: Node) -> None:
    """Require that every window holds an element of the input.

    A window longer than the padding does, unless gaps let it skip the whole input. SAME pads less than a kernel.
    """
    kernel, pads = list(node.attribute("kernel_shape")), node.attribute("pads") or ()
    gaps = any(step != 1 for step in node.attribute("dilations") or ())
    beyond = any(pad >= size for pad, size in zip(pads, kernel * 2, strict=False))
    filled = not _is_padded(node) or not (gaps or beyond) or _is_filled(node, kernel, list(pads))
    require(filled, "zero-padding", "a window may lie in the padding alone")


def _is_filled(node: Node, kernel: list[int], pads: list[int]) -> bool:
    """Whether every window of a pool with these pads, of both ends, holds an element; the lengths must be known."""
    rank, lengths = len(kernel), node.shape(0)[SPATIAL:]
    known = [n for n in lengths if is_size(n) and n <= LONGEST]
    if len(pads) != 2 * rank or len(known) != rank:
        return False
    steps, strides = (list(node.attribute(name) or [1] * rank) for name in ("dilations", "strides"))
    for n, taps, step, stride, before, after in zip(known, kernel, steps, strides, pads, pads[rank:], strict=False):
        room = n + before + after - (taps - 1) * step - 1
        starts = np.arange(0, max(room, 0) + stride, stride) - before  # ceil_mode may add the last one
        places = starts[:, None] + np.arange(taps) * step
        held = ((places >= 0) & (places < n)).any(axis=1)
        if not held[: None if node.attribute("ceil_mode") else max(room, 0) // stride + 1].all():
            return False
    return True


# --- reductions ------------------------------------------------------------------------------------------


def _reduced(node: Node, rank: int) -> tuple[int, ...]:
    """The axes that a reduction reduces, for an input of this rank."""
    given = integers(node, "axes", 1)
    if not given:
        return () if node.attribute("noop_with_empty_axes") else tuple(range(rank))
    return tuple(axes_of(given, rank))


def reduced_mean_keeps(node: Node, a: Affine) -> None:
    """As `mean_keeps`, but of nothing ONNX Runtime computes the mean 0: a shift needs a batch that is not empty."""
    mean_keeps(node, a)
    if not a.is_linear:
        shape = node.shape(0)
        for axis in _reduced(node, len(shape)):
            may_be_empty = shape[axis] == 0 or (axis == BATCH_AXIS and not is_size(shape[axis]))
            require(not may_be_empty, "unknown-shape", f"axis {axis} may be empty, and the mean of nothing is 0")


def _before(node: Node, a: Affine) -> Affine:
    """The map on the input, with the reduced axes, along which it does not vary."""
    if node.attribute("keepdims"):
        return a
    axes = _reduced(node, node.rank(0))
    require(len(axes) + a.rank == node.rank(0), "parameters", "its axes do not fit the ranks")
    return Affine.of(np.expand_dims(a.scale, axes), np.expand_dims(a.shift, axes))


def _after(node: Node, a: Affine) -> Affine:
    """The map on the output, without the axes that the reduction removes."""
    axes = _reduced(node, a.rank)
    require_uniform(a, axes)
    return a if node.attribute("keepdims") else Affine.of(a.scale.squeeze(axes), a.shift.squeeze(axes))


def reduction(check: Check) -> OperatorRule:
    """The rule of a reduction: the map must not vary along the reduced axes, which the output may not have."""

    def backward(node: Node, a: Affine) -> Ways:
        check(node, a)
        return [{0: _before(node, a)}]

    def forward(node: Node, index: int, a: Affine) -> Affine:
        data_only(index)
        check(node, a)
        return _after(node, a)

    return OperatorRule(pass_backward=backward, pass_forward=forward)


def sum_pass_backward(node: Node, a: Affine) -> Ways:
    """``scale * sum(x) + shift = sum(scale * x + shift / n)`` over n elements."""
    before = _before(node, a)
    return [{0: before if a.is_linear else Affine.of(before.scale, before.shift / _count(node))}]


def sum_pass_forward(node: Node, index: int, a: Affine) -> Affine:
    """``sum(scale * x + shift) = scale * sum(x) + n * shift`` over n elements."""
    data_only(index)
    after = _after(node, a)
    return after if a.is_linear else Affine.of(after.scale, after.shift * _count(node))


def _count(node: Node) -> int:
    """The number of elements that are reduced to one."""
    shape = node.shape(0)
    return math.prod(length_of(shape, axis) for axis in _reduced(node, len(shape)))


# --- running sums ----------------------------------------------------------------------------------------


def cumulative_sum_keeps(node: Node, a: Affine) -> None:
    """``scale * cumsum(x) = cumsum(scale * x)``, if the scale does not vary along the summed axis."""
    require(a.is_linear, "shift-left", "a shift would grow along a running sum")
    axis = node.integers(1)
    require(axis is not None, "unknown-shape", "its axis is computed at run time")
    require_uniform(a, axes_of(axis or (), a.rank))


RULES = {
    "AveragePool": commuting(average_pool_keeps),
    "MaxPool": commuting(max_pool_keeps),
    "LpPool": commuting(lp_pool_keeps),
    "GlobalAveragePool": global_pool(mean_keeps),
    "GlobalMaxPool": global_pool(extreme_keeps),
    "GlobalLpPool": global_pool(norm_keeps),
    "ReduceMean": reduction(reduced_mean_keeps),
    "ReduceMax": reduction(extreme_keeps),
    "ReduceMin": reduction(extreme_keeps),
    "ReduceL1": reduction(norm_keeps),
    "ReduceL2": reduction(norm_keeps),
    "ReduceSum": OperatorRule(pass_backward=sum_pass_backward, pass_forward=sum_pass_forward),
    "CumSum": commuting(cumulative_sum_keeps),
}
