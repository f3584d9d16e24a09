"""The only place that changes a graph: carry out a plan, and write the result back into the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper, numpy_helper

from folding import constants
from folding.graph import Edge, Node
from folding.shapes import FIRST_IR_WITH_DEFAULTS
from folding.sites import data_input
from folding.weights import FLOAT_TYPES, Weight

if TYPE_CHECKING:
    import numpy as np

    from folding.affine import Affine
    from folding.graph import Graph, Scope
    from folding.plan import Edit, Plan

ABSORBED = "bnfold.absorbed"  # key in an absorbing operator's metadata_props: the names of what it absorbed


def commit(plan: Plan) -> None:
    """Carry out a plan: edit the absorbing operators, take out the affine ones."""
    names = ", ".join(node.label for node in plan.move.removed)
    dtype = _value_type(plan.site)
    for edit in plan.move.edits:
        _apply(edit, plan.site.key, dtype)
        _note(edit.node, names)
    for node in plan.move.removed:
        _bypass(node, keep_output=plan.direction == "backward")


def _value_type(node: Node) -> np.dtype[np.generic]:
    """The element type of the moved value, for the constant of an operator that a fold makes."""
    known = node.dtype(0) or node.scope.dtype(node.output)
    return known or next(node.weight(index).dtype for index in range(len(node.inputs)) if node.is_constant(index))


def _apply(edit: Edit, site: str, dtype: np.dtype[np.generic]) -> None:
    node = edit.node
    if edit.become is not None:
        rewrite_as_affine(node, edit.become, site)
    for index, weight in edit.constants.items():
        old = _old(node, index)
        if old is None or old.digest() != weight.digest():
            set_constant(node, index, weight, site)
    for name, value in edit.attributes.items():
        kept = [attribute for attribute in node.proto.attribute if attribute.name != name]
        del node.proto.attribute[:]
        node.proto.attribute.extend([*kept, helper.make_attribute(name, value)])
        node.changed()
    if edit.leftover is not None:
        own = next((node.weight(index).dtype for index in edit.constants), dtype)
        append_affine(node, edit.leftover, own, site)


def _old(node: Node, index: int) -> Weight | None:
    """The constant that an input reads, None if it reads none."""
    return constants.recipe(node.scope, node.inputs[index]) if node.is_constant(index) else None


def _note(node: Node, names: str) -> None:
    """Remember in the operator's metadata what it absorbed."""
    entry = next((entry for entry in node.proto.metadata_props if entry.key == ABSORBED), None)
    if entry is None:
        node.proto.metadata_props.add(key=ABSORBED, value=names)
    else:
        entry.value += f", {names}"


# --- constants -------------------------------------------------------------------------------------------


def set_constant(node: Node, index: int, weight: Weight, site: str) -> None:
    """Let an input read a new constant: in place of the old one if nobody else reads that, shared with an equal one."""
    scope = _home(node.scope)
    weight = weight.absorbing(site, _old(node, index))
    old = node.inputs[index] if node.has(index) else ""
    digest = weight.digest()
    name = scope.made.get(digest, "")
    if name not in scope.weights or scope.weights[name].digest() != digest:
        name = old if _is_private(scope, old) else scope.graph.fresh_name(_wish(node, index, old))
        scope.made[digest] = name
        scope.weights[name] = weight
    _connect(node, index, name)
    if scope is not node.scope:
        scope.captured.add(name)
    if old and old != name:
        drop_if_unread(node.scope, old)


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
    owner = scope.owner(name)
    if owner is None or owner.uses.get(name) or name in owner.outputs | owner.captured | owner.pinned | owner.annotated:
        return
    owner.weights.pop(name, None)
    owner.dropped.add(name)
    node = owner.producers.get(name)
    if node is not None and not node.removed and not any(owner.uses.get(output) for output in node.outputs):
        remove(node)


# --- operators -------------------------------------------------------------------------------------------


