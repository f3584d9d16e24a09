"""Put the operators of a branch of an If in the place of the If, where its condition is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from folding.editing.rewiring import can_reach, can_vanish, drop_bodies, recapture, redirect
from folding.editing.surgery import connect, remove, set_output
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import Node

if TYPE_CHECKING:
    from folding.graph.index import Scope


def inline_branch(node: Node, branch: str) -> list[Node] | None:
    """Replace an If by the operators of one of its branches; return them, None if that is not possible.

    Names of the branch that something else in the model has, too, become new ones. Names of the If's outputs stay.
    """
    scope = node.scope
    inner = _branch(node, branch)
    if inner is None or not _is_plain(inner, scope):
        return None
    results = _unique(inner, [value.name for value in inner.proto.output])
    moved = [one for one in inner.nodes if not one.removed]
    _move_constants(inner, scope)
    _move_operators(inner, scope, node, moved)
    remove(node)
    drop_bodies(node)
    recapture(scope.graph)
    for output, result in zip(node.outputs, results, strict=False):
        if output:
            moved += _give(node, output, result, moved)
    recapture(scope.graph)
    return moved


def _branch(node: Node, branch: str) -> Scope | None:
    names = [attribute.name for attribute in node.proto.attribute if attribute.HasField("g")]
    scopes = [scope for scope in node.scope.graph.scopes if scope.holder is node]
    return dict(zip(names, scopes, strict=True)).get(branch)


def _is_plain(inner: Scope, scope: Scope) -> bool:
    """Whether nothing of the branch but operators and constants has to move, and no name means two things in it."""
    if inner.sparse or inner.annotated or any(one.shadowing for one in scope.graph.scopes):
        return False
    has_constants = bool(inner.initializers or inner.weights)
    return not has_constants or (not scope.is_function and scope.graph.model.ir_version >= FIRST_IR_WITH_DEFAULTS)


def _unique(inner: Scope, outputs: list[str]) -> list[str]:
    """Give the branch names that nothing else in the model has; return those of its outputs."""
    graph = inner.graph
    others = [scope for scope in graph.scopes if scope is not inner]
    renamed: dict[str, str] = {}
    for name in [*inner.producers, *inner.initializers, *(n for n in inner.weights if n not in inner.initializers)]:
        taken = any(
            name in scope.producers or name in scope.inputs or name in scope.initializers or name in scope.weights
            for scope in others
        )
        if taken:
            renamed[name] = _rename(inner, name, graph.fresh_name(name))
    return [renamed.get(name, name) for name in outputs]


def _rename(inner: Scope, old: str, new: str) -> str:
    maker = inner.producers.get(old)
    if maker is not None:
        set_output(maker, maker.outputs.index(old), new)
    tables: list[dict[str, Any]] = [inner.initializers, inner.weights, inner.shapes, inner.types]
    for table in tables:
        if old in table:
            table[new] = table.pop(old)
    if old in inner.dropped:
        inner.dropped.add(new)
    redirect(inner, old, new)
    return new


def _move_constants(inner: Scope, scope: Scope) -> None:
    for name, tensor in inner.initializers.items():
        if name not in inner.dropped and name not in inner.weights:
            moved = scope.proto.initializer.add()
            moved.CopyFrom(tensor)
            moved.name = name
            scope.initializers[name] = moved
    scope.weights.update(inner.weights)


def _move_operators(inner: Scope, scope: Scope, node: Node, moved: list[Node]) -> None:
    for one in reversed(moved):
        scope.nodes.insert_behind(node, one)
        one.scope = scope
        scope.producers.update({name: one for name in one.outputs if name})
    for name, found in inner.uses.items():
        scope.uses[name].update(found)
    for nested in scope.graph.scopes:
        if nested.parent is inner:
            nested.parent = scope
    scope.shapes.update({name: shape for name, shape in inner.shapes.items() if name not in scope.shapes})
    scope.types.update({name: code for name, code in inner.types.items() if name not in scope.types})
    scope.restructured = True


def _give(node: Node, output: str, result: str, moved: list[Node]) -> list[Node]:
    """Let the readers of an output of the If read the branch's result; return the operator that this takes, if any."""
    scope = node.scope
    scope.dropped.discard(output)
    if can_vanish(scope, output) and can_reach(scope, output, result):
        redirect(scope, output, result)
        scope.dropped.add(output)
        return []
    maker = scope.producers.get(result)
    if maker is not None and maker in moved and can_vanish(scope, result):
        set_output(maker, maker.outputs.index(result), output)
        redirect(scope, result, output)
        return []
    label = scope.graph.fresh_name(f"{output}.identity")
    copy = Node(onnx.NodeProto(op_type="Identity", input=[""], output=[output], name=label), scope)
    copy.is_made = True
    scope.nodes.insert_behind(moved[-1] if moved else node, copy)
    scope.producers[output] = copy
    connect(copy, 0, result)
    return [copy]
