"""What nothing reads goes.

1. An operator of the standard domain whose results nothing reads, and then what only it read. Operators of other
   domains may have effects that the graph does not show.
2. Functions of the model that no operator calls.
3. Initializers that nothing reads. One that a caller may override is an input of the graph, and stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.analysis.stored import nbytes_of
from folding.cleaning.work import is_standard
from folding.editing import functions, rewiring, surgery
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import bodies

if TYPE_CHECKING:
    from folding.cleaning.work import Work
    from folding.graph.index import Scope
    from folding.graph.node import Node


def operators(work: Work) -> list[str]:
    """Remove operators without readers, the last ones first; return their labels."""
    found: list[str] = []
    waiting = list(work.graph.nodes())
    while waiting:
        node = waiting.pop()
        if node.removed or not _is_dead(node, work):
            continue
        makers = [maker for name in node.inputs if name and (maker := work.maker(node.scope, name)) is not None]
        found.append(node.label)
        inside = _inside(work, node)
        surgery.remove(node)
        if inside:
            makers += [m for scope in inside for name in scope.uses if (m := work.maker(scope, name)) is not None]
            rewiring.drop_bodies(node)
        waiting += makers
        work.look_at(makers)
        work.look_at(
            edge.node for maker in makers for name in maker.outputs for edge in rewiring.edges(maker.scope, name)
        )
    return found


def _inside(work: Work, node: Node) -> list[Scope]:
    """The nested graphs of an operator, those inside them included."""
    found: list[Scope] = []
    if not bodies(node.proto):
        return found
    for scope in work.graph.scopes:
        if scope.holder is node or scope.parent in found:
            found.append(scope)
    return found


def _is_dead(node: Node, work: Work) -> bool:
    if any(name and (rewiring.is_read(node.scope, name) or name in node.scope.annotated) for name in node.outputs):
        return False
    if not is_standard(node) or work.stays(node):
        return False
    return all(is_standard(inner) for scope in _inside(work, node) for inner in scope.nodes if not inner.removed)


def uncalled(work: Work) -> list[str]:
    """Remove functions without calls; return their names."""
    return functions.drop_uncalled(work.graph)


def initializers(work: Work) -> list[str]:
    """Remove initializers without readers; return their names."""
    return [name for scope in work.graph.scopes for name in _unread(scope, work)]


def _unread(scope: Scope, work: Work) -> list[str]:
    stored = [*scope.initializers, *scope.sparse, *scope.weights]
    gone = [name for name in dict.fromkeys(stored) if _is_unread(scope, name)]
    for name in gone:
        work.added -= nbytes_of(scope, name) or 0
        rewiring.drop_initializer(scope, name)
    return gone


def _is_unread(scope: Scope, name: str) -> bool:
    if name in scope.dropped and name not in scope.weights:
        return False
    if name in scope.inputs and (scope.parent is not None or scope.graph.model.ir_version >= FIRST_IR_WITH_DEFAULTS):
        return False
    return not rewiring.is_read(scope, name) and rewiring.can_vanish(scope, name)
