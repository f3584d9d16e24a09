"""The operator set in which a target runs most of a model: operators that it takes, then idioms as one operator."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from folding.graph.schemas import newest_opset
from folding.readiness.idioms import first_opsets

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.graph.index import Graph
    from folding.targets.model import Target


LEAST = 13  # a model of a newer set does not go below it for a gain: from here on operators mean what they mean today


def best_opset(graph: Graph, target: Target, keeps: Callable[[str], bool] = lambda _: False) -> int:
    """The operator set to convert a model to, its own if that is as good as any. Shapes must have been inferred.

    Fewest operators that the target has in another operator set only, then fewest idioms written out although the
    target has an operator for them, then nearest. Operators whose label `keeps` accepts stay as they are.
    """
    used = Counter(node.op for node in graph.nodes() if node.op in target.operators)
    wanted = first_opsets(graph, target, keeps)

    def cost(opset: int) -> tuple[int, int, int]:
        missing = sum(number for op, number in used.items() if target.operators[op].span(opset) is None)
        return missing, sum(first > opset for first in wanted), abs(opset - graph.opset)

    lowest, highest = target.opset
    lowest = max(lowest, min(graph.opset, LEAST))
    return min(range(lowest, min(highest, newest_opset()) + 1), key=cost)
