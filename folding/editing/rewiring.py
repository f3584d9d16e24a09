"""Changes of who reads what: readers of a value read another one, an operator gives way to its input or to a constant.

A value may be read in nested graphs, too. `can_vanish` says whether a name may disappear at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper

from folding.editing.surgery import remove, set_output
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.weights import Weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from folding.analysis.evaluation import Array
    from folding.graph.index import Graph, Scope
    from folding.graph.node import Edge, Node


# --- readers -------------------------------------------------------------------------------------------------------


def nested_readers(scope: Scope, name: str) -> Iterator[Scope]:
    """The nested graphs in which a value of this scope is read."""
    if name not in scope.captured:
        return
    for inner in scope.graph.scopes:
        if inner.parent is scope and name not in inner.shadowing:
            if inner.uses.get(name) or name in inner.outputs:
                yield inner
            yield from nested_readers(inner, name)


def edges(scope: Scope, name: str) -> list[Edge]:
    """All inputs that read a value, in this scope and in nested graphs."""
    places = (scope, *nested_readers(scope, name))
    return [edge for place in places for edge in place.uses.get(name, ())]


def is_read(scope: Scope, name: str) -> bool:
    """Whether anything reads a value: an operator here or in a nested graph, a caller, training information."""
    if scope.uses.get(name) or name in scope.outputs or name in scope.pinned:
        return True
    return next(nested_readers(scope, name), None) is not None


def can_vanish(scope: Scope, name: str) -> bool:
    """Whether a name may disappear once no operator reads it: it is no output, and nothing else refers to it."""
    if name in scope.outputs or name in scope.pinned or name in scope.annotated or name in scope.shadowing:
        return False
    return not any(name in inner.outputs for inner in nested_readers(scope, name))


def can_reach(scope: Scope, old: str, new: str) -> bool:
    """Whether `new` means the same value wherever `old` is read."""
    return new not in scope.shadowing and not any(new in inner.shadowing for inner in nested_readers(scope, old))


def redirect(scope: Scope, old: str, new: str) -> None:
    """Let all readers of a value of this scope, in nested graphs too, read `new` of this scope or one around it."""
    owner = scope.owner(new)
    for place in (scope, *list(nested_readers(scope, old))):
        for edge in place.uses.pop(old, {}):
            edge.node.inputs[edge.index] = edge.node.proto.input[edge.index] = new
            edge.node.known_site = None
            place.uses[new][edge] = None
        around = place.parent if place is not owner else None
        while around is not None:
            around.captured.discard(old)
            around.captured.add(new)
            around = around.parent if around is not owner else None
    scope.captured.discard(old)


def recapture(graph: Graph) -> None:
    """Determine anew which values of a scope its nested graphs read, after operators there are gone."""
    for scope in graph.scopes:
        scope.captured.clear()
    for scope in reversed(graph.scopes):  # those inside come after those around them
        if scope.parent is not None:
            read = {name for name, found in scope.uses.items() if found} | scope.outputs | scope.captured
            own = scope.producers.keys() | scope.inputs | scope.initializers.keys() | scope.sparse.keys()
            scope.parent.captured |= read - own - scope.weights.keys()


# --- operators -----------------------------------------------------------------------------------------------------


def bypass(node: Node, value: str) -> bool:
    """Remove an operator whose first output equals `value`; return whether that is possible.

    Its readers read `value`. If the output is one of the graph, what makes `value` here takes over its name instead.
    No other output may be read.
    """
    scope, output = node.scope, node.output
    if any(name and (is_read(scope, name) or not can_vanish(scope, name)) for name in node.outputs[1:]):
        return False
    if can_vanish(scope, output):
        if not can_reach(scope, output, value):
            return False
        redirect(scope, output, value)
        remove(node, spare=value)
        return True
    return _hand_over(node, value)


def _hand_over(node: Node, value: str) -> bool:
    """Remove an operator and give the name of its output to the operator that makes the equal `value`."""
    scope, output = node.scope, node.output
    maker = scope.producers.get(value)
    if maker is None or not can_vanish(scope, value) or not can_reach(scope, value, output):
        return False
    if output in scope.shadowing or output not in scope.outputs:
        return False
    remove(node, spare=value)
    set_output(maker, maker.outputs.index(value), output)
    redirect(scope, value, output)
    _learn(scope, value, output)
    scope.dropped.discard(output)
    scope.dropped.add(value)
    return True


def _learn(scope: Scope, known: str, new: str) -> None:
    """Use what is known of a value under another name where nothing is known of that."""
    if new not in scope.shapes and known in scope.shapes:
        scope.shapes[new] = scope.shapes[known]
    if new not in scope.types and known in scope.types:
        scope.types[new] = scope.types[known]


def merge(node: Node, first: Node) -> bool:
    """Remove an operator all of whose outputs equal those of another one here; return whether that is possible."""
    scope, pairs = node.scope, [pair for pair in zip(node.outputs, first.outputs, strict=True) if pair[0]]
    if not all(can_vanish(scope, old) and can_reach(scope, old, new) for old, new in pairs):
        return False
    for old, new in pairs:
        redirect(scope, old, new)
    remove(node)
    return True


def become_constants(node: Node, found: Sequence[Weight | Array]) -> None:
    """Replace an operator by the constants that it makes; one that nothing reads is not made."""
    scope, wanted = node.scope, [bool(name) and is_read(node.scope, name) for name in node.outputs]
    remove(node)
    for name, values, is_wanted in zip(node.outputs, found, wanted, strict=False):
        if is_wanted:
            scope.weights[name] = Weight.exactly(values)
            scope.dropped.discard(name)


def to_initializer(node: Node) -> bool:
    """Make an initializer of the tensor of a Constant, without reading it; return whether that is possible."""
    scope, value = node.scope, node.attribute_proto("value")
    in_body = scope.parent is not None
    if value is None or value.ref_attr_name or isinstance(scope.proto, onnx.FunctionProto):
        return False
    if in_body and scope.graph.model.ir_version < FIRST_IR_WITH_DEFAULTS:
        return False
    tensor = scope.proto.initializer.add()
    tensor.CopyFrom(value.t)
    tensor.name = node.output
    if scope.graph.model.ir_version < FIRST_IR_WITH_DEFAULTS:  # then every initializer is an input, and no default
        scope.proto.input.append(helper.make_tensor_value_info(node.output, tensor.data_type, tensor.dims))
        scope.inputs.add(node.output)
    remove(node)
    scope.initializers[node.output] = tensor
    scope.dropped.discard(node.output)
    return True


def drop_initializer(scope: Scope, name: str) -> None:
    """Remove a constant of this scope that nothing reads."""
    scope.weights.pop(name, None)
    scope.evaluated.pop(name, None)
    scope.dropped.add(name)


def drop_bodies(node: Node) -> None:
    """Forget the nested graphs of an operator that was removed, with their operators that did not move elsewhere."""
    gone: set[int] = set()
    for scope in node.scope.graph.scopes:  # those inside come after those around them
        if scope.holder is node or (scope.parent is not None and scope.parent.index in gone):
            gone.add(scope.index)
    if gone:
        forget(node.scope.graph, [scope for scope in node.scope.graph.scopes if scope.index in gone])
        recapture(node.scope.graph)


def forget(graph: Graph, gone: Sequence[Scope]) -> None:
    """Take graphs and functions that no longer exist out of the index."""
    for scope in gone:
        for node in scope.nodes:
            node.removed |= node.scope is scope
    indices = {scope.index for scope in gone}
    graph.scopes[:] = [scope for scope in graph.scopes if scope.index not in indices]
