"""Normalizations written out: LayerNormalization, RMSNormalization, GroupNormalization and InstanceNormalization."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from folding.fusing.operator import attribute, data, dtype_of, like, number
from folding.graph.idioms import reduced
from folding.graph.weights import VALUES_LIMIT, Weight
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from folding.algebra.shape import Shape
    from folding.fusing.operator import Operator
    from folding.graph.idioms import Occurrence
    from folding.graph.node import Node

CHANNELS = 1
WIDEST_STAGE = np.dtype(np.float32)  # stash_type: the type of the first stage; the standard allows no wider one


def layer(found: Occurrence) -> Operator:
    """``gamma * (x - mean) / sqrt(mean((x - mean)^2) + epsilon) + beta`` over the last axes.

    Gamma and beta get the shape of the normalized axes. A missing gamma is 1. In 16 bits the operator computes its
    first stage in float32, as runtimes compute what is written out; in float64 it may not.
    """
    lengths = _normalized(found)
    scale = _parameter(found, found.gamma, lengths, 1.0)
    beta = () if found.beta is None else (_parameter(found, found.beta, lengths, 0.0),)
    return like(found, data(found), scale, *beta, axis=-len(lengths), epsilon=_epsilon(found))


def rms(found: Occurrence) -> Operator:
    """``gamma * x / sqrt(mean(x^2) + epsilon)`` over the last axes, as LayerNormalization; the operator has no beta."""
    require(found.beta is None, "parameters", "RMSNormalization adds nothing", found.last.label)
    lengths = _normalized(found)
    scale = _parameter(found, found.gamma, lengths, 1.0)
    return like(found, data(found), scale, axis=-len(lengths), epsilon=_epsilon(found))


def instance(found: Occurrence) -> Operator:
    """LayerNormalization over all axes after the channels, with gamma and beta per channel. A missing beta is 0."""
    lengths = (_known(found.match.nodes[0].output_shape, CHANNELS, found),)
    parameters = _parameter(found, found.gamma, lengths, 1.0), _parameter(found, found.beta, lengths, 0.0)
    return like(found, data(found), *parameters, epsilon=attribute(number(found, "c"), dtype_of(found)))


def group(found: Occurrence) -> Operator:
    """``Reshape(InstanceNormalization(Reshape(x)))``, the channels of the inner value being groups of those of x.

    The inner scale is 1, the inner bias 0: they have one value for each group.
    """
    _require_stage(found)
    back, inner, grouped = found.match.nodes
    name = data(found)
    shape, groups = inner.scope.known_shape(name), inner.weight(1).size
    channels = _known(shape, CHANNELS, found)
    plain = np.all(inner.array(1) == 1) and np.all(inner.array(2) == 0)
    require(plain, "parameters", "its InstanceNormalization scales the groups", inner.label)
    require(groups > 0 and channels % groups == 0, "parameters", f"{groups} groups of {channels} channels", inner.label)
    require(_splits(grouped, shape, groups), "unknown-shape", "it may not group the channels", grouped.label)
    require(_restores(back, name, shape), "unknown-shape", "it may not restore the shape", back.label)
    parameters = (_parameter(found, node, (channels,), value) for node, value in ((found.gamma, 1), (found.beta, 0)))
    return like(found, name, *parameters, num_groups=groups, epsilon=float(inner.attribute("epsilon")))


def _epsilon(found: Occurrence) -> float:
    _require_stage(found)
    return attribute(number(found, "c"), dtype_of(found))


def _require_stage(found: Occurrence) -> None:
    """Require that the operator's first stage is not narrower than the idiom."""
    wide = dtype_of(found).itemsize > WIDEST_STAGE.itemsize
    require(not wide, "narrower-type", "the operator computes mean and variance in float32", found.last.label)


def _normalized(found: Occurrence) -> tuple[int, ...]:
    """The lengths of the normalized axes, which are the last ones."""
    shape = found.match.nodes[0].output_shape
    (axes,) = {reduced(node, len(shape)) for node in found.match.nodes if node.op == "ReduceMean"}
    return tuple(_known(shape, axis, found) for axis in sorted(axes))


def _known(shape: Shape, axis: int, found: Occurrence) -> int:
    length = shape[axis] if axis < len(shape) else None
    if not isinstance(length, int):
        raise Refused("unknown-shape", f"the length of axis {axis} is unknown", found.last.label)
    return length


def _parameter(found: Occurrence, node: Node | None, lengths: Sequence[int], missing: float) -> str | Weight:
    """Gamma or beta in the shape that the operator wants: its name if it has that shape, else a new constant."""
    shape, dtype = tuple(lengths), dtype_of(found)
    if node is None:
        require(math.prod(shape) <= VALUES_LIMIT, "too-large", "a new scale would be large", found.last.label)
        return Weight.of(np.full(shape, missing, np.float64), dtype)
    index = int(node.is_constant(1))
    weight = node.weight(index)
    require(weight.dtype == dtype, "narrower-type", f"it is {weight.dtype} beside {dtype}", node.label)
    if weight.shape == shape:
        return node.inputs[index]
    if weight.size == math.prod(shape):
        return _reshaped(weight, shape)
    rank = len(node.output_shape)
    aligned = (1,) * (rank - len(weight.shape)) + weight.shape  # channels are axis 1, normalized axes the last ones
    first = CHANNELS if found.idiom.axes in {"channels", "spatial"} else rank - len(shape)
    own = aligned[first : first + len(shape)]
    return Weight.of(np.broadcast_to(weight.values().reshape(own), shape), dtype)


def _reshaped(weight: Weight, shape: tuple[int, ...]) -> Weight:
    base: Any = weight.base if not isinstance(weight.base, np.ndarray) else weight.base.reshape(shape)
    return replace(weight, shape=shape, base=base)


def _splits(node: Node, shape: Shape, groups: int) -> bool:
    """Whether Reshape makes groups of the channels: it keeps the first axis, and groups follow it."""
    made, wish = node.output_shape, node.integers(1)
    if len(made) <= CHANNELS + 1 or made[CHANNELS] != groups:
        return False
    copies = wish is not None and wish[0] == 0 and not node.attribute("allowzero")
    return copies or (shape[0] is not None and made[0] == shape[0])


def _restores(node: Node, name: str, shape: Shape) -> bool:
    """Whether the result of Reshape has the shape of a value: it reads its Shape, or all lengths are known."""
    maker = node.scope.producers.get(node.inputs[1])
    if maker is not None and maker.op == "Shape" and maker.inputs == [name]:
        return not maker.proto.attribute
    return None not in shape and node.output_shape == shape
