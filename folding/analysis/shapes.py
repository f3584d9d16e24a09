"""Shapes and types of values: onnx's shape inference, completed from the shapes of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from folding.analysis import constants, sizes
from folding.analysis.inference import InferenceError, inferred
from folding.analysis.lengths import dimension_of, name_lengths, undated, variable_axes
from folding.analysis.uncertain import doubtful, hide_disputed, is_disputed, shape_of_disputed
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import bodies
from folding.graph.sites import SCALER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from folding.algebra.shape import Shape
    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node

LOOK_AROUND = 32  # operators that `of` follows where inference finds no shape; chains of unary operators are short
ROUNDS = 16  # of inference; each passes the Reshapes at which the round before stopped

# Operators whose output always has the shape of their first input (ONNX operator specification).
SAME_SHAPE = frozenset(
    "Abs BatchNormalization Cast Clip Dropout Elu Erf Exp Gelu GroupNormalization HardSigmoid HardSwish Identity "  # noqa: SIM905
    "InstanceNormalization LayerNormalization LeakyRelu LRN Neg PRelu Relu RMSNormalization Selu Sigmoid Softmax "
    "Softplus Sqrt Tanh".split()
)
UNINFERRED = frozenset({SCALER, "GroupNormalization"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
CHANNEL_AXIS = 1  # of data, in convolutions and normalizations


def infer(graph: Graph) -> None:
    """Run onnx's inference on a copy and record the results in the scopes of `graph`; before the first commit.

    Shapes recorded in the file are used only where inference finds none, because they may be out of date.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(graph.model)
    scopes = [scope for scope in graph.scopes if not scope.prefix]  # in functions onnx infers only what a call needs
    copies = list(_graphs(copy.graph)) if len(scopes) > 1 else [copy.graph]
    for proto in copies:
        del proto.value_info[:]
    _settle_initializers(graph, copy)
    _declare_sparse(copy, copies)
    _declare_channels(graph.main, copy)
    name_lengths(copies)
    hide_disputed(copy, graph.opset)
    doubts = doubtful(graph)
    before = [dict(scope.shapes) for scope in scopes]
    for scope in scopes:
        scope.shapes.clear()  # what was known before could be taken for what this run declares
    for scope in graph.scopes:
        _note_constants(scope)
    _clear_doubtful(scopes, copies, doubts)
    variable = variable_axes(copy.graph.input)
    for value in copy.graph.output:
        value.CopyFrom(undated(value, variable))
    _infer_all(scopes, copy, copies)
    if _declare_recorded(scopes, copies, doubts, variable):
        _infer_all(scopes, copy, copies)  # if it contradicts an operator, all stays as it was
    for scope, known in zip(scopes, before, strict=True):
        shapes_found, types = known | scope.shapes, dict(scope.types)
        _note(scope, (undated(value, variable) for value in scope.proto.value_info))
        for name in doubts.get(scope.index, set()) & scope.shapes.keys():
            scope.shapes[name] = (None,) * len(scope.shapes[name])
        scope.shapes |= shapes_found
        scope.types |= types
        overridable = scope.overridable
        scope.shapes |= {n: tuple(t.dims[:]) for n, t in scope.initializers.items() if n not in overridable}
        scope.constness.clear()  # a Shape node may be a constant now, if its input was unknown before


def _clear_doubtful(scopes: list[Scope], copies: list[onnx.GraphProto], doubts: Mapping[int, set[str]]) -> None:
    """Declare no shape of an output that an uncertain length reaches."""
    for scope, proto in zip(scopes, copies, strict=True):
        for value in proto.output:
            if value.name in doubts.get(scope.index, ()):
                value.type.tensor_type.ClearField("shape")


def _note_constants(scope: Scope) -> None:
    """Record the types and shapes of Constant nodes; in a function nothing else is known."""
    for proto in (node.proto for node in scope.nodes if node.proto.op_type == "Constant"):
        for attribute in proto.attribute:
            if attribute.name == "value" and len(proto.output) == 1:
                scope.types[proto.output[0]] = attribute.t.data_type
                scope.shapes[proto.output[0]] = tuple(attribute.t.dims)


