"""Shape arithmetic that known lengths settle: Shape, Gather, Concat and the like, and the Reshapes that read it.

1. A list of sizes that are all known becomes a constant, also where the shape that they come from is open elsewhere:
   ``Gather(Shape(x), 1)`` is the number of channels, whatever the batch is.
2. The target of a Reshape becomes a constant if at most one of its sizes is open: that is -1. An open length of the
   input of the model that stays where it is, is 0. (With such a 0 beside it, -1 is not defined for an empty batch.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from folding.analysis import sizes
from folding.cleaning.constant import may_be_stored
from folding.cleaning.work import shape_of
from folding.editing import rewiring, surgery
from folding.graph.weights import Weight

if TYPE_CHECKING:
    from folding.algebra.shape import Shape
    from folding.analysis.sizes import Sizes
    from folding.cleaning.work import Work
    from folding.graph.node import Node

INTEGERS = frozenset({np.dtype(np.int32), np.dtype(np.int64)})
OPERATORS = sizes.OPERATORS.keys() | {"Shape"}
COMPUTED_SINCE = 5  # opset: before it the target of Reshape is an attribute
ALLOWS_ZERO = 14  # opset
COPY, REST = 0, -1  # in the target of a Reshape: the length of the input there, and what is left


def evaluate(node: Node, work: Work) -> bool:
    """Replace an operator whose result are known sizes by them, case 1."""
    scope, dtype = node.scope, node.scope.dtype(node.output)
    if dtype not in INTEGERS or not may_be_stored(scope, node.output) or len(node.outputs) != 1:
        return False
    found = sizes.of(scope, node.output, work.sizes)
    if found is None or not all(isinstance(size, int) for size in found.reshape(-1)):
        return False
    readers = [edge.node for edge in rewiring.edges(scope, node.output)]
    rewiring.become_constants(node, [found.astype(dtype)])
    work.look_at(readers)
    return True


def settle_target(node: Node, work: Work) -> bool:
    """Let a Reshape read a constant instead of sizes that are computed, case 2."""
    if node.version < COMPUTED_SINCE or not node.has(1) or node.is_constant(1) or keeps_zeros(node):
        return False
    found, source = sizes.of(node.scope, node.inputs[1], work.sizes), shape_of(node.scope, node.inputs[0])
    target = None if found is None or found.ndim != 1 else target_of(found, source or ())
    if target is None:
        return False
    maker = work.maker(node.scope, node.inputs[1])
    set_target(node, target)
    work.look_at([maker] if maker is not None else [])
    return True


def keeps_zeros(node: Node) -> bool:
    """Whether 0 in the target of a Reshape is a length of 0."""
    return node.version >= ALLOWS_ZERO and bool(node.attribute("allowzero"))


def target_of(found: Sizes, source: Shape) -> list[int] | None:
    """The constant target for sizes that may be open; None if there is none."""
    copied = [*source, *(None,) * len(found)]
    open_sizes = [i for i, size in enumerate(found) if not isinstance(size, int)]
    staying = {i for i in open_sizes if found[i] is not None and found[i] == copied[i]}
    target = [size if isinstance(size, int) else COPY if i in staying else REST for i, size in enumerate(found)]
    return target if target.count(REST) <= 1 else None


def set_target(node: Node, target: list[int]) -> None:
    """Let a Reshape read this target, in which 0 copies."""
    if node.attribute_proto("allowzero") is not None:
        surgery.drop_attributes(node, {"allowzero"})
    surgery.set_constant(node, 1, Weight.exactly(np.array(target, np.int64)), "")
