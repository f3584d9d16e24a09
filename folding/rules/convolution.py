"""Convolutions absorb a following map on their output channels, and a preceding map on their input channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.refusal import Refused, require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, along, bias_edit, data_only

if TYPE_CHECKING:
    from folding.algebra.affine import Affine
    from folding.graph.node import Node
    from folding.graph.weights import Weight

CHANNEL_AXIS = 1  # of data, in every convolution (operators Conv and ConvTranspose)
LEAST_RANK = 3  # of weights: two channel axes and a kernel
BIAS = {"Conv": 2, "ConvTranspose": 2, "DeformConv": 3}  # the input that is the bias, if there is one


def _weight(node: Node, a: Affine) -> tuple[Weight, int]:
    """The constant weight and the number of groups."""
    weight, group = node.weight(1), int(node.attribute("group"))
    rank = len(weight.shape)
    if rank < LEAST_RANK or rank != a.rank:
        raise Refused("parameters", f"the weight has rank {rank}, the data {a.rank}")
    if group <= 0 or weight.size == 0 or weight.shape[0] % group:
        raise Refused("parameters", f"{group} groups do not divide the weight {list(weight.shape)}")
    return weight, group


def conv_absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * conv(x, W, b) + shift = conv(x, scale * W, scale * b + shift)``; the scale applies to the rows of W.

    It holds for any padding, stride, dilation, offset, mask and group: W is (M, C/group, *kernel), one row per output.
    """
    weight, _ = _weight(node, a)
    outputs = weight.shape[0]
    scale, shift = along(a, CHANNEL_AXIS, outputs, "the convolution's outputs")
    scaled = weight.scaled((outputs, weight.size // outputs), scale.reshape(-1, 1))
    return Edit(node, {1: scaled, **bias_edit(node, BIAS[node.op], scale, shift, weight)})


def conv_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``conv(scale * x + shift, W, b) = conv(x, W * scale, b + sum(W * shift))``, with scale along the inputs of W.

    The sum runs over the inputs and the kernel of one output. A shift requires a convolution without padding,
    because padding inserts zeros after the map, and they would become zeros before it.
    """
    data_only(index)
    weight, group = _weight(node, a)
    outputs, inputs, kernel = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
    scale, shift = along(a, CHANNEL_AXIS, group * inputs, "the convolution's inputs")
    require(a.is_linear or not is_padded(node, weight), "zero-padding", "a shift does not pass zero padding")
    view, per_input = (group, outputs // group, inputs, kernel), (group, 1, inputs, 1)
    added = np.zeros(outputs)
    if not a.is_linear:
        added = weight.contract(view, shift.reshape(per_input), axes=(2, 3)).reshape(outputs)
    scaled = weight.scaled(view, scale.reshape(per_input))
    return Edit(node, {1: scaled, **bias_edit(node, BIAS[node.op], np.ones(outputs), added, weight)})


def transpose_absorb_backward(node: Node, a: Affine) -> Edit:
    """As for Conv; W is (C, M/group, *kernel) and is read as (group, C/group, M/group, kernel)."""
    weight, group = _weight(node, a)
    inputs, outputs, kernel = weight.shape[0] // group, weight.shape[1], math.prod(weight.shape[2:])
    scale, shift = along(a, CHANNEL_AXIS, group * outputs, "the convolution's outputs")
    scaled = weight.scaled((group, inputs, outputs, kernel), scale.reshape(group, 1, outputs, 1))
    return Edit(node, {1: scaled, **bias_edit(node, BIAS[node.op], scale, shift, weight)})


def transpose_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``convT(scale * x, W, b) = convT(x, scale * W, b)``; the scale applies to the rows of W (C, M/group, *kernel).

    The number of kernel taps differs between outputs, so a shift is absorbed only if each output has exactly one
    tap: kernel 1, stride 1, no cropping or padding. It then adds ``sum over inputs of W * shift`` to the bias.
    """
    data_only(index)
    weight, group = _weight(node, a)
    inputs, outputs, kernel = weight.shape[0] // group, weight.shape[1], math.prod(weight.shape[2:])
    scale, shift = along(a, CHANNEL_AXIS, group * inputs, "the convolution's inputs")
    require(
        a.is_linear or is_pointwise(node, weight),
        "zero-padding",
        "a shift passes a transposed convolution only with kernel 1 and stride 1",
    )
    added = np.zeros(group * outputs)
    if not a.is_linear:
        view = (group, inputs, outputs, kernel)
        added = weight.contract(view, shift.reshape(group, inputs, 1, 1), axes=(1, 3)).reshape(-1)
    scaled = weight.scaled((group * inputs, outputs * kernel), scale.reshape(-1, 1))
    return Edit(node, {1: scaled, **bias_edit(node, BIAS[node.op], np.ones(group * outputs), added, weight)})


def is_padded(node: Node, weight: Weight) -> bool:
    """Whether any output of a convolution reads padding. With auto_pad SAME, only a kernel of 1 never does.

    The offsets of DeformConv are computed at run time, so its samples may lie outside the input, where all is zero.
    """
    if node.op == "DeformConv":
        return True
    auto_pad = node.attribute("auto_pad") or b"NOTSET"
    if auto_pad == b"NOTSET":
        return any(node.attribute("pads") or ())
    return bool(auto_pad != b"VALID") and math.prod(weight.shape[2:]) > 1


def is_pointwise(node: Node, weight: Weight) -> bool:
    """Whether a transposed convolution maps each position to itself."""
    ones = (*weight.shape[2:], *(node.attribute("strides") or ()))
    zeros = (*(node.attribute("pads") or ()), *(node.attribute("output_padding") or ()))
    free = (node.attribute("auto_pad") or b"NOTSET") in (b"NOTSET", b"VALID") and not node.attribute("output_shape")
    return free and all(n == 1 for n in ones) and not any(zeros)


CONV = OperatorRule(absorb_backward=conv_absorb_backward, absorb_forward=conv_absorb_forward)

RULES = {
    "Conv": CONV,
    "DeformConv": CONV,
    "ConvTranspose": OperatorRule(absorb_backward=transpose_absorb_backward, absorb_forward=transpose_absorb_forward),
}
