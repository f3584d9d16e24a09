"""Shapes and types of values: onnx's shape inference, completed from the shapes of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from folding.graph import constants, sizes
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.inference import InferenceError, inferred
from folding.graph.node import bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from folding.algebra.shape import Dimension, Shape
    from folding.graph.index import Graph, Scope

LOOK_AROUND = 32  # operators that `of` follows where inference finds no shape; chains of unary operators are short
ROUNDS = 16  # of inference; each passes the Reshapes at which the round before stopped

# Operators whose output always has the shape of their first input (ONNX operator specification).
SAME_SHAPE = frozenset(
    "Abs BatchNormalization Cast Clip Dropout Elu Erf Exp Gelu GroupNormalization HardSigmoid HardSwish Identity "  # noqa: SIM905
    "InstanceNormalization LayerNormalization LeakyRelu LRN Neg PRelu Relu RMSNormalization Selu Sigmoid Softmax "
    "Softplus Sqrt Tanh".split()
)
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


def infer(graph: Graph) -> None:
    """Run onnx's inference on a copy and record the results in the scopes of `graph`; before the first commit.

    Shapes recorded in the file are used only where inference finds none, because they may be out of date.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(graph.model)
    for proto in _graphs(copy.graph):
        del proto.value_info[:]
    _settle_initializers(graph, copy)
    for scope in graph.scopes:
        _note_constants(scope)
    scopes = [scope for scope in graph.scopes if not scope.prefix]  # in functions onnx infers only what a call needs
    for _ in range(ROUNDS):
        if not (_infer(scopes, copy) and _declare(scopes, copy)):
            break
    for scope in scopes:
        shapes_found, types = dict(scope.shapes), dict(scope.types)
        _note(scope, scope.proto.value_info)
        scope.shapes |= shapes_found
        scope.types |= types
        scope.shapes |= {name: tuple(tensor.dims) for name, tensor in scope.initializers.items()}
        scope.constness.clear()  # a Shape node may be a constant now, if its input was unknown before


def _note_constants(scope: Scope) -> None:
    """Record the types and shapes of Constant nodes; in a function nothing else is known."""
    for proto in scope.proto.node:
        for attribute in proto.attribute:
            if proto.op_type == "Constant" and attribute.name == "value" and len(proto.output) == 1:
                scope.types[proto.output[0]] = attribute.t.data_type
                scope.shapes[proto.output[0]] = tuple(attribute.t.dims)


def _infer(scopes: list[Scope], copy: onnx.ModelProto) -> bool:
    """Record what onnx infers; return whether inference succeeded."""
    try:
        found = inferred(copy).graph
    except InferenceError:
        found = copy.graph  # only the declared inputs and the weights are known
    for scope, graph in zip(scopes, _graphs(found), strict=True):
        _note(scope, (*graph.output, *graph.value_info, *graph.input))
    return found is not copy.graph


def _declare(scopes: list[Scope], copy: onnx.ModelProto) -> bool:
    """Declare in the copy the shapes of Reshapes that onnx cannot infer; return whether there are any."""
    declared = False
    for scope, proto in zip(scopes, _graphs(copy.graph), strict=True):
        for node in scope.nodes:
            known = scope.shapes.get(node.output) if node.op == "Reshape" and node.output else ()
            if known == () or node.output in scope.outputs or (known is not None and not _is_open(known)):
                continue
            shape = sizes.reshaped(node)
            if shape is None or (known is not None and _merged(known, shape) == known):
                continue
            scope.shapes[node.output] = shape
            if kind := scope.types.get(node.output):  # inference rejects a value without a type
                proto.value_info.append(_value_info(node.output, kind, shape))
                declared = True
    return declared


def _is_open(shape: Shape) -> bool:
    return not all(isinstance(size, int) for size in shape)


def _value_info(name: str, code: int, shape: Shape) -> onnx.ValueInfoProto:
    value = helper.make_tensor_value_info(name, code, [None] * len(shape))
    for dimension, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        if isinstance(size, int):
            dimension.dim_value = size
        elif size is not None:
            dimension.dim_param = size
    return value


def _settle_initializers(graph: Graph, copy: onnx.ModelProto) -> None:
    """Let inference use initializers that are graph inputs too, but that no caller may override."""
    settled = [
        v for v in copy.graph.input if v.name not in graph.main.initializers or graph.main.is_overridable(v.name)
    ]
    if len(settled) < len(copy.graph.input):
        copy.ir_version = max(copy.ir_version, FIRST_IR_WITH_DEFAULTS)
        del copy.graph.input[:]
        copy.graph.input.extend(settled)


def of(scope: Scope, name: str) -> Shape | None:
    """The shape of a value, None for unknown dimensions; None if its rank is unknown."""
    return _of(scope, name, LOOK_AROUND)


def _of(scope: Scope, name: str, steps: int) -> Shape | None:
    owner = scope.owner(name)
    if owner is None:
        return None
    if name in owner.weights:
        return owner.weights[name].shape
    shape = owner.shapes.get(name)
    if steps and (shape is None or (len(shape) > 1 and not isinstance(shape[1], int))):
        shape = _merged(shape, _by_producer(owner, name, steps - 1) or _by_consumers(owner, name))
    return shape


def _by_producer(scope: Scope, name: str, steps: int) -> Shape | None:
    """The shape that follows from the producer: from its weights, or from its input if it keeps the shape."""
    node = scope.producers.get(name)
    if node is None or name != node.output or not node.inputs:
        return None
    if node.op in SAME_SHAPE:
        return _of(scope, node.inputs[0], steps)
    if node.op == "Gemm":
        weight = constants.shape_of(scope, node.inputs[1]) if node.has(1) else None
        columns = 0 if node.attribute("transB") else 1
        return (None, weight[columns] if weight is not None and len(weight) == 2 else None)
    weight = constants.shape_of(scope, node.inputs[1]) if node.op in CONVOLUTIONS and node.has(1) else None
    if weight is None or len(weight) < 3:
        return None
    channels = weight[0] if node.op == "Conv" else weight[1] * int(node.attribute("group"))
    return (None, channels, *(None,) * (len(weight) - 2))


def _by_consumers(scope: Scope, name: str) -> Shape | None:
    """The shape that follows from the weights of a consuming convolution."""
    for edge in scope.uses.get(name, ()):
        node = edge.node
        if node.op in CONVOLUTIONS and edge.index == 0 and node.has(1):
            weight = constants.shape_of(scope, node.inputs[1])
            if weight is not None and len(weight) >= 3:
                channels = weight[1] * int(node.attribute("group")) if node.op == "Conv" else weight[0]
                return (None, channels, *(None,) * (len(weight) - 2))
    return None


def _merged(one: Shape | None, other: Shape | None) -> Shape | None:
    if one is None or other is None or len(one) != len(other):
        return one or other
    return tuple(
        b if a is None or (isinstance(a, str) and isinstance(b, int)) else a for a, b in zip(one, other, strict=True)
    )


def _note(scope: Scope, values: Iterable[onnx.ValueInfoProto]) -> None:
    for value in values:
        tensor = value.type.tensor_type
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        if tensor.elem_type:
            scope.types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            scope.shapes[value.name] = tuple(_dimension(d) for d in tensor.shape.dim)


def _dimension(proto: onnx.TensorShapeProto.Dimension) -> Dimension:
    if proto.HasField("dim_value"):
        return proto.dim_value if proto.dim_value >= 0 else None  # old exporters write -1 for unknown
    return proto.dim_param if proto.dim_param not in {"", "?"} else None


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all nested ones in the order of `Graph.scopes`."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from _graphs(body)
