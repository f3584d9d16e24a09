"""An If whose condition is a constant gives way to the branch that it takes.

Exporters write one for every squeeze of an axis whose length they did not know; known shapes settle the condition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.editing import inlining

if TYPE_CHECKING:
    from folding.cleaning.work import Work
    from folding.graph.node import Node


def take(node: Node, work: Work) -> bool:
    """Replace an If with a constant condition by the operators of its branch."""
    if not node.is_constant(0) or any(work.stays(inner) for inner in _inner(node, work)):
        return False
    condition = node.array(0)
    if condition.size != 1:
        return False
    moved = inlining.inline_branch(node, "then_branch" if condition.all() else "else_branch")
    for one in moved or ():
        work.look_around(one)
    return moved is not None


def _inner(node: Node, work: Work) -> list[Node]:
    scopes = [scope for scope in work.graph.scopes if scope.holder is node]
    return [inner for scope in scopes for inner in scope.nodes if not inner.removed]
