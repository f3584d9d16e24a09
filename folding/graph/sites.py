"""Find affine maps: BatchNormalization in inference mode, Mul, Add, Sub, Div, Neg with one constant operand, Scaler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from folding.algebra.affine import Affine
from folding.algebra.whole import is_finite, is_positive
from folding.graph.dtypes import FLOAT_TYPES
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from folding.algebra.affine import Float64
    from folding.algebra.shape import Shape
    from folding.graph.node import Node
    from folding.graph.weights import Weight

NORMALIZATION = "BatchNormalization"
ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Neg", "Sub"})
SCALER = "ai.onnx.ml::Scaler"
OPERATORS = ELEMENTWISE | {NORMALIZATION, SCALER}

AFFINE_LIMIT = 1 << 20  # elements of a constant operand; one per channel has thousands, a larger one is data
MODE_AS_ATTRIBUTE = 7  # before BatchNormalization-7 (and Dropout-7) the attribute is_test set the mode, 0 by default
TYPES_APART = 15  # before BatchNormalization-15 gamma and beta had the type of the data
ONE_TYPE = OPERATORS | {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"}  # all their inputs have the same type
MATRIX = 2  # rank
MULTIDIRECTIONAL = 7  # NumPy's broadcasting since opset 7; before it, the attributes `broadcast` and `axis`


@dataclass(frozen=True)
class Site:
    """An operator that computes ``affine`` of its input number `data`.

    `is_open`: the rank of the value is unknown, and the map has rank 1: it lies along the last axis, which is the last
    one of a constant matrix. Only that product can absorb it.
    """

    node: Node
    data: int
    affine: Affine
    is_open: bool = False


def value_type(node: Node) -> np.dtype[Any] | None:
    """The element type of an operator's result; None if neither inference nor a constant input determines it."""
    known = node.scope.dtype(node.output) or node.dtype(data_input(node))
    if known is not None or (node.op == NORMALIZATION and node.version >= TYPES_APART) or node.op not in ONE_TYPE:
        return known
    constants = (node.dtype(index) for index in range(len(node.inputs)) if node.is_constant(index))
    return next((dtype for dtype in constants if dtype in FLOAT_TYPES), None)


def is_candidate(node: Node) -> bool:
    """Whether the report lists this operator: every BatchNormalization, and others with a float constant."""
    return node.op in (NORMALIZATION, SCALER) or (node.op in ELEMENTWISE and _data_input(node) is not None)


def data_input(node: Node) -> int:
    """The index of the data input of a candidate operator."""
    return (_data_input(node) or 0) if node.op in ELEMENTWISE else 0


def affine_of(node: Node) -> Site:
    """The affine map that an operator computes. The node caches the result until it is changed.

    A refusal for an unknown shape is not cached, because another fold may make the shape known.

    Raises:
        Refused: the operator is no affine map, or one that must not change.
    """
    if node.known_site is None:
        try:
            node.known_site = _affine_of(node)
        except Refused as refusal:
            if refusal.code == "unknown-shape":
                raise
            node.known_site = refusal
    if isinstance(node.known_site, Site):
        return node.known_site
    assert isinstance(node.known_site, Refused)  # noqa: S101  the only other result
    raise Refused(node.known_site.code, node.known_site.reason, node.known_site.at)


def _affine_of(node: Node) -> Site:
    if node.op == SCALER:
        return Site(node, 0, _of_scaler(node))
    if node.op in OPERATORS:
        _ = node.schema  # raises for an operator set whose meaning is unknown
        require(not node.is_constant(data_input(node)), "constant-input", "it computes a constant")
    if node.op == NORMALIZATION:
        return Site(node, 0, _of_normalization(node))
    data = _data_input(node) if node.op in ELEMENTWISE else None
    require(data is not None, "barrier", f"{node.op} has no constant operand")
    assert data is not None  # noqa: S101  narrowed for the type checker
    columns = _columns(node, data)
    if columns is None:
        return Site(node, data, _of_elementwise(node, data, node.shape(data)))
    return Site(node, data, _of_elementwise(node, data, (columns,)), is_open=True)


