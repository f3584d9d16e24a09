"""The operator set from which on operators take a 16-bit type, where the model's own does not have that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.graph import schemas
from folding.precision.groups import CARRYING
from folding.precision.kinds import FLOAT32, KINDS

if TYPE_CHECKING:
    from folding.graph.index import Graph
    from folding.precision.kinds import Precision

HIGHEST = 22  # from here on bfloat16 is in convolutions, pools and recurrent operators, and runtimes know it


def wanted_opset(graph: Graph, precision: Precision, highest: int = HIGHEST) -> int:
    """The lowest operator set, at least the model's, in which as many of its operators as possible take the type.

    Not above `highest`. Only operators that read or make float32 count.
    """
    kind, own = KINDS[precision], graph.opset
    missing: dict[str, int] = {}
    for node in graph.nodes():
        if node.op in missing or node.op in CARRYING or "::" in node.op or node.scope.prefix:
            continue
        if any(name and node.scope.dtype(name) == FLOAT32 for name in (*node.inputs, *node.outputs)):
            missing[node.op] = schemas.first_opset_with(node.op, kind.tensor, own, highest)
    return max(missing.values(), default=own)
