"""Write the graph back to the message: operators, constants with their payloads, and facts about removed names."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import onnx
from onnx import helper, numpy_helper

from folding.analysis.evaluation import array_of
from folding.editing.surgery import replace
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.weights import UnrepresentableError
from folding.onnxfile import INLINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.graph.index import Graph, Scope
    from folding.graph.weights import Weight
    from folding.onnxfile import OnnxFile

SINGLE_BYTES = 1 << 30  # a model of less stays one file, whatever the folds copy
# What of a TensorProto goes when it holds other values.
VALUES = (
    *("dims", "data_type", "segment", "data_location", "external_data", "raw_data", "string_data"),
    *("float_data", "double_data", "int32_data", "int64_data", "uint64_data"),
)


def write_back(graph: Graph) -> None:
    """Update the message: operators, initializers with their payloads, and facts about removed names.

    It may be called again after further changes.
    """
    # Bodies before the operators that hold them: protobuf copies an operator together with its bodies.
    inline = inline_bytes(graph.file)
    for scope in reversed(graph.scopes):
        if scope.restructured or (scope.is_function and scope.weights):  # without the constants of an earlier call
            nodes = [node.proto for node in scope.nodes if not node.removed]
            replace(scope.proto.node, nodes)
        if scope.is_function:
            _write_constants(scope, inline)
        else:
            _write_initializers(scope, inline)
        gone = {name for name in scope.dropped if name not in scope.producers} | set(scope.weights)
        if any(value.name in gone for value in scope.proto.value_info):
            replace(scope.proto.value_info, [value for value in scope.proto.value_info if value.name not in gone])


def with_outputs(graph: Graph, names: Iterable[str]) -> OnnxFile:
    """A variant of the file, as it is in memory, with these values of the main graph among its outputs or inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return graph.file.variant(model)


def _write_constants(scope: Scope, inline: int) -> None:
    """Write the new constants of a function as its first nodes (Constant), because it has no initializers."""
    tensors = [_tensor(scope, name, weight, None, inline) for name, weight in scope.weights.items()]
    made = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors]
    if made:
        replace(scope.proto.node, [*made, *scope.proto.node])


def _write_initializers(scope: Scope, inline: int) -> None:
    """Replace old initializers by new ones of the same name; remove unread ones with their graph inputs."""
    if not scope.dropped and not scope.weights:
        return
    known = {tensor.name for tensor in scope.proto.initializer}  # with those of an earlier call
    gone = (scope.dropped | set(scope.weights)) & (known | scope.sparse.keys())
    if gone & scope.sparse.keys():
        replace(scope.proto.sparse_initializer, [s for name, s in scope.sparse.items() if name not in gone])
    old_ir = scope.parent is None and scope.graph.model.ir_version < FIRST_IR_WITH_DEFAULTS
    tensors, left = [], dict(scope.weights)
    for tensor in scope.proto.initializer:
        name = tensor.name
        if name in left:
            tensors.append(_tensor(scope, name, left.pop(name), tensor, inline))
        elif name not in gone:
            tensors.append(tensor)
    tensors += [_tensor(scope, name, weight, None, inline) for name, weight in left.items()]
    replace(scope.proto.initializer, tensors)
    for tensor in scope.proto.initializer:  # one that is dropped later must be found
        scope.initializers.setdefault(tensor.name, tensor)
    vanished = gone - (set(scope.weights) if old_ir else set())
    if scope.inputs & vanished:
        replace(scope.proto.input, [value for value in scope.proto.input if value.name not in vanished])
    if old_ir:
        _declare(scope)


def _declare(scope: Scope) -> None:
    """Declare initializers as graph inputs, which IR versions before 4 require."""
    for name, weight in scope.weights.items():
        code = helper.np_dtype_to_tensor_dtype(weight.dtype)
        value = helper.make_tensor_value_info(name, code, weight.shape)
        same = next((given for given in scope.proto.input if given.name == name), None)
        if same is None:
            scope.proto.input.append(value)
        else:
            same.type.CopyFrom(value.type)


def _tensor(scope: Scope, name: str, weight: Weight, old: onnx.TensorProto | None, inline: int) -> onnx.TensorProto:
    """The tensor of a constant, which is in the message itself if it has at most `inline` bytes."""
    tensor = onnx.TensorProto()
    if old is not None:
        tensor.CopyFrom(old)  # its documentation and metadata stay, and fields that onnx does not know
        for field in VALUES:
            tensor.ClearField(field)
    tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(weight.dtype)
    tensor.dims.extend(weight.shape)
    floating = weight.dtype in FLOAT_TYPES
    tensor.raw_data = stored_bytes(scope.graph.file, weight, inline) if floating else _packed(weight)
    return tensor


def inline_bytes(file: OnnxFile) -> int:
    """The largest constant that is in the message itself, in bytes; -1 where all are apart."""
    return INLINE_BYTES if file.nbytes < SINGLE_BYTES and not file.external_locations else -1


def stored_bytes(file: OnnxFile, weight: Weight, inline: int) -> bytes:
    """Floating-point values, or the marker of a payload if there are more bytes than `inline`.

    One that cannot be represented is found when the model is written, as that of a payload.
    """
    if weight.nbytes <= inline:
        with suppress(UnrepresentableError):
            return b"".join([weight.evaluate(start, stop) for start, stop in weight.blocks()])
    return file.attach(weight)


def _packed(integers: Weight) -> bytes:
    """Integers as they are stored; those of 4 or 2 bits share bytes. Large ones of 64 bits are not exact in float64."""
    return numpy_helper.from_array(array_of(integers)).raw_data
