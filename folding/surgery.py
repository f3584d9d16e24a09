"""Changes of a graph, one at a time: a constant, an operator, a name; and the way back into the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper, numpy_helper

from folding import constants
from folding.node import Edge, Node
from folding.shapes import FIRST_IR_WITH_DEFAULTS
from folding.weights import FLOAT_TYPES

if TYPE_CHECKING:
    from folding.graph import Graph, Scope
    from folding.weights import Weight


# --- constants -------------------------------------------------------------------------------------------


def set_constant(node: Node, index: int, weight: Weight, site: str) -> None:
    """Let an input read a new constant: in place of the old one if nobody else reads that, shared with an equal one."""
    scope = _home(node.scope)
    weight = weight.absorbing(site, old_constant(node, index))
    old = node.inputs[index] if node.has(index) else ""
    digest = weight.digest()
    name = scope.made.get(digest, "")
    if name not in scope.weights or scope.weights[name].digest() != digest:
        name = old if _is_private(scope, old) else scope.graph.fresh_name(_wish(node, index, old))
        scope.made[digest] = name
        scope.weights[name] = weight
    connect(node, index, name)
    if scope is not node.scope:
        scope.captured.add(name)
    if old and old != name:
        drop_if_unread(node.scope, old)


def old_constant(node: Node, index: int) -> Weight | None:
    """The constant that an input reads, None if it reads none."""
    return constants.recipe(node.scope, node.inputs[index]) if node.is_constant(index) else None


def _home(scope: Scope) -> Scope:
    """Where new constants live: before IR version 4 every initializer is an input, and bodies cannot gain inputs."""
    return scope.graph.main if scope.graph.model.ir_version < FIRST_IR_WITH_DEFAULTS else scope


def _wish(node: Node, index: int, old: str) -> str:
    return f"{old}_folded" if old else f"{node.label}.{'bias' if index else 'constant'}"


def _is_private(scope: Scope, name: str) -> bool:
    """Whether the name is an initializer of this scope that one input reads and nobody else can see."""
    if name not in scope.initializers and name not in scope.weights:
        return False
    seen = scope.outputs | scope.captured | scope.pinned | scope.annotated
    return len(scope.uses[name]) == 1 and name not in seen


def drop_if_unread(scope: Scope, name: str) -> None:
    """Take out a constant that lost its last reader, and the operators that only made it."""
    owner = scope.owner(name) if constants.is_constant(scope, name) else None
    if owner is not None and name in owner.captured and not _is_read_elsewhere(owner, name):
        owner.captured.discard(name)
    if owner is None or owner.uses.get(name) or name in owner.outputs | owner.captured | owner.pinned | owner.annotated:
        return
    owner.weights.pop(name, None)
    owner.dropped.add(name)
    node = owner.producers.get(name)
    seen = owner.outputs | owner.captured | owner.pinned | owner.annotated
    if node is not None and not node.removed and not any(o in seen or owner.uses.get(o) for o in node.outputs):
        remove(node)


def _is_read_elsewhere(owner: Scope, name: str) -> bool:
    """Whether another graph may still read a constant of this one; what it calls so may be a value of its own."""
    others = (scope for scope in owner.graph.scopes if scope is not owner)
    return any(scope.uses.get(name) or name in scope.outputs for scope in others)


# --- operators -------------------------------------------------------------------------------------------


def insert_after(node: Node, new: Node) -> None:
    """Put an operator, whose inputs are still to be connected, behind another one."""
    scope, new.is_made = node.scope, True
    scope.nodes.insert(scope.nodes.index(node) + 1, new)
    scope.producers.update({name: new for name in new.outputs if name})
    scope.restructured = True


def remove(node: Node, spare: str = "") -> None:
    """Take an operator out, and the constants that only it read; the input `spare` goes on to other readers."""
    scope = node.scope
    node.removed = scope.restructured = True
    for name in node.outputs:
        scope.producers.pop(name, None)
        scope.dropped.add(name)
    for index, name in enumerate(node.inputs):
        if name:
            _disconnect(node, index)
            if name != spare:
                drop_if_unread(scope, name)


def drop_inputs(node: Node, first: int) -> None:
    """Take away the inputs from number `first` on."""
    names = node.inputs[first:]
    for index in range(first, len(node.inputs)):
        _disconnect(node, index)
    del node.inputs[first:], node.proto.input[first:]
    for name in names:
        drop_if_unread(node.scope, name)


def connect(node: Node, index: int, name: str) -> None:
    """Let an input read `name`."""
    while len(node.inputs) <= index:
        node.inputs.append("")
        node.proto.input.append("")
    _disconnect(node, index)
    node.inputs[index] = node.proto.input[index] = name
    node.scope.uses[name].append(Edge(node, index))
    node.changed()


def _disconnect(node: Node, index: int) -> None:
    uses = node.scope.uses.get(node.inputs[index])
    if uses is not None and Edge(node, index) in uses:
        uses.remove(Edge(node, index))


def set_output(node: Node, index: int, name: str) -> None:
    """Give an output another name; who reads it is told by nobody."""
    scope = node.scope
    scope.producers.pop(node.outputs[index], None)
    node.outputs[index] = node.proto.output[index] = name
    scope.producers[name] = node


def copy_facts(scope: Scope, known: str, new: str) -> None:
    """Let a new name have the shape and type of another one."""
    if known in scope.shapes:
        scope.shapes[new] = scope.shapes[known]
    if known in scope.types:
        scope.types[new] = scope.types[known]


# --- the message -----------------------------------------------------------------------------------------


def write_back(graph: Graph) -> None:
    """Bring the message up to date: operators, initializers with their payloads, what is said of vanished names."""
    # Bodies before what holds them: protobuf copies the operators that are put back, bodies and all.
    for scope in reversed(graph.scopes):
        if scope.restructured:
            nodes = [node.proto for node in scope.nodes if not node.removed]
            _replace(scope.proto.node, nodes)
        if scope.is_function:
            _write_constants(scope)
        else:
            _write_initializers(scope)
        gone = {name for name in scope.dropped if name not in scope.producers} | set(scope.weights)
        if any(value.name in gone for value in scope.proto.value_info):
            _replace(scope.proto.value_info, [value for value in scope.proto.value_info if value.name not in gone])


def _write_constants(scope: Scope) -> None:
    """A function has no initializers: its new constants are Constant nodes before all others."""
    tensors = [_tensor(scope, name, weight, None) for name, weight in scope.weights.items()]
    made = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors]
    if made:
        _replace(scope.proto.node, [*made, *scope.proto.node])


def _write_initializers(scope: Scope) -> None:
    """New constants take the place of the old ones of the same name; unread ones go, with their graph inputs."""
    gone = (scope.dropped | set(scope.weights)) & (scope.initializers.keys() | scope.sparse.keys())
    if not gone and not scope.weights:
        return
    if gone & scope.sparse.keys():
        _replace(scope.proto.sparse_initializer, [s for name, s in scope.sparse.items() if name not in gone])
    old_ir = scope.parent is None and scope.graph.model.ir_version < FIRST_IR_WITH_DEFAULTS
    tensors, left = [], dict(scope.weights)
    for tensor in scope.proto.initializer:
        if tensor.name in left:
            tensors.append(_tensor(scope, tensor.name, left.pop(tensor.name), tensor))
        elif tensor.name not in gone:
            tensors.append(tensor)
    tensors += [_tensor(scope, name, weight, None) for name, weight in left.items()]
    _replace(scope.proto.initializer, tensors)
    vanished = gone - (set(scope.weights) if old_ir else set())
    if scope.inputs & vanished:
        _replace(scope.proto.input, [value for value in scope.proto.input if value.name not in vanished])
    if old_ir:
        _declare(scope)


def _declare(scope: Scope) -> None:
    """Before IR version 4 every initializer is a graph input too."""
    for name, weight in scope.weights.items():
        code = helper.np_dtype_to_tensor_dtype(weight.dtype)
        value = helper.make_tensor_value_info(name, code, weight.shape)
        same = next((given for given in scope.proto.input if given.name == name), None)
        if same is None:
            scope.proto.input.append(value)
        else:
            same.type.CopyFrom(value.type)


def _tensor(scope: Scope, name: str, weight: Weight, old: onnx.TensorProto | None) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(weight.dtype), dims=weight.shape)
    if old is not None:
        tensor.doc_string = old.doc_string
        tensor.metadata_props.extend(old.metadata_props)
    floating = weight.dtype in FLOAT_TYPES
    tensor.raw_data = scope.graph.file.attach(weight) if floating else _packed(weight)
    return tensor


def _packed(integers: Weight) -> bytes:
    """Integers as they are stored: those of 4 or 2 bits share a byte."""
    return numpy_helper.from_array(integers.values().astype(integers.dtype)).raw_data


def _replace(field: Any, items: list[Any]) -> None:
    """Give a repeated protobuf field new contents."""
    del field[:]
    field.extend(items)
