"""Normalizations absorb a following map into their scale and bias, and a preceding shift that their mean removes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from folding.graph.sites import affine_of
from folding.graph.weights import Weight
from folding.refusal import require
from folding.rules.axes import axes_of
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, along, bias_edit, data_only

if TYPE_CHECKING:
    from folding.algebra.affine import Affine, Float64
    from folding.graph.idioms import Occurrence
    from folding.graph.node import Node

CHANNEL_AXIS = 1
SCALE, BIAS = 1, 2  # inputs of every normalization


def batch_absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * BN(x) + shift``: gamma becomes ``scale * gamma``, beta ``scale * beta + shift``."""
    gamma, beta = _gamma_beta(node)
    scale, shift = _per_parameter(a, gamma)
    return _edit(node, scale * gamma.values(), scale * beta.values() + shift)


def batch_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``BN(scale * x + shift)`` with BN(x) = s * (x - mean) + beta.

    gamma becomes ``scale * gamma`` and beta ``beta + s * (shift + (scale - 1) * mean)``; mean and var stay.
    """
    data_only(index)
    gamma, beta = _gamma_beta(node)
    scale, shift = _per_parameter(a, gamma)
    s, _ = _per_parameter(affine_of(node).affine, gamma)
    mean = node.weight(3).values()
    return _edit(node, scale * gamma.values(), beta.values() + s * (shift + (scale - 1) * mean))


def _gamma_beta(node: Node) -> tuple[Weight, Weight]:
    affine_of(node)  # raises for training mode and unusual parameters
    return node.weight(SCALE), node.weight(BIAS)


def _per_parameter(a: Affine, gamma: Weight) -> tuple[Float64, Float64]:
    """Scale and shift in the shape of the parameters: (C,), or (C, D1, ...) before opset 9 with spatial 0."""
    shape = (1, *gamma.shape, *(1,) * (a.rank - 1 - len(gamma.shape)))
    fits = all(n in (1, length) for n, length in zip(a.shape, shape, strict=True))
    require(fits, "axis", f"the map has the shape {list(a.shape)}, the normalization's parameters {list(gamma.shape)}")
    scale, shift = (np.broadcast_to(part, shape).reshape(gamma.shape) for part in (a.scale, a.shift))
    return scale, shift


def _edit(node: Node, gamma: Float64, beta: Float64) -> Edit:
    old = node.weight(SCALE), node.weight(BIAS)
    new = {
        index + 1: Weight.of(values, weight.dtype, is_scale=index == 0)
        for index, (weight, values) in enumerate(zip(old, (gamma, beta), strict=True))
        if not np.array_equal(weight.values(), values)
    }
    return Edit(node, new)


# --- normalizations by the statistics of the value itself -------------------------------------------------


def instance_absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * (gamma * n(x) + beta) + shift = (scale * gamma) * n(x) + (scale * beta + shift)``, per channel."""
    gamma = node.weight(SCALE)
    require(len(gamma.shape) == 1, "parameters", f"its scale has the shape {list(gamma.shape)}")
    scale, shift = along(a, CHANNEL_AXIS, gamma.size, "the normalization's channels")
    scaled = Weight.of(scale * gamma.values(), gamma.dtype, is_scale=True)
    return Edit(node, {SCALE: scaled, **bias_edit(node, BIAS, scale, shift, gamma)})


def instance_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``IN(x + shift) = IN(x)`` for a shift per instance and channel, because the subtracted mean contains it."""
    data_only(index)
    _require_vanishing(a, 0, CHANNEL_AXIS)
    return Edit(node)


def group_absorb_backward(node: Node, a: Affine) -> Edit:
    """As for InstanceNormalization."""
    _ = node.schema  # raises for opset 18 to 20, where it is deprecated and has parameters per group
    return instance_absorb_backward(node, a)


def group_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """As for InstanceNormalization, for a shift that is the same in all channels of a group."""
    data_only(index)
    _ = node.schema
    _require_vanishing(a, 0, CHANNEL_AXIS)
    channels, groups = a.shape[CHANNEL_AXIS], int(node.attribute("num_groups"))
    if channels > 1:
        require(groups > 0 and channels % groups == 0, "parameters", f"{groups} groups of {channels} channels")
        grouped = a.reshape((a.shape[0], groups, channels // groups, *a.shape[2:]))
        require(grouped.varies_only_along(0, 1), "axis", "the shift varies within a group of channels")
    return Edit(node)


def layer_absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * (gamma * n(x) + beta) + shift = (scale * gamma) * n(x) + (scale * beta + shift)``.

    gamma and beta broadcast to x. They may gain length along the normalized axes, and along no other axis. The outputs
    Mean and InvStdDev describe x, so they do not change.
    """
    gamma = _gamma(node, a)
    constants = {SCALE: _grown(gamma, a.linear_part(), is_scale=True)}
    if node.has(BIAS):
        constants[BIAS] = _grown(node.weight(BIAS), a)
    elif not a.is_linear:
        constants[BIAS] = _grown(Weight.of(np.zeros(gamma.shape), gamma.dtype), a)
    return Edit(node, constants)


