"""Activations: Gelu, Swish, Mish, HardSwish, HardSigmoid, Softmax and LogSoftmax of the values that they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.fusing.operator import ULPS, attribute, data, dtype_of, like, number
from folding.graph.idioms import reduced
from folding.refusal import require

if TYPE_CHECKING:
    from folding.fusing.operator import Operator
    from folding.graph.idioms import Occurrence

SIXTH, HALF = 1 / 6, 0.5  # alpha and beta of HardSwish (operator HardSwish)
ANY_AXIS = 13  # before Softmax-13 the operator computed over all axes from `axis` on


def gelu(found: Occurrence) -> Operator:
    """``Gelu(x) = x * (1 + erf(x / sqrt(2))) / 2``."""
    return like(found, data(found))


def gelu_tanh(found: Occurrence) -> Operator:
    """``Gelu(x) = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2`` with the attribute approximate."""
    return like(found, data(found), approximate="tanh")


def silu(found: Occurrence) -> Operator:
    """``Swish(x) = x * sigmoid(alpha * x)``, alpha being 1."""
    return like(found, data(found))


def quick_gelu(found: Occurrence) -> Operator:
    """``Swish(x) = x * sigmoid(alpha * x)`` for any alpha."""
    return like(found, data(found), alpha=attribute(number(found, "c"), dtype_of(found)))


def mish(found: Occurrence) -> Operator:
    """``Mish(x) = x * tanh(log(1 + exp(x)))``."""
    return like(found, data(found))


def hard_swish(found: Occurrence) -> Operator:
    """``HardSwish(x) = x * max(0, min(1, x / 6 + 1 / 2))``. A HardSigmoid inside must have these numbers."""
    attribute(SIXTH, dtype_of(found))
    for node in found.nodes:
        if node.op == "HardSigmoid":
            alpha, beta = float(node.attribute("alpha")), float(node.attribute("beta"))
            exact = abs(alpha - SIXTH) <= ULPS * np.finfo(np.float32).eps * SIXTH and beta == HALF
            require(exact, "parameters", f"its HardSigmoid has alpha {alpha} and beta {beta}", node.label)
    return like(found, data(found))


def hard_sigmoid(found: Occurrence) -> Operator:
    """``HardSigmoid(x) = max(0, min(1, alpha * x + beta))``, and ``max(0, min(6, x + 3)) / 6`` with 1/6 and 1/2."""
    dtype = dtype_of(found)
    scaled_first = any(letter == "b" for letter, _ in found.match.scalars)
    alpha, beta = (number(found, "c"), number(found, "b")) if scaled_first else (SIXTH, HALF)
    return like(found, data(found), alpha=attribute(alpha, dtype), beta=attribute(beta, dtype))


def softmax(found: Occurrence) -> Operator:
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` over one axis, and its logarithm.

    ``log(softmax(x))`` is -inf where the softmax is too small for its type; LogSoftmax is not.
    """
    last, axes = found.last, set()
    rank = len(last.output_shape)
    for node in found.nodes:
        if node.op.startswith("Reduce"):
            axes.add(reduced(node, rank))
        elif node.op == "Softmax":
            require(node.version >= ANY_AXIS or node.attribute("axis") in {-1, rank - 1}, "old-opset", "")
            axes.add(frozenset({node.attribute("axis") % rank}))
    same = len(axes) == 1 and all(len(one) == 1 for one in axes)
    require(same, "axis", f"it reduces over the axes {sorted(map(sorted, axes))}", last.label)
    (axis,) = axes.pop()
    version = last.scope.graph.schema(found.idiom.operator).since_version
    require(version >= ANY_AXIS or axis == rank - 1, "old-opset", f"Softmax-{version} takes all axes from one on")
    return like(found, data(found), axis=axis if version < ANY_AXIS or axis < rank - 1 else -1)
