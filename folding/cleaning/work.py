"""What every cleaning pass works with: the graph, what must stay, and which operators to look at again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from folding.editing import rewiring
from folding.graph import idioms
from folding.graph.node import STANDARD_DOMAINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from folding.algebra.shape import Shape
    from folding.analysis import sizes
    from folding.graph.index import Graph, Scope
    from folding.graph.node import Node
    from folding.graph.weights import Weight

# Operators whose result differs from run to run, even with the same inputs (ONNX operator specification).
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


class Work:
    """The state of one cleaning: `growth` is by how many bytes constants may still make the file larger.

    `waiting` are the operators to look at, each once, in order.
    """

    def __init__(self, graph: Graph, keeps: Callable[[str], bool], growth: int) -> None:
        self.graph, self.keeps, self.growth = graph, keeps, growth
        self.sizes: dict[tuple[int, str], sizes.Sizes | None] = {}  # see `sizes.of`
        self.added = 0  # bytes of constants that the change at hand adds
        self.held = sum(_in_memory(weight) for scope in graph.scopes for weight in scope.weights.values())
        self.idioms = idioms.find(graph)
        self._queue: deque[Node] = deque()
        self._queued: set[Node] = set()
        self.look_at(graph.nodes())

    def look_at(self, nodes: Iterable[Node]) -> None:
        """Look at these operators again."""
        for node in nodes:
            if node not in self._queued and not node.removed:
                self._queued.add(node)
                self._queue.append(node)

    def next(self) -> Node | None:
        """The next operator to look at; None if there is none."""
        while self._queue:
            node = self._queue.popleft()
            self._queued.discard(node)
            if not node.removed:
                return node
        return None

    def find_idioms(self) -> None:
        """Find the idioms again, of which a change may have made more."""
        self.idioms = idioms.find(self.graph)

    def stays(self, node: Node) -> bool:
        """Whether an option keeps an operator as it is."""
        return self.keeps(node.label)

    # --- changes ---------------------------------------------------------------------------------------------------

    def bypass(self, node: Node, value: str) -> bool:
        """Remove an operator whose first output equals `value`, see `rewiring.bypass`."""
        scope = node.scope
        maker = self.maker(scope, value)
        readers = [edge.node for edge in rewiring.edges(scope, node.output)]
        if maker is not None and node.output in scope.outputs and self.stays(maker):
            return False
        if not rewiring.bypass(node, value):
            return False
        owner = scope.owner(value) or scope.owner(node.output)
        beside = rewiring.edges(owner, value) if owner is not None and len(readers) == 1 else []
        self.look_at([*([maker] if maker is not None else []), *readers, *(edge.node for edge in beside)])
        return True

    def look_around(self, node: Node) -> None:
        """Look again at an operator, at what it reads and at what reads it."""
        makers = (self.maker(node.scope, name) for name in node.inputs if name)
        readers = (edge.node for name in node.outputs if name for edge in rewiring.edges(node.scope, name))
        self.look_at([node, *(maker for maker in makers if maker is not None), *readers])

    # --- questions -------------------------------------------------------------------------------------------------

    def maker(self, scope: Scope, name: str) -> Node | None:
        """The operator that makes a value, here or in a graph around; None if none does."""
        owner = scope.owner(name)
        return None if owner is None else owner.producers.get(name)

    def only_reads(self, scope: Scope, name: str) -> bool:
        """Whether a value has one reader in this scope, and may vanish with it."""
        return len(scope.uses.get(name, ())) == 1 and scope.owner(name) is scope and self.is_inner(scope, name)

    def is_inner(self, scope: Scope, name: str) -> bool:
        """Whether nothing but operators of this very scope reads a value."""
        return name not in scope.captured and rewiring.can_vanish(scope, name)


def _in_memory(weight: Weight) -> int:
    """The bytes of memory that a constant takes until it is written; one that lies in the file takes none."""
    return weight.base.nbytes if isinstance(weight.base, np.ndarray) and weight.is_exact else 0


def is_standard(node: Node) -> bool:
    """Whether an operator is one of ONNX's own, which has no effects but its result."""
    return node.proto.domain in STANDARD_DOMAINS and "::" not in node.op


def settled(shape: Shape | None) -> tuple[int, ...] | None:
    """A shape whose lengths are all numbers; None for any other."""
    if shape is None:
        return None
    known = tuple(n for n in shape if isinstance(n, int))
    return known if len(known) == len(shape) else None


def shape_of(scope: Scope, name: str) -> Shape | None:
    """The shape of a value as inference found it, or as its constant has it; None if its rank is unknown."""
    owner = scope.owner(name)
    if owner is None or name in owner.shadowing:
        return None
    if name in owner.weights:
        return owner.weights[name].shape
    return owner.shapes.get(name)


def same_shape(scope: Scope, one: str, other: str) -> bool:
    """Whether two values certainly have the same shape: equal numbers, or equal names of open lengths."""
    first, second = shape_of(scope, one), shape_of(scope, other)
    return first is not None and first == second and None not in first


def permutation(node: Node) -> list[int] | None:
    """The axes of a Transpose in their new order; None if they are unknown."""
    perm, shape = node.attribute("perm"), shape_of(node.scope, node.inputs[0])
    if perm is None:
        return None if shape is None else list(range(len(shape)))[::-1]
    return list(perm) if shape is None or sorted(perm) == list(range(len(shape))) else None


def moves_nothing(node: Node) -> bool:
    """Whether a Transpose leaves the elements in their order, since it moves axes of length 1 alone: a Reshape."""
    perm, shape = permutation(node), shape_of(node.scope, node.inputs[0])
    if perm is None:
        return False
    moved = [axis for axis in perm if shape is None or shape[axis] != 1]
    return moved == sorted(moved)