def layer_absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``LN(x + shift) = LN(x)`` for a shift that does not vary along the normalized axes. The output Mean changes."""
    data_only(index)
    _require_vanishing(a, *range(_first_axis(node, a.rank)))
    require(not any(node.outputs[1:2]), "extra-outputs", "its mean is an output")
    return Edit(node)


def rms_absorb_backward(node: Node, a: Affine) -> Edit:
    """As for LayerNormalization; there is no bias, so the shift is left over."""
    gamma = _gamma(node, a)
    leftover = None if a.is_linear else a.shift_part()
    return Edit(node, {SCALE: _grown(gamma, a.linear_part(), is_scale=True)}, leftover=leftover)


def _first_axis(node: Node, rank: int) -> int:
    """The first normalized axis; all later axes are normalized too."""
    return axes_of([node.attribute("axis")], rank)[0]


def _require_vanishing(a: Affine, *axes: int) -> None:
    require(a.is_shift, "epsilon", "epsilon is added to the variance, which a scale would change")
    require(a.varies_only_along(*axes), "axis", "the shift varies within what is normalized together")


def _gamma(node: Node, a: Affine) -> Weight:
    """The scale of a normalization over the last axes, if it can absorb a map that varies like `a`."""
    gamma = node.weight(SCALE)
    own = {a.rank - len(gamma.shape) + axis for axis, length in enumerate(gamma.shape) if length != 1}
    normalized = range(_first_axis(node, a.rank), a.rank)
    require(own.union(normalized) >= set(a.axes), "axis", f"the map varies along {list(a.axes)}, its scale does not")
    return gamma


def _grown(weight: Weight, a: Affine, *, is_scale: bool = False) -> Weight:
    """``a(parameter)``, in the rank that the parameter and the map require."""
    lengths = zip(weight.shape[::-1], a.shape[::-1], strict=False)
    fits = len(weight.shape) <= a.rank and all(m == n or 1 in (m, n) for m, n in lengths)
    require(fits, "parameters", f"a parameter has the shape {list(weight.shape)}, the map {list(a.shape)}")
    values = a(weight.values())
    rank = max(len(weight.shape), a.rank - min(a.axes, default=a.rank))
    return Weight.of(values.reshape(values.shape[a.rank - rank :]), weight.dtype, is_scale=is_scale)


# --- normalizations written out ------------------------------------------------------------------------------


def idiom_absorb_backward(idiom: Occurrence, a: Affine) -> tuple[Edit, ...]:
    """``scale * (gamma * n(x) + beta) + shift = (scale * gamma) * n(x) + (scale * beta + shift)``.

    gamma and beta are the constants of the Mul and the Add at the end of the idiom. A missing Add is made.
    """
    gamma, beta = idiom.gamma, idiom.beta
    where = f"it is part of {idiom.idiom.name}, and "
    require(gamma is not None, "idiom", f"{where}its constants are fixed", idiom.last.label)
    require(set(a.axes) <= idiom.free, "idiom", f"{where}the map varies along axes {list(a.axes)}", idiom.last.label)
    assert gamma is not None  # noqa: S101  narrowed for the type checker
    index = int(gamma.is_constant(1))
    scaled = Edit(gamma, {index: _grown(gamma.weight(index), a.linear_part(), is_scale=True)})
    if beta is None:
        return (scaled if a.is_linear else replace(scaled, leftover=a.shift_part()),)
    index = int(beta.is_constant(1))
    shifted = Edit(beta, {index: _grown(beta.weight(index), a)})
    return (shifted,) if a.is_shift else (scaled, shifted)


RULES = {
    "BatchNormalization": OperatorRule(absorb_backward=batch_absorb_backward, absorb_forward=batch_absorb_forward),
    "InstanceNormalization": OperatorRule(
        absorb_backward=instance_absorb_backward, absorb_forward=instance_absorb_forward
    ),
    "GroupNormalization": OperatorRule(absorb_backward=group_absorb_backward, absorb_forward=group_absorb_forward),
    "LayerNormalization": OperatorRule(absorb_backward=layer_absorb_backward, absorb_forward=layer_absorb_forward),
    "RMSNormalization": OperatorRule(absorb_backward=rms_absorb_backward),
}