def _columns(node: Node, data: int) -> int | None:
    """The last length of a value of unknown rank, if it is a product with a constant matrix, or maps of it."""
    scope, name = node.scope, node.inputs[data]
    producer = scope.producers.get(name)
    if producer is None or scope.values.shape(scope, name) is not None:
        return None
    if producer.op == "MatMul" and producer.is_constant(1):
        shape = producer.weight(1).shape
        return shape[-1] if len(shape) == MATRIX else None
    try:
        site = affine_of(producer) if producer.op in ELEMENTWISE else None
    except Refused:
        return None
    return _columns(producer, site.data) if site is not None and site.is_open else None


def _of_scaler(node: Node) -> Affine:
    """``(x - offset) * scale`` (operator Scaler of ai.onnx.ml), one pair for all or one for each feature, on axis 1.

    Its result is float32, whatever it reads.
    """
    graph, parts = node.scope.graph, [node.attribute_proto(name) for name in ("offset", "scale")]
    custom = any(f.domain == node.proto.domain and f.name == node.proto.op_type for f in graph.model.functions)
    require(not custom, "custom-domain", "a function gives Scaler another meaning")
    require(len(node.inputs) == len(node.outputs) == 1 and all(parts), "parameters", "it has no offset or no scale")
    offset, scale = (np.array(part.floats if part is not None else (), np.float64) for part in parts)
    require(node.dtype(0) == np.float32, "not-float", f"it makes float32 of {node.dtype(0)}")
    shape = node.shape(0)
    features = shape[-1] if shape else None
    fits = scale.size == offset.size and (scale.size == 1 or (len(shape) <= MATRIX and features == scale.size))
    require(fits, "parameters", f"{offset.size} offsets and {scale.size} scales do not fit the shape {_shown(shape)}")
    form = (*(1,) * (len(shape) - 1), scale.size) if shape else ()
    affine = Affine.of(scale.reshape(form), (-scale * offset).reshape(form))
    require(affine.is_finite, "non-finite", "an offset or a scale is not finite")
    return affine


def in_training_mode(node: Node) -> bool:
    """Whether a BatchNormalization uses the statistics of the batch (operator BatchNormalization, all versions)."""
    if node.version < MODE_AS_ATTRIBUTE:
        return not node.attribute("is_test")
    return bool(node.attribute("training_mode")) or sum(map(bool, node.outputs)) > 1


def read_outputs(node: Node) -> list[str]:
    """The outputs after the first that anything can read."""
    scope = node.scope
    return [name for name in node.outputs[1:] if name and (scope.uses.get(name) or scope.is_seen(name))]


def _of_normalization(node: Node) -> Affine:
    """``scale = gamma / sqrt(var + epsilon)``, ``shift = beta - scale * mean`` on axis 1."""
    require(not in_training_mode(node), "training-mode", "exported in training mode: it uses the batch's statistics")
    if extra := read_outputs(node):
        raise Refused("extra-outputs", f"its output {extra[0]!r} is read")
    weights = [node.weight(index) for index in range(1, 5)]
    shape = node.shape(0)
    for weight in weights:
        if weight is weights[0] or weight.shape != weights[0].shape:
            _require_parameter(node, weight, weights[0].shape, shape)
    place = (1, *weights[0].shape, *(1,) * (len(shape) - 1 - len(weights[0].shape)))
    gamma, beta, mean, var = (weight.values().reshape(place) for weight in weights)
    variance = var + float(node.attribute("epsilon"))
    require(is_positive(variance) and is_finite(variance), "non-finite", "var + epsilon is not positive")
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance)
        affine = Affine.of(scale, beta - scale * mean)
    require(affine.is_finite, "non-finite", "scale or shift is not finite")
    return affine


