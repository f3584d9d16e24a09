"""What is there twice is computed, or stored, once.

1. Operators of a scope with the same type, attributes and inputs, the inputs being equal themselves. Not random ones,
   not those with nested graphs, not those of other domains, not QuantizeLinear and DequantizeLinear, which runtimes
   want one of for each reader. Names of outputs stay.
2. An idiom is merged with an equal one as a whole, or not at all: with another reader inside it would be none.
3. Initializers of a scope with the same values. Those in the file are compared by where they are, then by samples, and
   only if these agree block by block: a weight is never loaded.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from folding.analysis import constants
from folding.analysis.stored import stored
from folding.cleaning.work import RANDOM, is_standard
from folding.editing import rewiring
from folding.graph.node import bodies
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from folding.analysis.stored import Stored
    from folding.cleaning.work import Work
    from folding.graph.index import Scope
    from folding.graph.node import Node

COMMUTING = frozenset({"Add", "And", "Equal", "Mul", "Or", "Xor"})  # bit for bit, unless both operands are NaN
BROADCASTS = 7  # opset since which the operands of these are alike
APART = RANDOM | constants.QUANTIZATION | {"Dropout"}
OTHER_TYPES = ("Optional", "Sequence", "SplitToSequence")  # how operators begin that make no tensors


def operators(work: Work) -> list[str]:
    """Merge equal operators; return the labels of those that are gone."""
    return [label for scope in work.graph.scopes for label in _operators(scope, work)]


def _operators(scope: Scope, work: Work) -> Iterator[str]:
    same: dict[str, str] = {}  # for a value, the first one that equals it
    groups: dict[Hashable, list[Node]] = defaultdict(list)
    for node in scope.nodes:
        if node.removed or not _is_comparable(node):
            continue
        group = groups[_signature(node, same)]
        group.append(node)
        if len(group) > 1:
            same.update(zip(node.outputs, group[0].outputs, strict=True))
    for group in [group for group in groups.values() if len(group) > 1]:
        parts: dict[str, Node] = {}
        for node in group:
            first = parts.setdefault(_end(node, work, same), node)
            if first is not node and not work.stays(node) and _merge(node, first, work):
                yield node.label


def _is_comparable(node: Node) -> bool:
    if not is_standard(node) or node.op in APART or node.op.startswith(OTHER_TYPES):
        return False
    return not bodies(node.proto) and node.op != "Constant"


def _signature(node: Node, same: dict[str, str]) -> Hashable:
    inputs = [same.get(name, name) for name in node.inputs]
    if node.op in COMMUTING and node.scope.graph.opset >= BROADCASTS:
        inputs.sort()
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.proto.attribute)
    return node.op, tuple(inputs), tuple(map(bool, node.outputs)), tuple(attributes)


def _end(node: Node, work: Work, same: dict[str, str]) -> str:
    """The result of the idiom that an operator is part of, by the first value that equals it; "" if it is of none.

    An idiom of which an operator has to stay is merged with no other one.
    """
    occurrence = work.idioms.get(node)
    if occurrence is None:
        return ""
    last = occurrence.beta or occurrence.gamma or occurrence.last
    has_to_stay = any(work.stays(one) for one in occurrence.nodes) or not rewiring.can_vanish(node.scope, last.output)
    return last.output if has_to_stay else same.get(last.output, last.output)


def _merge(node: Node, first: Node, work: Work) -> bool:
    if len([name for name in node.outputs if name]) == 1:
        return bool(node.output) and work.bypass(node, first.output)
    scope = node.scope
    if not all(rewiring.can_vanish(scope, name) for name in node.outputs if name):
        return False
    readers = [edge.node for name in node.outputs if name for edge in rewiring.edges(scope, name)]
    if not rewiring.merge(node, first):
        return False
    work.look_at(readers)
    return True


# --- initializers --------------------------------------------------------------------------------------------------


def initializers(work: Work) -> list[str]:
    """Merge equal initializers; return the names of those that are gone."""
    return [name for scope in work.graph.scopes for name in _initializers(scope, work)]


def _initializers(scope: Scope, work: Work) -> Iterator[str]:
    known: dict[Hashable, tuple[str, Stored]] = {}
    for name in [name for name in dict.fromkeys((*scope.initializers, *scope.weights)) if _is_free(scope, name)]:
        try:
            found = stored(scope, name)
        except Refused:  # strings, or a type that NumPy does not know
            continue
        first, twin = known.setdefault(found.key(), (name, found))
        if first == name or not (rewiring.can_vanish(scope, name) and found.equals(twin)):
            continue
        if rewiring.can_reach(scope, name, first):
            readers = [edge.node for edge in rewiring.edges(scope, name)]
            rewiring.redirect(scope, name, first)
            rewiring.drop_initializer(scope, name)
            work.added -= found.nbytes
            work.look_at(readers)
            yield name


def _is_free(scope: Scope, name: str) -> bool:
    gone = name in scope.dropped and name not in scope.weights
    return not gone and name not in scope.inputs and name not in scope.pinned and name not in scope.annotated
