"""A constant absorbs any map that does not change its shape: its values are recomputed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.algebra.quantization import stored
from folding.analysis import constants
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.weights import Weight
from folding.refusal import require
from folding.rules.edit import Edit

if TYPE_CHECKING:
    from folding.algebra.affine import Affine
    from folding.graph.node import Edge

CONSTANT_LIMIT = 1 << 22  # elements of a constant input that a move rewrites (16 MiB of float32)


def absorb(edge: Edge, a: Affine) -> Edit:
    """Replace the constant at an input by ``a(constant)`` in its stored dtype; the operator does not change."""
    weight = constants.recipe(edge.node.scope, edge.node.inputs[edge.index])
    require(weight.size <= CONSTANT_LIMIT, "too-large", f"a constant of {weight.size:,} elements would be rewritten")
    fits = len(weight.shape) == a.rank and np.broadcast_shapes(weight.shape, a.shape) == weight.shape
    require(fits, "broadcast", f"the map would change the shape {list(weight.shape)} of a constant", edge.node.label)
    with np.errstate(all="ignore"):  # an infinite constant times zero is checked when it is written
        values = a(weight.values())
    if weight.dtype in FLOAT_TYPES:
        return Edit(edge.node, {edge.index: Weight.of(values, weight.dtype)}, passed=True)
    integers = stored(values, weight.dtype)
    return Edit(edge.node, {edge.index: Weight(weight.dtype, weight.shape, integers)}, passed=True)
