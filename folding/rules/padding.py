"""Pad: the map passes unchanged inside; the padding needs one map for all of it, which its value absorbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folding.graph.weights import Weight
from folding.refusal import require
from folding.rules.axes import axes_of, integers, placed, require_small, require_uniform, taken
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, Passage, data_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from folding.algebra.affine import Affine, Float64
    from folding.graph.node import Node
    from folding.rules.rule import Ways

INPUTS = 11  # the first opset in which pads and value are inputs
VALUE = 2  # the index of the input with the value


class Frame(NamedTuple):
    """The number of elements added before and after those of an axis; negative numbers crop."""

    before: int
    after: int


def pad_pass_backward(node: Node, a: Affine) -> Ways:
    """``a(pad(x, v)) = pad(b(x), w)``, if ``a(v) = w`` is one number on the frame; b is `a` without the frame."""
    frames, inner = _frames(node, a), a
    for axis in set(a.axes) & set(frames):
        length = a.shape[axis] - sum(frames[axis])
        outputs, inputs = _kept(frames[axis], length, a.shape[axis])
        inner = placed(taken(inner, axis, outputs), axis, inputs, length)
    if not _adds_value(node):
        return [{0: inner}]
    scale, shift = _on_frame(a, frames)
    return [Passage({0: inner}, _with_value(node, scale * _value(node) + shift))]


def pad_pass_forward(node: Node, index: int, a: Affine) -> Passage:
    """``pad(a(x), v) = b(pad(x, w))``, if ``b(w) = v`` for one w; b is `a` inside and the identity on the frame.

    If `a` does not vary along a framed axis, b is `a` on the frame too, so that b does not vary along that axis either.
    """
    data_only(index)
    frames, outer = _frames(node, a), a
    for axis in set(a.axes) & set(frames):
        length = a.shape[axis] + sum(frames[axis])
        outputs, inputs = _kept(frames[axis], a.shape[axis], length)
        outer = placed(taken(outer, axis, inputs), axis, outputs, length)
    if not _adds_value(node):
        return Passage({0: outer})
    value, (scale, shift) = _value(node), _on_frame(outer, frames)
    fixed = scale * value + shift == value
    require(np.all(fixed | (scale != 0)), "zero-padding", "a scale of zero makes another number of what it adds")
    before = np.where(fixed, value, (value - shift) / np.where(scale == 0, 1, scale))
    return Passage({0: outer}, _with_value(node, before))


def _adds_value(node: Node) -> bool:
    """Whether the padding is a constant; in the other modes it copies elements."""
    return bool(node.attribute("mode") == b"constant")


def _frames(node: Node, a: Affine) -> dict[int, Frame]:
    """The frame of each changed axis; refuses a map that varies along an axis to which copies are added."""
    pads = integers(node, "paddings" if "paddings" in node.schema.attributes else "pads", 1) or []
    given = integers(node, "axes", 3)
    axes = axes_of(range(a.rank) if given is None else given, a.rank)
    require(len(pads) == 2 * len(axes), "parameters", f"{len(pads)} pads do not fit {len(axes)} axes")
    frames = dict(zip(axes, map(Frame, pads[: len(axes)], pads[len(axes) :]), strict=True))
    if not _adds_value(node):
        require_uniform(a, [axis for axis, frame in frames.items() if max(frame) > 0])
    return {axis: frame for axis, frame in frames.items() if any(frame)}


def _kept(frame: Frame, length: int, framed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in the framed axis, and the positions in the input's axis, of this length, that they hold."""
    require(min(length, framed) > 0, "parameters", "it crops more than there is")
    require_small((framed,))
    source = np.arange(framed) - frame.before
    outputs = np.flatnonzero((source >= 0) & (source < length))
    return outputs, source[outputs]


def _on_frame(a: Affine, frames: dict[int, Frame]) -> tuple[Float64, Float64]:
    """Scales and shifts of a map on the framed value at all positions of the frame."""
    seen = np.zeros(a.shape, np.bool_)
    for axis, frame in frames.items():
        length = a.shape[axis]
        place = np.arange(length).reshape((length, *(1,) * (a.rank - axis - 1)))
        outside = (place < frame.before) | (place >= length - frame.after)
        seen |= outside | (length == 1 and max(frame) > 0)
    return a.scale[seen], a.shift[seen]


def _value(node: Node) -> float:
    """The value of the padding."""
    if node.version < INPUTS:
        return float(node.attribute("value"))
    if not node.has(VALUE):
        return 0.0
    weight = node.weight(VALUE)
    require(weight.size == 1 and np.isfinite(weight.values()).all(), "non-finite", "it does not add one finite number")
    return float(weight.values().item())


def _with_value(node: Node, wanted: Float64) -> Edit | None:
    """The edit that sets the padding to the one number in `wanted`; None if it already has this value."""
    numbers = np.unique(wanted)
    require(numbers.size <= 1, "zero-padding", "what it adds would differ along the axes of the map")
    if all(number == _value(node) for number in numbers):
        return None
    require(node.version >= INPUTS, "old-opset", "Pad holds its value as a float attribute before opset 11")
    dtype = node.weight(VALUE).dtype if node.has(VALUE) else node.dtype(0)
    require(dtype is not None, "unknown-shape", f"the type of {node.inputs[0]!r} is unknown")
    assert dtype is not None  # noqa: S101  narrowed for the type checker
    shape = node.weight(VALUE).shape if node.has(VALUE) else ()
    return Edit(node, {VALUE: Weight.of(numbers.reshape(shape), dtype)})


RULES = {"Pad": OperatorRule(pass_backward=pad_pass_backward, pass_forward=pad_pass_forward)}
