"""Restrictions of operators that hold graphs: what a runtime that plans all shapes ahead asks of If and Loop."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from typing import Any

    from folding.algebra.shape import Shape
    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node

CONDITION_AND_COUNT = 2  # inputs of Loop, and of its body, before the carried values
# By the identity of a body's message: the number of its scope. A scope keeps its message alive.
_places: WeakKeyDictionary[Graph, dict[int, int]] = WeakKeyDictionary()


def same_rank_branches(node: Node) -> str | None:
    """The results of both branches of an If have the same rank, as far as that is known, and different names."""
    branches = [_body(node, name) for name in ("then_branch", "else_branch")]
    if None in branches:
        return None
    scopes = [scope for scope in branches if scope is not None]
    for one, other in zip(*(scope.proto.output for scope in scopes), strict=False):
        if one.name == other.name:
            return f"both branches name a result {one.name!r}"
        shapes = [_shape(scope, value.name) for scope, value in zip(scopes, (one, other), strict=True)]
        ranks = [len(shape) for shape in shapes if shape is not None]
        if len(set(ranks)) > 1:
            return f"{one.name!r} has rank {ranks[0]}, {other.name!r} of the other branch rank {ranks[1]}"
    return None


def fixed_loop(node: Node) -> str | None:
    """What a Loop carries keeps its shape; if it collects results, the number of rounds is known."""
    body = _body(node, "body")
    if body is None:
        return None
    carried = node.inputs[CONDITION_AND_COUNT:]
    for before, after in zip(carried, list(body.proto.output)[1:], strict=False):
        shapes = _shape(node.scope, before), _shape(body, after.name)
        if _differ(*shapes):
            return (
                f"{before!r} is carried with the shape {_written(shapes[0])}, and {_written(shapes[1])} after a round"
            )
    collected = len(body.proto.output) - 1 - len(carried)
    if collected > 0 and not (node.is_constant(0) and _never_ends_early(node, body)):
        return "it collects results of a number of rounds that is known at run time alone"
    return None


def _never_ends_early(node: Node, body: Scope) -> bool:
    """Whether the condition of a Loop is the constant true, or handed on from round to round."""
    name = body.proto.output[0].name
    while (maker := body.producers.get(name)) is not None and maker.op == "Identity":
        name = maker.inputs[0]
    if name == body.proto.input[1].name:
        return not node.has(1) or _is_true(node.scope, node.inputs[1])
    return _is_true(body, name)


def _is_true(scope: Scope, name: str) -> bool:
    return scope.values.is_constant(scope, name) and bool(scope.values.array(scope, name).all())


def _body(node: Node, attribute: str) -> Scope | None:
    """The scope of a graph that an operator holds; None if there is none."""
    proto: Any = node.attribute_proto(attribute)
    graph = node.scope.graph
    if proto is None:
        return None
    if graph not in _places:
        _places[graph] = {id(scope.proto): scope.index for scope in graph.scopes}
    place = _places[graph].get(id(proto.g))
    return None if place is None else graph.scopes[place]


def _shape(scope: Scope, name: str) -> Shape | None:
    return scope.values.shape(scope, name)


def _differ(one: Shape | None, other: Shape | None) -> bool:
    """Whether two shapes cannot be the same: another rank, or another known length."""
    if one is None or other is None:
        return False
    pairs = zip(one, other, strict=False)
    return len(one) != len(other) or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs)


def _written(shape: Shape | None) -> str:
    return "x".join("?" if length is None else str(length) for length in shape or ()) or "of a scalar"
