"""Single changes of a graph: to a constant, an operator, an attribute or a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

from folding.analysis import constants
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import Edge, Node

if TYPE_CHECKING:
    from collections.abc import Collection

    from folding.graph.index import Scope
    from folding.graph.weights import Weight

Attribute = float | str | Sequence[int]
NO_ATTRIBUTES: Mapping[str, Attribute] = {}


# --- constants -------------------------------------------------------------------------------------------


def set_constant(node: Node, index: int, weight: Weight, site: str) -> None:
    """Let an input read a new constant. It replaces an old one without other readers; equal constants are shared."""
    scope = home(node.scope)
    digest = weight.digest()  # before `absorbing`, which takes it over
    weight = weight.absorbing(site, old_constant(node, index))
    old = node.inputs[index] if node.has(index) else ""
    name = scope.made.get(digest, "")
    if name not in scope.weights or scope.weights[name].digest() != digest:
        name = old if _is_private(scope, old) else scope.graph.fresh_name(_wish(node, index, old))
        scope.made[digest] = name
        scope.weights[name] = weight
    if name == old:
        node.changed()
        return
    connect(node, index, name)
    if scope is not node.scope:
        scope.captured.add(name)
    if old:
        drop_if_unread(node.scope, old)


def old_constant(node: Node, index: int) -> Weight | None:
    """The constant that an input reads, None if it is no constant."""
    return constants.recipe(node.scope, node.inputs[index]) if node.is_constant(index) else None


def home(scope: Scope) -> Scope:
    """The scope of new constants: before IR 4 the main graph, since initializers are inputs and bodies gain none."""
    return scope.graph.main if scope.graph.model.ir_version < FIRST_IR_WITH_DEFAULTS else scope


def _wish(node: Node, index: int, old: str) -> str:
    return f"{old}_folded" if old else f"{node.label}.{'bias' if index else 'constant'}"


def _is_private(scope: Scope, name: str) -> bool:
    """Whether the name is an initializer of this scope that only one input reads and nothing else can see."""
    if name not in scope.initializers and name not in scope.weights:
        return False
    return len(scope.uses[name]) == 1 and not scope.is_seen(name) and name not in scope.annotated


def drop_if_unread(scope: Scope, name: str) -> None:
    """Remove a constant without readers, and the operators that only produced it."""
    owner = scope if name in scope.settled else scope.owner(name) if constants.is_constant(scope, name) else None
    if owner is not None and name in owner.captured and not _is_read_elsewhere(owner, name):
        owner.captured.discard(name)
    if owner is None or is_needed(owner, name):
        return
    owner.weights.pop(name, None)
    owner.evaluated.pop(name, None)
    owner.dropped.add(name)
    node = owner.producers.get(name)
    if node is not None and not node.removed and not any(is_needed(owner, output) for output in node.outputs):
        remove(node)


def is_needed(owner: Scope, name: str) -> bool:
    """Whether an operator or anything else refers to a name."""
    return bool(owner.uses.get(name)) or owner.is_seen(name) or name in owner.annotated


def _is_read_elsewhere(owner: Scope, name: str) -> bool:
    """Whether another graph may read a constant of this one; a name there may also be that graph's own value."""
    others = (scope for scope in owner.graph.scopes if scope is not owner)
    return any(scope.uses.get(name) or name in scope.outputs for scope in others)


# --- operators -------------------------------------------------------------------------------------------


def append_operator(node: Node, op: str) -> Node:
    """Insert an operator after another one: it reads the first output of that one and takes over its name."""
    scope, final = node.scope, node.output
    inner, label = scope.graph.fresh_name(f"{final}_before"), scope.graph.fresh_name(f"{node.label}.{op.lower()}")
    _copy_facts(scope, final, inner)
    set_output(node, 0, inner)
    new = Node(onnx.NodeProto(op_type=op, output=[final], name=label), scope)
    new.is_made = True
    scope.nodes.insert_behind(node, new)
    scope.producers[final] = new
    scope.restructured = True
    connect(new, 0, inner)
    return new


