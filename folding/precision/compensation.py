"""Biases that make up for rounded weights, on average over the samples of the user.

With weights W that are rounded to W + D, a product is off by x D, on average by E[x] D. So the bias is rounded from
``b - E[x] D`` instead of b, in float64, once (Nagel et al. 2019, "Data-Free Quantization through Weight Equalization
and Bias Correction", section 4.2). After a Relu, E[x] is as large as the deviation from it, and a good part of the
error of the weights goes; what a padded border has less of x is neglected.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from folding.graph.narrowed import Narrowed
from folding.graph.node import Edge
from folding.graph.weights import Weight
from folding.precision.groups import LOW
from folding.precision.kinds import FLOAT32
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.algebra.affine import Float64
    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.precision.decide import Decision
    from folding.precision.groups import Value
    from folding.verification.ranges import Means

CHANNELS = {"Conv": 1, "Gemm": -1, "MatMul": -1}  # the axis of the input's channels
MATRIX = 2  # axes


class Shifted(NamedTuple):
    """A bias to be rounded in place of the one that the model has, and the operator whose weights it makes up for."""

    bias: Weight
    node: Node


def wanted(graph: Graph) -> Iterator[tuple[str, int]]:
    """The values of the main graph whose means over all but one axis are needed, with this axis."""
    for node in graph.main.nodes:
        if not node.removed and node.op in CHANNELS and node.is_constant(1):
            yield node.inputs[0], CHANNELS[node.op]


def shifted(decision: Decision, means: Means) -> dict[tuple[int, str], Shifted]:
    """The biases of products in 16 bits whose inputs have known means, by scope and name."""
    groups, found = decision.groups, {}
    for node, own in groups.of.items() if means else ():
        mean = means.get((node.inputs[0], CHANNELS.get(node.op, 0))) if node.scope is groups.graph.main else None
        if mean is None or not all(decision.sides[number] == LOW for number in own.values()):
            continue
        try:
            key, bias = _compensated(node, np.array(mean), decision)
        except Refused:
            continue
        finally:
            groups.graph.release()
        found[key] = Shifted(bias, node)
    return found


def _compensated(node: Node, mean: Float64, decision: Decision) -> tuple[tuple[int, str], Weight]:
    """The bias of an operator that makes up for the rounding of its weights.

    Raises:
        Refused: it has no bias of its own, or it is none of the simple cases.
    """
    value = _bias(node, decision)
    bias, fit = value.scope.values.weight(value.scope, value.name), decision.fits[value.scope.index, value.name]
    shift = _mean_error(node, mean, decision)
    require(bias.size == shift.size == max(bias.shape, default=0), "parameters", "the bias is not one per channel")
    require(bias.dtype == FLOAT32 and not fit.loss.clamped, "not-float", "the bias is none of float32")
    exact = bias.values() - shift.reshape(bias.shape)
    require(float(np.abs(exact).max()) <= decision.groups.kind.largest, "overflow", "the bias would not fit")
    return (value.scope.index, value.name), Weight.of(exact, bias.dtype)


def _bias(node: Node, decision: Decision) -> Value:
    """The constant that is added to the product, and to nothing else."""
    reader, index = node, 2
    if node.op == "MatMul":
        uses = list(node.scope.uses.get(node.output, ()))
        require(len(uses) == 1 and not node.scope.is_seen(node.output), "parameters", "no sum alone reads the product")
        reader, index = uses[0].node, 1 - uses[0].index
        require(reader.op == "Add", "parameters", "no sum reads the product")
    require(reader.has(index), "parameters", "it has no bias")
    value = decision.groups.value(node.scope, reader.inputs[index])
    require(value is not None, "parameters", "the bias is none of float32")
    assert value is not None  # noqa: S101  for the type checker
    name, scope = value.name, value.scope
    readers = [one for number, one in value.readers if decision.sides[number] == LOW]
    is_own = readers == [Edge(reader, index)] and len(value.readers) == 1 and name not in scope.producers
    is_free = name not in scope.pinned and name not in scope.annotated and name not in scope.sparse
    require((scope.index, name) in decision.fits and is_own and is_free, "parameters", "others read the bias")
    return value


def _mean_error(node: Node, mean: Float64, decision: Decision) -> Float64:
    """``E[x] D``, one number for each channel of the result."""
    weight = node.weight(1)
    value = decision.groups.value(node.scope, node.inputs[1])
    require(value is not None and weight.dtype == FLOAT32, "not-float", "the weight is none of float32")
    assert value is not None  # noqa: S101  for the type checker
    fit = decision.fits.get((value.scope.index, value.name))
    require(fit is not None and not fit.loss.clamped and not fit.loss.infinite, "overflow", "the weight is clamped")
    narrow = Narrowed.of_weight(weight, decision.groups.kind.dtype)
    if node.op == "Conv":
        group, (outputs, inputs) = int(node.attribute("group")), weight.shape[:2]
        require(mean.size == group * inputs, "parameters", "the input has other channels")
        view = (group, outputs // group, inputs, math.prod(weight.shape[2:]))
        return narrow.contract_error(view, mean.reshape(group, 1, inputs, 1), (2, 3)).reshape(-1)
    require(len(weight.shape) == MATRIX, "parameters", "the weight is no matrix")
    axis = 0
    if node.op == "Gemm":
        plain = node.attribute("alpha") == 1 and node.attribute("beta") == 1 and not node.attribute("transA")
        require(plain, "parameters", "the product is scaled")
        axis = int(node.attribute("transB"))
    require(mean.size == weight.shape[axis], "parameters", "the input has other channels")
    return narrow.contract_error(weight.shape, mean.reshape((-1, 1) if axis == 0 else (1, -1)), (axis,))