def _require_parameter(node: Node, weight: Weight, common: Shape, shape: Shape) -> None:
    """Require that a parameter of BatchNormalization has the shape `common` of all, and fits the value's shape.

    That is (C,). Before opset 9 with the attribute spatial = 0 it is (C, D1, ...), one value per position.
    """
    rank = len(shape)
    if rank < 2:
        raise Refused("parameters", f"its input has rank {rank}, so there is no channel axis")
    per_position = node.attribute("spatial") == 0 and rank > 2
    fits = weight.size > 0 and len(weight.shape) == (rank - 1 if per_position else 1)
    known = [pair for pair in zip(weight.shape, shape[1:], strict=False) if isinstance(pair[1], int)]
    if not fits or any(length != dimension for length, dimension in known):
        raise Refused("parameters", f"a parameter has the shape {list(weight.shape)}, the input {_shown(shape)}")
    require(weight.shape == common, "parameters", "its parameters differ in shape")
    if weight.size > AFFINE_LIMIT:
        raise Refused("too-large", f"its parameters have {weight.size:,} elements")


def _data_input(node: Node) -> int | None:
    """The index of the data input of an elementwise operator with a floating-point constant; None if it has none."""
    if node.op == "Neg" and len(node.inputs) == 1:
        return 0 if node.dtype(0) in FLOAT_TYPES and not node.is_constant(0) else None
    if len(node.inputs) != 2:
        return None
    constant = [node.is_constant(index) for index in range(2)]
    if constant[0] == constant[1] or (node.op == "Div" and constant[0]):
        return None
    return constant.index(False) if node.dtype(constant.index(True)) in FLOAT_TYPES else None


def _of_elementwise(node: Node, data: int, shape: Shape) -> Affine:
    if node.op == "Neg":
        return Affine.of(np.full((1,) * len(shape), -1.0), 0.0)
    operand = _operand(node, data, shape)
    one, zero = np.ones_like(operand), np.zeros_like(operand)
    with np.errstate(all="ignore"):
        affine = {
            "Add": lambda: Affine.of(one, operand),
            "Mul": lambda: Affine.of(operand, zero),
            "Div": lambda: Affine.of(1 / operand, zero),
            "Sub": lambda: Affine.of(one, -operand) if data == 0 else Affine.of(-one, operand),
        }[node.op]()
    require(affine.is_finite, "non-finite", "its constant is not finite, or divides by zero")
    return affine


def _operand(node: Node, data: int, shape: Shape) -> Float64:
    """The constant operand as an array of the value's rank that does not change the value's shape."""
    weight = node.weight(1 - data)
    rank = len(shape)
    require(weight.size <= AFFINE_LIMIT, "too-large", f"its constant has {weight.size:,} elements")
    require(weight.size > 0, "parameters", "its constant is empty")
    require(len(weight.shape) <= rank, "broadcast", f"its constant has rank {len(weight.shape)}, the value {rank}")
    aligned = _aligned(node, data, weight.shape, rank)
    for length, dimension in zip(aligned, shape, strict=True):
        if length not in (1, dimension):
            own, value = list(weight.shape), _shown(shape)
            require(isinstance(dimension, int), "unknown-shape", f"its constant has the shape {own}, the value {value}")
            raise Refused("broadcast", f"its constant of shape {own} broadcasts the value of shape {value}")
    return weight.values().reshape(aligned)


def _aligned(node: Node, data: int, shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """The operand's shape in the value's rank, aligned at the end, before opset 7 at the attribute `axis`."""
    if node.version >= MULTIDIRECTIONAL or len(shape) == rank:
        return (1,) * (rank - len(shape)) + shape
    require(data == 0 and node.attribute("broadcast"), "broadcast", "its operands differ in rank without `broadcast`")
    axis = node.attribute("axis")
    before = rank - len(shape) if axis is None else axis % rank
    require(before + len(shape) <= rank, "broadcast", f"its constant does not fit from axis {axis} on")
    return (1,) * before + shape + (1,) * (rank - len(shape) - before)


def _shown(shape: Shape) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"
