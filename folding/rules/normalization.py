"""BatchNormalization absorbs any map of its channels: two adjacent affines become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.plan import Edit, require
from folding.rules.rule import OperatorRule, along, data_only
from folding.sites import affine_of
from folding.weights import Weight

if TYPE_CHECKING:
    from folding.affine import Affine, Float64
    from folding.graph import Node

CHANNEL_AXIS = 1


def absorb_backward(node: Node, a: Affine) -> Edit:
    """``scale * BN(x) + shift``: gamma becomes ``scale * gamma``, beta ``scale * beta + shift``."""
    gamma, beta = _gamma_beta(node)
    scale, shift = along(a, CHANNEL_AXIS, gamma.size, "the normalization's channels")
    return _edit(node, scale * gamma.values(), scale * beta.values() + shift)


def absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``BN(scale * x + shift)`` with BN(x) = s * (x - mean) + beta.

    gamma becomes ``scale * gamma`` and beta ``beta + s * (shift + (scale - 1) * mean)``; mean and var stay.
    """
    data_only(index)
    gamma, beta = _gamma_beta(node)
    scale, shift = along(a, CHANNEL_AXIS, gamma.size, "the normalization's channels")
    own = affine_of(node).affine
    s = np.broadcast_to(own.scale.reshape(-1), gamma.size)
    mean = node.weight(3).values()
    return _edit(node, scale * gamma.values(), beta.values() + s * (shift + (scale - 1) * mean))


def _gamma_beta(node: Node) -> tuple[Weight, Weight]:
    affine_of(node)  # refuses training mode and odd parameters
    gamma, beta = node.weight(1), node.weight(2)
    require(len(gamma.shape) == 1, "axis", "its parameters vary within a channel")
    return gamma, beta


def _edit(node: Node, gamma: Float64, beta: Float64) -> Edit:
    old = node.weight(1), node.weight(2)
    new = {
        index + 1: Weight.of(values, weight.dtype, is_scale=index == 0)
        for index, (weight, values) in enumerate(zip(old, (gamma, beta), strict=True))
        if not np.array_equal(weight.values(), values)
    }
    return Edit(node, new)


RULES = {"BatchNormalization": OperatorRule(absorb_backward=absorb_backward, absorb_forward=absorb_forward)}
