"""LSTM, GRU and RNN absorb a preceding map along the features: the input weights multiply along that axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.graph.weights import Weight
from folding.refusal import require
from folding.rules.edit import Edit
from folding.rules.rule import OperatorRule, along, data_only

if TYPE_CHECKING:
    from folding.algebra.affine import Affine
    from folding.graph.node import Node

RANK = 3  # of X, with the features last in every layout, and of W: (directions, gates * hidden, features)
WEIGHTS, BIASES = 1, 3  # inputs: W, and B of (directions, 2 * gates * hidden), biases of W before those of R


def absorb_forward(node: Node, index: int, a: Affine) -> Edit:
    """``W (scale * x + shift) + b = (W * scale) x + (b + W shift)`` before every gate, at every step of the sequence.

    Steps beyond `sequence_lens` are not computed, so there is no padding.
    """
    data_only(index)
    weight = node.weight(WEIGHTS)
    require(len(weight.shape) == RANK == a.rank, "parameters", f"W has the shape {list(weight.shape)}")
    directions, gates, features = weight.shape
    scale, shift = along(a, -1, features, "the input weights")
    constants = {WEIGHTS: weight.scaled(weight.shape, scale.reshape(1, 1, -1))}
    if not a.is_linear:
        added = weight.contract(weight.shape, shift.reshape(1, 1, -1), axes=(2,))
        biases, like = np.zeros((directions, 2 * gates)), weight
        if node.has(BIASES):
            like = node.weight(BIASES)
            require(like.shape == biases.shape, "parameters", f"B has the shape {list(like.shape)}")
            biases = like.values()
        constants[BIASES] = Weight.of(biases + np.pad(added, ((0, 0), (0, gates))), like.dtype)
    return Edit(node, constants)


RULES = dict.fromkeys(("GRU", "LSTM", "RNN"), OperatorRule(absorb_forward=absorb_forward))