def rewrite_as_affine(node: Node, a: Affine, site: str) -> None:
    """Turn an operator with one data input into the Mul or Add that computes `a`, a pure scale or a pure shift."""
    dtype, data = _value_type(node), data_input(node)
    value, constant = node.inputs[data], node.inputs[1 - data] if len(node.inputs) == 2 else ""
    node.proto.op_type = "Mul" if a.is_linear else "Add"
    del node.proto.attribute[:]
    node.changed()
    drop_inputs(node, 2)
    _connect(node, 0, value)
    if constant:
        _connect(node, 1, constant)
    del node.proto.output[1:], node.outputs[1:]  # empty names of statistics nobody asked for
    set_constant(node, 1, _constant_of(a, dtype), site)


def _constant_of(a: Affine, dtype: np.dtype[Any]) -> Weight:
    """The constant operand of the Mul or Add that computes a pure scale or a pure shift."""
    return Weight.of(a.scale, dtype, is_scale=True) if a.is_linear else Weight.of(a.shift, dtype)


def append_affine(node: Node, a: Affine, dtype: np.dtype[np.generic], site: str) -> None:
    """Insert a Mul, an Add or both behind an operator; its first output's name moves to the last of them."""
    scope, final, previous = node.scope, node.output, node
    parts = [part for part in (a.linear_part(), a.shift_part()) if not part.is_identity]
    inner = scope.graph.fresh_name(f"{final}_unshifted")
    _copy_facts(scope, final, inner)
    _set_output(node, 0, inner)
    for number, part in enumerate(parts):
        op = "Mul" if part.is_linear else "Add"
        output = final if number + 1 == len(parts) else scope.graph.fresh_name(f"{final}_scaled")
        _copy_facts(scope, final, output)
        new = Node(
            onnx.NodeProto(op_type=op, output=[output], name=scope.graph.fresh_name(f"{node.label}.{op.lower()}")),
            scope,
        )
        insert_after(previous, new)
        _connect(new, 0, previous.output)
        set_constant(new, 1, _constant_of(part, dtype), site)
        previous = new


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


def _bypass(node: Node, *, keep_output: bool) -> None:
    """Take an affine operator out and join its data input and its output under one of their names."""
    scope, value, output = node.scope, node.inputs[data_input(node)], node.output
    remove(node, spare=value)
    if keep_output:
        producer = scope.producers[value]
        _set_output(producer, producer.outputs.index(value), output)
        old, new = value, output
        scope.dropped.add(value)
        scope.dropped.discard(output)
    else:
        old, new = output, value
    for edge in list(scope.uses.pop(old, ())):
        edge.node.inputs[edge.index] = edge.node.proto.input[edge.index] = new
        scope.uses[new].append(edge)


def drop_inputs(node: Node, first: int) -> None:
    """Take away the inputs from number `first` on."""
    names = node.inputs[first:]
    for index in range(first, len(node.inputs)):
        _disconnect(node, index)
    del node.inputs[first:], node.proto.input[first:]
    for name in names:
        drop_if_unread(node.scope, name)


def _connect(node: Node, index: int, name: str) -> None:
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


def _set_output(node: Node, index: int, name: str) -> None:
    scope = node.scope
    scope.producers.pop(node.outputs[index], None)
    node.outputs[index] = node.proto.output[index] = name
    scope.producers[name] = node


def _copy_facts(scope: Scope, known: str, new: str) -> None:
    if known in scope.shapes:
        scope.shapes[new] = scope.shapes[known]
    if known in scope.types:
        scope.types[new] = scope.types[known]


# --- the message -----------------------------------------------------------------------------------------


def write_back(graph: Graph) -> None:
    """Bring the message up to date: operators, initializers with their payloads, what is said of vanished names."""
    for scope in graph.scopes:
        if scope.restructured:
            nodes = [node.proto for node in scope.nodes if not node.removed]
            _replace(scope.proto.node, nodes)
        _write_initializers(scope)
        gone = {name for name in scope.dropped if name not in scope.producers} | set(scope.weights)
        if any(value.name in gone for value in scope.proto.value_info):
            _replace(scope.proto.value_info, [value for value in scope.proto.value_info if value.name not in gone])


def _write_initializers(scope: Scope) -> None:
    """New constants take the place of the old ones of the same name; unread ones go, with their graph inputs."""
    gone = (scope.dropped | set(scope.weights)) & set(scope.initializers)
    if not gone and not scope.weights:
        return
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
