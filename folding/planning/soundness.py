"""What every move must keep: one part per operator, a smaller graph, no large copy for nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from folding.graph.sites import NORMALIZATION, value_type
from folding.planning.copies import require_small
from folding.planning.makers import require_makers, require_operators
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.graph.index import Scope
    from folding.graph.node import Node
    from folding.graph.sites import Site
    from folding.options import Options
    from folding.planning.plan import Move


def require_sound(options: Options, site: Site, move: Move) -> None:
    """Require that each operator has one part in the move, and that the move makes the graph smaller.

    Removing a BatchNormalization may add one cheaper operator, because no fold adds a BatchNormalization.
    So (normalizations, operators) decreases with every commit, and planning ends.
    """
    parts = [*(edit.node for edit in move.edits if not edit.passed), *move.path, *move.removed]
    for node in move.removed:
        require_makers(options, node, range(len(node.inputs)))
    for edit in move.edits:
        changed = edit.constants if edit.become is None else range(len(edit.node.inputs))
        require_makers(options, edit.node, changed)
        if edit.become is not None or edit.leftover is not None:
            require_operators(site.node.scope.graph)
            require(value_type(edit.node), "unknown-type", "the type of the value is unknown", edit.node.label)
    if twice := repeated(parts):
        raise Refused("reconvergent", "two ways of the move meet here", twice.label)
    gain = len(move.removed) - move.added
    gone = [*move.removed, *(edit.node for edit in move.edits if edit.become is not None)]
    normalizes = any(node.op == NORMALIZATION for node in gone)
    gains = gain > 0 or (gain == 0 and normalizes)
    if not gains:
        full = next((edit.node for edit in move.edits if edit.leftover is not None), site.node)
        why = "it gains nothing" if full is site.node else f"{full.op} has no place for it"
        raise Refused("no-gain", f"{why}: as many operators would be left as there are", full.label)
    require_small(move, normalizes=normalizes)


def repeated(nodes: Iterable[Node]) -> Node | None:
    """The first operator that is there more than once."""
    given = list(nodes)
    if len(set(given)) == len(given):
        return None
    return next(node for node, times in Counter(given).items() if times > 1)


def require_unobserved(scope: Scope, name: str, node: Node) -> None:
    """Require that nothing outside the move can see the value, so that it may change."""
    if not (scope.is_seen(name) or name in scope.shadowing or name in scope.annotated):
        return
    require(name not in scope.outputs, "graph-output", f"{name!r} is an output of the graph", node.label)
    require(name not in scope.shadowing, "captured", f"{name!r} means two values in nested graphs", node.label)
    require(name not in scope.captured, "captured", f"a nested graph reads {name!r}", node.label)
    require(name not in scope.pinned, "captured", f"training information reads {name!r}", node.label)
    require(name not in scope.annotated, "annotated", f"{name!r} has a quantization annotation", node.label)
