"""Rewrite a BatchNormalization that stays: inference mode if requested, then Mul + Add or a depthwise Conv."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from folding.editing.surgery import drop_attributes, drop_inputs, drop_outputs, retype, set_attributes, set_constant
from folding.graph.sites import MODE_AS_ATTRIBUTE, NORMALIZATION, affine_of, in_training_mode, read_outputs, value_type
from folding.graph.weights import Weight
from folding.planning.calibration import calibrate
from folding.planning.commit import append_affine, rewrite_as_affine
from folding.planning.makers import require_makers
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.algebra.affine import Affine
    from folding.graph.node import Node
    from folding.options import Options

TRAINING_MODE_SINCE = 14  # BatchNormalization-14 has the attribute; before it, a second output meant training
IMAGE_RANK = 3  # the minimum rank that a Conv accepts


def freeze_training(nodes: Iterable[Node], options: Options) -> int:
    """Turn training mode off where nothing reads the updated statistics; return the number of changed operators.

    That of a constant stays: its statistics are those of the constant, a standardized weight, and no batch's. With the
    statistics of samples, normalizations in nested graphs and functions stay too: their values are no outputs.

    Raises:
        OptionError: the original does not run on the samples.
    """
    chosen = [node for node in nodes if trains(node) and not read_outputs(node)]
    if options.freeze_training == "samples":
        chosen = calibrate([node for node in chosen if node.scope is node.scope.graph.main], options)
    for node in chosen:
        _freeze(node)
    return len(chosen)


def trains(node: Node) -> bool:
    """Whether an operator normalizes by the statistics of a batch."""
    try:
        return node.op == NORMALIZATION and in_training_mode(node) and not node.is_constant(0)
    except Refused:
        return False


def _freeze(node: Node) -> None:
    name, value = ("is_test", 1) if node.version < MODE_AS_ATTRIBUTE else ("training_mode", 0)
    has_mode = node.version < MODE_AS_ATTRIBUTE or node.version >= TRAINING_MODE_SINCE
    drop_outputs(node, 1)
    if has_mode:
        set_attributes(node, {name: value})
    else:
        drop_attributes(node, {name})


def rewrite(node: Node, options: Options) -> bool:
    """Write a BatchNormalization that stays in the requested form; return whether that was possible."""
    try:
        affine = affine_of(node).affine
        require_makers(options, node, range(len(node.inputs)))
    except Refused:
        return False
    dtype = value_type(node)
    if dtype is None:
        return False
    write = _as_convolution if options.leftover == "conv" else _as_affine
    node.is_made = write(node, affine, dtype)
    return node.is_made


def _as_affine(node: Node, a: Affine, dtype: np.dtype[Any]) -> bool:
    graph = node.scope.graph
    if not (graph.computes("Mul", dtype) and graph.computes("Add", dtype)):
        return False
    first = a.shift_part() if a.is_shift else a.linear_part()
    rewrite_as_affine(node, first, node.key)
    if not a.is_shift and not a.is_linear:
        append_affine(node, a.shift_part(), node.key)
    return True


def _as_convolution(node: Node, a: Affine, dtype: np.dtype[Any]) -> bool:
    """``scale * x + shift`` as a convolution of kernel 1 with one group per channel."""
    channels = node.weight(1).shape[0]
    shape = node.scope.values.shape(node.scope, node.inputs[0]) or ()
    if 0 in shape[2:]:  # ONNX Runtime's Conv refuses an image of size 0
        return False
    if a.rank < IMAGE_RANK or not a.varies_only_along(1) or not node.scope.graph.computes("Conv", dtype):
        return False
    kernel = (1,) * (a.rank - 2)
    scale, shift = (np.broadcast_to(part.reshape(-1), channels) for part in (a.scale, a.shift))
    drop_outputs(node, 1)
    retype(node, "Conv", {"group": channels, "kernel_shape": kernel})
    weight = Weight.of(scale.reshape(channels, 1, *kernel), dtype, is_scale=True)
    set_constant(node, 1, weight, node.key)
    set_constant(node, 2, Weight.of(np.array(shift), dtype), node.key)
    drop_inputs(node, 3)
    return True