def _infer_all(scopes: list[Scope], copy: onnx.ModelProto, copies: list[onnx.GraphProto]) -> None:
    untyped: set[tuple[int, str]] = set()
    for _ in range(ROUNDS):
        if not (_infer(scopes, copy) and _declare(scopes, copies, untyped)):
            break


def _infer(scopes: list[Scope], copy: onnx.ModelProto) -> bool:
    """Record what onnx infers; return whether inference succeeded."""
    try:
        found = inferred(copy).graph
    except InferenceError as error:
        found = copy.graph  # only the declared inputs and the weights are known
        scopes[0].graph.inference_failure = str(error)
    for scope, graph in zip(scopes, _graphs(found) if len(scopes) > 1 else [found], strict=True):
        _note(scope, (*graph.output, *graph.value_info, *graph.input))
    return found is not copy.graph


def _declare(scopes: list[Scope], copies: list[onnx.GraphProto], untyped: set[tuple[int, str]]) -> bool:
    """Declare in the copy the shapes that onnx cannot or must not infer; return whether there are any.

    `untyped` are values, by scope and name, whose shape is known, and whose type inference has yet to find.
    """
    declared = False
    for scope, proto in zip(scopes, copies, strict=True):
        for node in scope.nodes:
            if is_disputed(node.proto, scope.graph.opset):
                declared |= _declare_disputed(node, proto)
                continue
            if node.op in UNINFERRED:
                declared |= _declare_alike(node, proto)
                continue
            if (scope.index, node.output) in untyped:
                declared |= _declare_typed(node, proto, untyped)
                continue
            known = scope.shapes.get(node.output) if node.op in sizes.SETTLED and node.output else ()
            if known == () or node.output in scope.outputs or (known is not None and not _is_open(known)):
                continue
            shape = sizes.SETTLED[node.op](node)
            if shape is None or (known is not None and _merged(known, shape) == known):
                continue
            scope.shapes[node.output] = shape
            untyped.add((scope.index, node.output))
            declared |= _declare_typed(node, proto, untyped)
    return declared


def _declare_typed(node: Node, proto: onnx.GraphProto, untyped: set[tuple[int, str]]) -> bool:
    """Declare a known shape if its type is known, too: inference rejects a value without one."""
    scope, name = node.scope, node.output
    if kind := scope.types.get(name):
        proto.value_info.append(_value_info(name, kind, scope.shapes[name]))
        untyped.discard((scope.index, name))
    return bool(kind)


def _declare_recorded(
    scopes: list[Scope], copies: list[onnx.GraphProto], doubts: Mapping[int, set[str]], variable: set[int]
) -> bool:
    """Declare what the file records of results for which nothing is inferred; return whether there are any.

    These may be results of custom operators. An operator behind them then gets a shape.
    """
    declared = False
    for scope, proto in zip(scopes, copies, strict=True):
        made = {name for node in scope.nodes for name in node.outputs} - doubts.get(scope.index, set())
        unknown = made - scope.outputs - scope.shapes.keys()
        for value in scope.proto.value_info:
            if value.name in unknown and value.type.tensor_type.HasField("shape"):
                proto.value_info.append(undated(value, variable))
                declared = True
    return declared


def _declare_disputed(node: Node, proto: onnx.GraphProto) -> bool:
    """Declare the results of an operator whose lengths are disputed; return whether that is new."""
    scope, shape, kind = node.scope, shape_of_disputed(node), node.dtype(0)
    if shape is None or kind is None or not node.output or scope.shapes.get(node.output) == shape:
        return False
    codes = (helper.np_dtype_to_tensor_dtype(kind), onnx.TensorProto.INT64)  # MaxPool's second result are indices
    for name, code in zip(node.outputs, codes, strict=False):
        scope.shapes[name], scope.types[name] = shape, code
        if name and name not in scope.outputs:
            proto.value_info.append(_value_info(name, code, shape))
    return True


