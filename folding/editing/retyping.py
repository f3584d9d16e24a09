"""Changes of element types: Casts between values, types that attributes name, and what the message declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from folding.editing import surgery
from folding.editing.writeback import VALUES, inline_bytes, stored_bytes
from folding.graph.node import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.graph.index import Scope
    from folding.graph.weights import Weight

MADE = "value"  # of ConstantOfShape: a tensor of one element


def code_of(dtype: np.dtype[Any]) -> int:
    """The ONNX element type of a NumPy dtype."""
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def insert_cast(scope: Scope, source: str, target: str, dtype: np.dtype[Any]) -> Node:
    """Insert ``target = Cast(source)`` in a scope, behind the operator that makes `source`, or in front of all."""
    name = scope.graph.fresh_name(f"{target}_cast")
    node = Node(onnx.NodeProto(op_type="Cast", output=[target], name=name), scope)
    node.is_made = True
    node.proto.attribute.append(helper.make_attribute("to", code_of(dtype)))
    node.changed()
    producer = scope.producers.get(source)
    if producer is None:
        scope.nodes.insert_first(node)
    else:
        scope.nodes.insert_behind(producer, node)
    scope.producers[target] = node
    scope.types[target] = code_of(dtype)
    if source in scope.shapes:
        scope.shapes[target] = scope.shapes[source]
    scope.restructured = True
    surgery.connect(node, 0, source)
    return node


def rename_output(node: Node, index: int, name: str) -> None:
    """Let an operator make `name` instead; what was known of its old result is known of the new one."""
    old, scope = node.outputs[index], node.scope
    if old in scope.shapes:
        scope.shapes[name] = scope.shapes[old]
    if old in scope.types:
        scope.types[name] = scope.types[old]
    surgery.set_output(node, index, name)


def set_body_output(scope: Scope, index: int, name: str) -> None:
    """Let a nested graph return another of its values; its results have no names outside.

    What was declared of the one before is recorded: shape inference may not find its shape again.
    """
    before = onnx.ValueInfoProto()
    before.CopyFrom(scope.proto.output[index])
    scope.proto.output[index].name = name
    scope.outputs = {value.name for value in scope.proto.output}
    if before.name not in scope.outputs | {value.name for value in scope.proto.value_info}:
        scope.proto.value_info.append(before)


def set_type_attribute(node: Node, attribute: str, dtype: np.dtype[Any]) -> None:
    """Set an attribute that names an element type."""
    surgery.set_attributes(node, {attribute: code_of(dtype)})


def filling(node: Node) -> float:
    """The value with which ConstantOfShape fills (0 by default)."""
    given = node.attribute(MADE)
    return 0.0 if given is None else float(numpy_helper.to_array(given).astype(np.float64).reshape(-1)[0])


def set_filling(node: Node, value: float, dtype: np.dtype[Any]) -> None:
    """Let ConstantOfShape fill with a value of this type."""
    tensor = numpy_helper.from_array(np.array([value]).astype(dtype), MADE)
    surgery.drop_attributes(node, [MADE])
    node.proto.attribute.append(helper.make_attribute(MADE, tensor))
    node.changed()


def set_constant_node(node: Node, weight: Weight) -> None:
    """Let a Constant node hold a weight."""
    given = node.attribute_proto("value")
    tensor = onnx.TensorProto()
    if given is not None:
        tensor.CopyFrom(given.t)
        for field in VALUES:
            tensor.ClearField(field)
    tensor.data_type = code_of(weight.dtype)
    tensor.dims.extend(weight.shape)
    file = node.scope.graph.file
    tensor.raw_data = stored_bytes(file, weight, inline_bytes(file))
    del node.proto.attribute[:]
    node.proto.attribute.append(helper.make_attribute("value", tensor))
    node.scope.evaluated.pop(node.output, None)
    node.changed()


def set_sparse(scope: Scope, name: str, weight: Weight) -> None:
    """Let a sparse initializer hold other values, those of `weight`, at the same places."""
    values = scope.sparse[name].values
    for field in VALUES:
        values.ClearField(field)
    values.data_type = code_of(weight.dtype)
    values.dims.extend(weight.shape)
    values.raw_data = b"".join(weight.evaluate(start, stop) for start, stop in weight.blocks())
    scope.evaluated.pop(name, None)


def copy_sparse(scope: Scope, name: str, new: str) -> None:
    """Add a copy of a sparse initializer under a new name."""
    copy = scope.proto.sparse_initializer.add()
    copy.CopyFrom(scope.sparse[name])
    copy.values.name = new
    scope.sparse[new] = copy


def declare(scope: Scope, types: Mapping[str, np.dtype[Any]]) -> None:
    """State the element types of values wherever the graph of a scope names them."""
    proto = scope.proto
    for value in (*proto.value_info, *([] if scope.is_function else (*proto.input, *proto.output))):
        if value.name in types and value.type.HasField("tensor_type"):
            value.type.tensor_type.elem_type = code_of(types[value.name])
    scope.types.update({name: code_of(dtype) for name, dtype in types.items()})