def retype(node: Node, op: str, attributes: Mapping[str, Attribute] = NO_ATTRIBUTES) -> None:
    """Change the operator type and the attributes of a node; its inputs and outputs stay."""
    node.proto.op_type = op
    del node.proto.attribute[:]
    set_attributes(node, attributes)


def set_attributes(node: Node, attributes: Mapping[str, Attribute]) -> None:
    """Set attributes; all others stay."""
    drop_attributes(node, attributes)
    node.proto.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    node.changed()


def drop_attributes(node: Node, names: Collection[str]) -> None:
    """Remove attributes, so that their defaults apply."""
    replace(node.proto.attribute, [attribute for attribute in node.proto.attribute if attribute.name not in names])
    node.changed()


def note(node: Node, key: str, value: str) -> None:
    """Add a value to the comma-separated values under a key in the operator's metadata."""
    entry = next((entry for entry in node.proto.metadata_props if entry.key == key), None)
    if entry is None:
        node.proto.metadata_props.add(key=key, value=value)
    else:
        entry.value += f", {value}"


def remove(node: Node, spare: str = "") -> None:
    """Remove an operator, and the constants that only it read; the input `spare` is kept for other readers."""
    scope = node.scope
    node.removed = scope.restructured = True
    for name in node.outputs:
        scope.producers.pop(name, None)
        scope.dropped.add(name)
    for index, name in enumerate(node.inputs):
        if name:
            disconnect(node, index)
            if name != spare:
                drop_if_unread(scope, name)


def drop_inputs(node: Node, first: int) -> None:
    """Remove the inputs from index `first` on."""
    names = node.inputs[first:]
    for index in range(first, len(node.inputs)):
        disconnect(node, index)
    del node.inputs[first:], node.proto.input[first:]
    for name in names:
        drop_if_unread(node.scope, name)


def drop_outputs(node: Node, first: int) -> None:
    """Remove the outputs from index `first` on; nothing may read them."""
    names = [name for name in node.outputs[first:] if name]
    del node.outputs[first:], node.proto.output[first:]
    node.scope.dropped.update(names)
    for name in names:
        node.scope.producers.pop(name, None)


def connect(node: Node, index: int, name: str) -> None:
    """Let an input read `name`."""
    while len(node.inputs) <= index:
        node.inputs.append("")
        node.proto.input.append("")
    disconnect(node, index)
    node.inputs[index] = node.proto.input[index] = name
    node.scope.uses[name][Edge(node, index)] = None
    node.changed()


def set_inputs(node: Node, names: Sequence[str]) -> None:
    """Let an operator read exactly these values."""
    for index in range(len(node.inputs)):
        disconnect(node, index)
    replace(node.proto.input, list(names))
    node.inputs[:] = names
    for index, name in enumerate(names):
        if name:
            node.scope.uses[name][Edge(node, index)] = None
    node.changed()


def disconnect(node: Node, index: int) -> None:
    """Let an input read nothing; its name stays until it is connected again, or removed."""
    uses = node.scope.uses.get(node.inputs[index])
    if uses is not None:
        uses.pop(Edge(node, index), None)


def set_output(node: Node, index: int, name: str) -> None:
    """Rename an output; its readers are not updated."""
    scope = node.scope
    scope.producers.pop(node.outputs[index], None)
    node.outputs[index] = node.proto.output[index] = name
    scope.producers[name] = node


def _copy_facts(scope: Scope, known: str, new: str) -> None:
    """Copy the shape and type of a known name to a new name."""
    if known in scope.shapes:
        scope.shapes[new] = scope.shapes[known]
    if known in scope.types:
        scope.types[new] = scope.types[known]


def replace(field: Any, items: list[Any]) -> None:
    """Replace the contents of a repeated protobuf field."""
    del field[:]
    field.extend(items)