def _declare_alike(node: Node, proto: onnx.GraphProto) -> bool:
    """Declare a result of the shape of the first input, for which onnx infers nothing; return whether that is new."""
    scope, name = node.scope, node.inputs[0] if node.has(0) else ""
    shape = scope.shapes.get(name)
    code = onnx.TensorProto.FLOAT if node.op == SCALER else scope.types.get(name)
    if shape is None or code is None or scope.shapes.get(node.output) == shape:
        return False
    scope.shapes[node.output], scope.types[node.output] = shape, code
    if node.output not in scope.outputs:
        proto.value_info.append(_value_info(node.output, code, shape))
    return node.output not in scope.outputs


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
    """Let inference use initializers that are graph inputs too if no caller may override them, and only then.

    Of the others the type and the shape that the input declares are known, and no value.
    """
    main, overridable = graph.main, graph.main.overridable
    for field in (copy.graph.initializer, copy.graph.sparse_initializer) if overridable else ():
        kept = [one for one in field if (one.name if hasattr(one, "name") else one.values.name) not in overridable]
        del field[:]
        field.extend(kept)
    settled = [v for v in copy.graph.input if v.name not in main.initializers or v.name in overridable]
    if len(settled) < len(copy.graph.input):
        copy.ir_version = max(copy.ir_version, FIRST_IR_WITH_DEFAULTS)
        del copy.graph.input[:]
        copy.graph.input.extend(settled)


def _declare_sparse(copy: onnx.ModelProto, copies: list[onnx.GraphProto]) -> None:
    """Declare sparse initializers as inputs, through which inference passes as it does not through sparse ones."""
    known = {value.name for value in copy.graph.input}
    for proto in copies:
        for sparse in proto.sparse_initializer:
            if sparse.values.name not in known:
                known.add(sparse.values.name)
                value = _value_info(sparse.values.name, sparse.values.data_type, tuple(sparse.dims))
                copy.graph.input.append(value)
        del proto.sparse_initializer[:]


def _declare_channels(main: Scope, copy: onnx.ModelProto) -> None:
    """Declare the open channels of graph inputs that the weights or parameters of their consumers determine."""
    if main.graph.opset > onnx.defs.onnx_opset_version():
        return  # what their consumers mean is unknown
    for value in copy.graph.input:
        tensor = value.type.tensor_type
        if value.type.WhichOneof("value") == "tensor_type" and len(tensor.shape.dim) > CHANNEL_AXIS:
            known = _by_consumers(main, value.name)
            normalized = _normalized(main, value.name)
            dimension = tensor.shape.dim[CHANNEL_AXIS]
            channels = known[CHANNEL_AXIS] if known is not None and len(known) == len(tensor.shape.dim) else normalized
            if isinstance(channels, int) and not isinstance(dimension_of(dimension), int):
                dimension.dim_value = channels


def _normalized(scope: Scope, name: str) -> int | None:
    """The channels of a value that a BatchNormalization reads, by the length of its scale."""
    for edge in scope.uses.get(name, ()):
        if edge.node.op == "BatchNormalization" and edge.index == 0 and edge.node.has(1):
            scale = constants.shape_of(scope, edge.node.inputs[1])
            if scale is not None and len(scale) == 1:
                return scale[0]
    return None


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
    known: dict[bytes, tuple[int, Shape | None] | None] = {}  # most values of a model share a few types
    for value in values:
        kind = value.type.SerializeToString()
        if kind not in known:
            known[kind] = _type_of(value.type)
        if (found := known[kind]) is None:
            continue
        code, shape = found
        if code:
            scope.types[value.name] = code
        if shape is not None:
            scope.shapes[value.name] = shape


def _type_of(proto: onnx.TypeProto) -> tuple[int, Shape | None] | None:
    """The element type of a tensor, 0 if it is unknown, and its shape; None if it is no tensor."""
    if proto.WhichOneof("value") != "tensor_type":
        return None
    tensor = proto.tensor_type
    return tensor.elem_type, tuple(map(dimension_of, tensor.shape.dim)) if tensor.HasField("shape") else None


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all nested ones in the order of `Graph.scopes`."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from _graphs(body)
