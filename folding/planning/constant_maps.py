"""Replace a BatchNormalization of a constant by the constant that it computes: a standardized weight, for example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.analysis import constants
from folding.editing.surgery import remove
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.sites import NORMALIZATION, read_outputs
from folding.planning.makers import require_makers
from folding.refusal import Refused, require

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.graph.node import Node
    from folding.options import Options

CONSTANT_LIMIT = 1 << 22  # elements of a constant that is written out (16 MiB of float32)


def evaluate(nodes: Iterable[Node], options: Options) -> list[Node]:
    """Replace the normalizations of constants among these operators; return those that are gone."""
    return [node for node in nodes if node.op == NORMALIZATION and not node.removed and _evaluated(node, options)]


def _evaluated(node: Node, options: Options) -> bool:
    scope, name = node.scope, node.output
    if name in scope.outputs | scope.shadowing | scope.pinned | scope.annotated:
        return False
    if scope.graph.model.ir_version < FIRST_IR_WITH_DEFAULTS and scope.parent is not None:
        return False  # a body gains no initializers
    try:
        require_makers(options, node, range(len(node.inputs)))
        require(not read_outputs(node), "extra-outputs", "its statistics are read")
        found = constants.weight(scope, name)
        require(found.size <= CONSTANT_LIMIT, "too-large", f"a constant of {found.size:,} elements would be written")
    except Refused:
        return False
    remove(node)
    scope.weights[name] = found.absorbing(node.key, None)
    scope.dropped.discard(name)
    return True
