"""What a move requires of other operators: those that only make a constant, and the Mul and Add that it would add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.graph.sites import MULTIDIRECTIONAL
from folding.refusal import require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.graph.index import Graph
    from folding.graph.node import Node
    from folding.options import Options


def require_makers(options: Options, node: Node, indices: Iterable[int]) -> None:
    """Require that no option keeps an operator that would go with the constants of these inputs.

    Raises:
        Refused: "kept-by-option", at the operator that is kept.
    """
    if not options.keep:
        return
    waiting = [node.inputs[index] for index in indices if node.is_constant(index)]
    while waiting:
        name = waiting.pop()
        owner = node.scope.owner(name)
        maker = None if owner is None else owner.producers.get(name)
        if owner is None or maker is None or len(owner.uses.get(name, ())) > 1:
            continue  # it is no operator's, or another one still reads it
        require(not options.keeps(maker.label), "kept-by-option", f"an option keeps what makes {name!r}", maker.label)
        waiting += [source for source in maker.inputs if source]


def require_operators(graph: Graph) -> None:
    """Require that Mul and Add have their standard meaning, including broadcasting."""
    require(graph.opset >= MULTIDIRECTIONAL, "old-opset", "Mul and Add broadcast by attributes before opset 7")
    require(not graph.overridden & {"Add", "Mul"}, "custom-domain", "a function gives Add or Mul another meaning")
